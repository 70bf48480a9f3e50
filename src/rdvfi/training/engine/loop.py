"""The engine: one loop for every stage, from one CPU to many GPUs.

A stage gives an `Objective`, a module whose ``forward`` turns a batch into named losses, and a
`Feed` of batches; `Trainer` does the rest. Weights and their updates are float32; the forward
pass may run in bfloat16. accelerate finds the device and joins processes (start them with
``accelerate launch`` or ``torchrun``). Mixed precision, accumulation and checkpoints are our own:
accelerate's settings belong to the process and could not change from stage to stage, and its
checkpoints are neither atomic nor free of pickle (see `rdvfi.training.engine.checkpoints`).

**Resuming is exact.** Batches are found by their number, random numbers by the step
(`rdvfi.training.objectives.moment`), and a checkpoint holds weights, averages and the optimiser's state bit
for bit, so on a CPU a run that was stopped and goes on equals one that never stopped. CUDA adds in
an order of its own, and agrees to rounding.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from rdvfi._torchvision import import_torchvision
from rdvfi.media.images import write_png
from rdvfi.training.engine.averaging import Averages
from rdvfi.training.engine.checkpoints import Checkpoints, State, check_names
from rdvfi.training.engine.layout import placed, running_buffers, whole
from rdvfi.training.engine.log import Log
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.engine.slim import load_slim, save_slim
from rdvfi.training.objectives.base import Batch, Feed, Losses, Objective
from rdvfi.training.objectives.moment import Moment

Report = Callable[[str], None]

REWARM = 200
"""Steps over which the learning rate rises again after a start without the optimiser's moments."""


class Trainer:
    """One stage of training.

    Args:
        name: Names the checkpoints and the log.
        objective: What is trained. It is moved to the device.
        feed: Its batches.
        config: How to train.
        folder: Where checkpoints, log and sheets go.
        report: Receives progress lines.
        wrap: Replaces the default wrapping of the objective for many processes, for example by
            `rdvfi.training.engine.sharding.shard`.

    Raises:
        ValueError: If the configuration makes no sense, or nothing can be trained.
    """

    def __init__(
        self,
        name: str,
        objective: Objective,
        feed: Feed,
        config: EngineConfig,
        folder: Path,
        *,
        report: Report,
        wrap: Callable[[Objective], nn.Module] | None = None,
    ) -> None:
        config.check()
        self.name, self.objective, self.feed = name, objective, feed
        self.config, self.folder, self._report_to = config, folder, report
        ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        self.accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision="no", kwargs_handlers=[ddp])
        self.device = self.accelerator.device
        self._sharded = wrap is not None  # then nothing but forward may be called: no sheets
        if wrap is None:
            self._model = self.accelerator.prepare_model(objective)
        else:
            self._model = wrap(objective.to(self.device))
        # After wrapping: sharding puts other parameters in the place of those that were there.
        self.parameters = {n: p for n, p in objective.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError(f"{name}: nothing to train, every parameter is frozen")
        self._buffers = running_buffers(objective)
        self._forward: Callable[..., Losses] = torch.compile(self._model) if config.compile else self._model
        self._optimiser, self._schedule = _optimiser(config, self.parameters)
        self._averages = Averages(self.parameters, config.average)
        self._checkpoints = Checkpoints(folder / "checkpoints", name, config.keep)
        self._rewarmed_from: int | None = None
        self._shown: Batch | None = None

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.accelerator.is_main_process

    def fit(self, *, slim: Path | None = None) -> bool:
        """Train to the end or to the time limit; the averaged weights are left in the objective.

        Args:
            slim: A slim checkpoint to start from where the folder has no checkpoint of its own.

        Returns:
            Whether all steps were done.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite; checkpoints are kept.
            ValueError: If the checkpoint is of another model.
            OSError: If a checkpoint cannot be written; earlier ones are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        start = self._start(slim)
        log = Log(self.folder, self.name, start, tensorboard=self.config.tensorboard) if self.main else None
        try:
            step = self._run(start, log)
        finally:
            if log is not None:
                log.close()
        self._averages.copy_to_parameters()
        return step >= self.config.steps

    def _start(self, slim: Path | None) -> int:
        state = self._checkpoints.newest(self._report)
        if state is not None:
            where = f"the checkpoint of step {state.step} in {self._checkpoints.folder}"
            self._restore(state, where)
            self._report(f"{self.name}: resumed at step {state.step}")
            return state.step
        if slim is not None:
            state = load_slim(slim)
            self._restore(state, f"the slim checkpoint {slim}")
            self._rewarmed_from = state.step
            self._report(f"{self.name}: goes on from the slim checkpoint of step {state.step}")
            return state.step
        return 0

    def _run(self, start: int, log: Log | None) -> int:
        config, began = self.config, time.monotonic()
        means, done = _Means(), start
        stream = self._stream(start) if start < config.steps else iter(())
        for step in range(start, config.steps):
            if self._out_of_time(began):
                break
            losses, norm = self._update(step, stream)
            means.add({**losses, "gradient": norm})
            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                seconds = time.monotonic() - began
                values = self._all_means(means.take())
                rate = self._optimiser.param_groups[0]["lr"]
                if log is not None:
                    log.write(done, {"seconds": seconds, "rate": rate, **values})
                shown = " ".join(f"{key} {value:.4f}" for key, value in values.items())
                pace = seconds / (done - start)
                self._report(f"{self.name} {done}/{config.steps} {shown} ({pace:.2f} s/step)")
            if config.sheet_every and done % config.sheet_every == 0 and not self._sharded:
                self._sheet(done, log)
            if done % config.save_every == 0 and done < config.steps:
                self._save(done)
        if done > start:
            self._save(done, slim=config.slim)
        return done

    def _stream(self, start: int) -> Iterator[Batch]:
        """This process's batches: all processes together take them in turn."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return self.feed.batches(start * self.config.accumulate * world + rank, world)

    def _update(self, step: int, stream: Iterator[Batch]) -> tuple[dict[str, float], float]:
        """One optimiser step; returns the losses and the norm of the gradient."""
        config = self.config
        self._set_rate(step)
        self._optimiser.zero_grad(set_to_none=True)
        means = _Means()
        for part in range(config.accumulate):
            moment = self._moment(step, part)
            moment.seed_torch()
            batch = self._next(stream)
            last = part == config.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self._model):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
                    losses = self._forward(batch, moment)
                total = torch.stack([value.float() for value in losses.values()]).sum()
                (total / config.accumulate).backward()
            means.add({key: value.detach() for key, value in losses.items()})
        norm = float(whole(self._clip()))
        values = {key: float(value) for key, value in means.take().items()}
        if not math.isfinite(norm):  # the norm is of all processes' gradients, so all see it
            raise FloatingPointError(self._not_finite(step, values, norm))
        self._optimiser.step()
        self._averages.update(step)
        return values, norm

    def _clip(self) -> Tensor:
        parameters = [p for p in self.parameters.values() if p.grad is not None]
        if not parameters:
            raise ValueError(f"{self.name}: no loss depends on what is trained")
        return nn.utils.clip_grad_norm_(parameters, self.config.clip)

    def _not_finite(self, step: int, values: dict[str, float], norm: float) -> str:
        broken = [f"{key} is {value}" for key, value in values.items() if not math.isfinite(value)]
        what = f"loss {', '.join(broken)}" if broken else f"the gradient's norm is {norm}"
        kept = self._checkpoints.paths()
        last = f"the last good checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"
        return f"{self.name}: {what} at step {step}; {last}"

    def _moment(self, step: int, part: int = 0) -> Moment:
        config, accelerator = self.config, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        return Moment(step, config.steps, config.seed, part, rank, world, self.device)

    def _next(self, stream: Iterator[Batch]) -> Batch:
        batch = next(stream)
        return {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def _set_rate(self, step: int) -> None:
        self._schedule(step)
        if self._rewarmed_from is not None:
            share = min(1.0, (step - self._rewarmed_from + 1) / REWARM)
            for group in self._optimiser.param_groups:
                group["lr"] = share * group["lr"]

    def _out_of_time(self, began: float) -> bool:
        limit = self.config.max_minutes
        if limit is None:
            return False
        late = torch.tensor(float(time.monotonic() - began > 60.0 * limit), device=self.device)
        return float(self.accelerator.reduce(late, "sum")) > 0  # pyright: ignore[reportArgumentType]

    def _all_means(self, values: dict[str, Any]) -> dict[str, float]:
        if self.accelerator.num_processes == 1:
            return values
        row = torch.tensor(list(values.values()), device=self.device)
        mean: Any = self.accelerator.reduce(row, "mean")
        return dict(zip(values, mean.tolist(), strict=True))

    @torch.no_grad()
    def _sheet(self, step: int, log: Log | None) -> None:
        if self._shown is None:  # always the same batch, so that sheets can be compared
            self._shown = self._next(self._stream(0))
        picture = self.objective.pictures(self._shown, self._moment(0)) if log else None
        if picture is not None and log is not None:
            folder = self.folder / "sheets"
            folder.mkdir(exist_ok=True)
            write_png(folder / f"{self.name}-{step:09d}.png", picture)
            log.picture(step, picture)

    def _save(self, step: int, *, slim: bool = False) -> None:
        state = self._state(step)
        if self.main:
            self._checkpoints.write(state)
            if slim:
                save_slim(self.folder / f"{self.name}.slim", state)
        self.accelerator.wait_for_everyone()

    def _state(self, step: int) -> State:
        moments: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            for key, value in self._optimiser.state[parameter].items():
                if isinstance(value, Tensor):
                    moments[f"{name}/{key}"] = whole(value)
                else:
                    numbers[f"{name}/{key}"] = value
        held = {**self.parameters, **self._buffers}
        return State(
            step,
            {name: whole(tensor) for name, tensor in held.items()},
            {name: whole(tensor) for name, tensor in self._averages.values.items()},
            moments,
            {"moments": numbers, "rewarmed_from": self._rewarmed_from},
        )

    @torch.no_grad()
    def _restore(self, state: State, where: str) -> None:
        held = {**self.parameters, **self._buffers}
        check_names(where, held, state.weights)
        for name, tensor in held.items():
            tensor.copy_(placed(state.weights[name], tensor))
        for name, average in self._averages.values.items():
            average.copy_(placed(state.averages[name], average))
        for key, value in state.moments.items():
            name, kind = key.rsplit("/", 1)
            parameter = self.parameters[name]
            self._optimiser.state[parameter][kind] = placed(value, parameter)
        for key, number in state.numbers.get("moments", {}).items():
            name, kind = key.rsplit("/", 1)
            self._optimiser.state[self.parameters[name]][kind] = number
        self._rewarmed_from = state.numbers.get("rewarmed_from")

    def _report(self, line: str) -> None:
        if self.main:
            self._report_to(line)


class _Means:
    """Means of named values, each over the times that it was there."""

    def __init__(self) -> None:
        self._values: dict[str, list[Any]] = {}

    def add(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            self._values.setdefault(key, []).append(value)

    def take(self) -> dict[str, Any]:
        means = {key: sum(found) / len(found) for key, found in self._values.items()}
        self._values = {}
        return means


def _optimiser(
    config: EngineConfig, parameters: dict[str, nn.Parameter]
) -> tuple[torch.optim.Optimizer, Callable[[int], None]]:
    """timm's optimiser, and the function that sets the learning rate of a step."""
    import_torchvision()
    from timm.optim._optim_factory import create_optimizer_v2
    from timm.scheduler.scheduler_factory import create_scheduler_v2

    optimiser = create_optimizer_v2(
        list(parameters.values()),
        opt=config.optimiser,
        lr=config.rate,
        weight_decay=config.weight_decay,
    )
    warmup = min(config.warmup, config.steps - 1)
    scheduler, _ = create_scheduler_v2(
        optimiser,
        sched=config.schedule,
        num_epochs=max(2, config.steps),  # timm warns of a schedule of one step
        warmup_epochs=warmup,
        warmup_lr=config.rate / (warmup + 1),
    )
    assert scheduler is not None
    return optimiser, scheduler.step
