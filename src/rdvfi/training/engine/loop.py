"""The training engine: one loop for every stage, from one CPU to many GPUs.

A stage gives an `Objective`, a module whose ``forward`` turns a batch into named losses, and a
`Feed` of batches; `Trainer` does the rest. Weights and their updates are float32; the forward
pass may run in bfloat16. accelerate finds the device and joins processes (start them with
``accelerate launch`` or ``torchrun``); timm makes optimiser, schedule and averages. Mixed precision,
accumulation and checkpoints are our own: accelerate's settings belong to the process and could not
change from stage to stage, and its checkpoints are neither atomic nor free of pickle (see
`rdvfi.training.engine.checkpoints`).

**Resuming is exact.** Batches are found by their number, random numbers by the step
(`rdvfi.training.objectives.training_step`), and a checkpoint holds weights, averages and the optimiser's state bit
for bit, so on a CPU a run that was stopped and goes on equals one that never stopped. CUDA adds in
an order of its own, and agrees to rounding.

**Nothing waits for the device in a step.** Losses and the gradient's norm stay tensors until they are
logged. A gradient that is not finite is noted on the device and raised at the next row of the log or
checkpoint, before anything of it is written.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rdvfi.media.image_files.images import write_png
from rdvfi.training.engine.bookkeeping import FirstBroken, Means, TimeLimit, agreed
from rdvfi.training.engine.checkpoints import Checkpoints, State, check_names, sole_run
from rdvfi.training.engine.log import Log
from rdvfi.training.engine.optimiser import make_averages, make_optimiser
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.engine.sharding import gather, placed, running_buffers, shard, whole
from rdvfi.training.objectives.objective import Batch, Feed, Losses, Objective, Report
from rdvfi.training.objectives.training_step import TrainingStep


class Trainer:
    """One stage of training.

    Args:
        name: Names the checkpoints and the log.
        objective: What is trained. It is moved to the device.
        feed: Its batches.
        config: How to train.
        folder: Where checkpoints, log and sheets go.
        report: Receives progress lines.
        shard_blocks: Share the weights out among all processes instead of copying them, these
            modules one at a time (`rdvfi.training.engine.sharding`).

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
        shard_blocks: Sequence[nn.Module] | None = None,
    ) -> None:
        config.check()
        self.name, self.objective, self.feed = name, objective, feed
        self.config, self.folder, self._report_to = config, folder, report
        ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        self.accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision="no", kwargs_handlers=[ddp])
        self.device = self.accelerator.device
        self._sharded = shard_blocks is not None  # then nothing but forward may be called: no sheets
        if shard_blocks is None:
            self._model = self.accelerator.prepare_model(objective)
        else:
            self._model = shard(objective.to(self.device), shard_blocks)
        # After wrapping: sharding puts other parameters in the place of those that were there.
        self.parameters = {n: p for n, p in objective.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError(f"{name}: nothing to train, every parameter is frozen")
        self._buffers = running_buffers(objective)
        self._forward: Callable[..., Losses] = torch.compile(self._model) if config.compile else self._model
        self._trained = nn.ParameterList(self.parameters.values())
        self._optimiser, self._schedule = make_optimiser(config, self._trained)
        self._averages = make_averages(self._trained, config.average)
        self._checkpoints = Checkpoints(folder / "checkpoints", name, config.keep)
        self._clock, self._broken = TimeLimit(config.max_minutes, self.accelerator), FirstBroken()
        self._shown: Batch | None = None

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.accelerator.is_main_process

    def fit(self) -> bool:
        """Train to the end or to a pause; the averaged weights are left in the objective.

        Returns:
            Whether it came to its end.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite; checkpoints are kept.
            ValueError: If the checkpoint is of another model, or another run trains into this folder.
            OSError: If a checkpoint cannot be written; earlier ones are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with sole_run(self.folder) if self.main else nullcontext():
            return self._fit()

    def _fit(self) -> bool:
        start = self._start()
        log = Log(self.folder, self.name, start, trackers=self.config.trackers) if self.main else None
        try:
            step = self._run(start, log)
        finally:
            if log is not None:
                log.close()
        self._use_averages()
        if self._sharded:
            gather(self.objective)
        return step >= self.config.steps or self._clock.share >= 1.0

    def _start(self) -> int:
        state = self._checkpoints.newest(self._report)
        if state is None:
            return 0
        self._restore(state, f"the checkpoint of step {state.step} in {self._checkpoints.folder}")
        self._report(f"{self.name}: resumed at step {state.step}")
        return state.step

    def _run(self, start: int, log: Log | None) -> int:
        config, began = self.config, time.monotonic()
        means, done = Means(), start
        stream = self._stream(start) if start < config.steps else iter(())
        for step in range(start, config.steps):
            if self._clock.advance() >= 1.0 or self._paused(began):
                break
            means.add(self._update(step, stream))
            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                self._write_row(done, means.take(), log, time.monotonic() - began, done - start)
            if config.sheet_every and done % config.sheet_every == 0 and not self._sharded:
                self._sheet(done, log)
            if done % config.save_every == 0 and done < config.steps:
                self._save(done)
        if done > start:
            self._save(done)
        return done

    def _write_row(self, step: int, values: dict[str, Tensor], log: Log | None, seconds: float, steps: int) -> None:
        self._check_finite()
        found = self._all_means(values)
        rate = self._optimiser.param_groups[0]["lr"]
        if log is not None:
            log.write(step, {"seconds": seconds, "rate": rate, **found})
        shown = " ".join(f"{key} {value:.4f}" for key, value in found.items())
        self._report(f"{self.name} {step}/{self.config.steps} {shown} ({seconds / steps:.2f} s/step)")

    def _stream(self, start: int) -> Iterator[Batch]:
        """This process's batches: all processes together take them in turn."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return self.feed.batches(start * self.config.accumulate * world + rank, world)

    def _update(self, step: int, stream: Iterator[Batch]) -> dict[str, Tensor]:
        """One optimiser step; returns the losses and the norm of the gradient, on the device."""
        config = self.config
        self._schedule(self._progress(step) * config.steps)
        self._optimiser.zero_grad(set_to_none=True)
        means = Means()
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
            means.add({key: value.detach().float() for key, value in losses.items()})
        values = {**means.take(), "gradient": self._clip()}
        self._broken.note(step, values)
        self._optimiser.step()
        self._averages.update(self._trained, step + 2)  # timm takes the second update for the first
        return values

    def _progress(self, step: int) -> float:
        """Share of training that is done: of the steps, or of the time where that is further."""
        return min(1.0, max(step / self.config.steps, self._clock.share))

    def _clip(self) -> Tensor:
        parameters = [p for p in self.parameters.values() if p.grad is not None]
        if not parameters:
            raise ValueError(f"{self.name}: no loss depends on what is trained")
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip, foreach=None)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _check_finite(self) -> None:
        """Raise an error for non-finite gradients noted in earlier steps, in all processes alike."""
        found = self._broken.found()
        if found is None:
            return
        step, names = found
        losses = [name for name in names if name != "gradient"]
        what = f"loss {', '.join(losses)} is not finite" if losses else "the gradient's norm is not finite"
        kept = self._checkpoints.paths()
        last = f"the last good checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"
        raise FloatingPointError(f"{self.name}: {what} at step {step}; {last}")

    def _moment(self, step: int, part: int = 0) -> TrainingStep:
        config, accelerator = self.config, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        return TrainingStep(step, config.steps, config.seed, part, rank, world, self.device, self._clock.share)

    def _next(self, stream: Iterator[Batch]) -> Batch:
        """The next batch on the device; times stay where they are, for they are read on the CPU."""
        batch = next(stream)
        return {
            key: value if key == "times" else value.to(self.device, non_blocking=True) for key, value in batch.items()
        }

    def _paused(self, began: float) -> bool:
        limit = self.config.pause_minutes
        return limit is not None and agreed(self.accelerator, time.monotonic() - began) > 60.0 * limit

    def _all_means(self, values: dict[str, Tensor]) -> dict[str, float]:
        row = torch.stack([value.to(self.device) for value in values.values()])
        mean: Any = self.accelerator.reduce(row, "mean") if self.accelerator.num_processes > 1 else row
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

    def _save(self, step: int) -> None:
        self._check_finite()
        state = self._state(step)
        if self.main:
            self._checkpoints.write(state)
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
            {name: whole(tensor) for name, tensor in self._averaged().items()},
            moments,
            {"moments": numbers, "minutes": self._clock.minutes},
        )

    def _averaged(self) -> dict[str, Tensor]:
        return dict(zip(self.parameters, self._averages.module.parameters(), strict=True))

    @torch.no_grad()
    def _use_averages(self) -> None:
        for name, average in self._averaged().items():
            self.parameters[name].copy_(average)

    @torch.no_grad()
    def _restore(self, state: State, where: str) -> None:
        held = {**self.parameters, **self._buffers}
        check_names(where, held, state.weights)
        for name, tensor in held.items():
            tensor.copy_(placed(state.weights[name], tensor))
        for name, average in self._averaged().items():
            average.copy_(placed(state.averages[name], average))
        for key, value in state.moments.items():
            name, kind = key.rsplit("/", 1)
            parameter = self.parameters[name]
            self._optimiser.state[parameter][kind] = placed(value, parameter)
        for key, number in state.numbers.get("moments", {}).items():
            name, kind = key.rsplit("/", 1)
            self._optimiser.state[self.parameters[name]][kind] = number
        self._clock.minutes = float(state.numbers.get("minutes", 0.0))

    def _report(self, line: str) -> None:
        if self.main:
            self._report_to(line)
