"""The training engine: one loop for every stage, from one CPU to many GPUs.

`Trainer` runs a stage, given an `Objective`, a module whose ``forward`` maps a batch to named losses, and a
`Feed` of batches. Weights and updates are float32; the forward pass may run in bfloat16. accelerate selects
the device and connects processes (start them with ``accelerate launch`` or ``torchrun``); timm provides optimiser,
schedule and averages. Mixed precision, accumulation and checkpoints are implemented here: accelerate's settings
are global and could not change between stages, and its checkpoints are neither atomic nor free of pickle (see
`rdvfi.training.engine.checkpoints`).

**Resuming is exact.** Batches depend on their index and random numbers on the step
(`rdvfi.training.objectives.training_step`), and a checkpoint stores weights, averages and the optimiser's state
exactly, so on a CPU a resumed run equals an uninterrupted one bit for bit. On CUDA they agree to rounding, since
the order of its sums varies.

**A step does not synchronise with the device.** Losses and the norm of the gradient remain tensors until they
are logged. A gradient that is not finite is recorded on the device and raised before the next row of the log or
checkpoint is written.
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
from rdvfi.training.engine.bookkeeping import NonFiniteWatch, RunningMeans, TimeLimit, mean_over_processes
from rdvfi.training.engine.checkpoints import Checkpoints, TrainingState, check_tensor_names, lock_folder
from rdvfi.training.engine.log import TrainingLog
from rdvfi.training.engine.optimiser import create_averages, create_optimiser
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.engine.sharding import full_tensor, gather_parameters, place_like, running_buffers, shard_objective
from rdvfi.training.objectives.objective import Batch, Feed, Losses, Objective, Report
from rdvfi.training.objectives.training_step import TrainingStep


class Trainer:
    """Trains one stage.

    Args:
        name: Name of the stage, of its checkpoints and its log.
        objective: The trained module; it is moved to the device.
        feed: Its batches.
        config: Settings of the engine.
        folder: Output folder of checkpoints, log and sheets.
        report: Receives progress lines.
        shard_blocks: Shard the weights over all processes instead of copying them, and gather these
            modules one at a time (`rdvfi.training.engine.sharding`); None does not shard.

    Raises:
        ValueError: If a setting is invalid, or no parameter requires gradients.
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
        config.validate()
        self.name, self.objective, self.feed = name, objective, feed
        self.config, self.folder, self._report_to = config, folder, report
        ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        self.accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision="no", kwargs_handlers=[ddp])
        self.device = self.accelerator.device
        self._sharded = shard_blocks is not None  # then only `forward` may be called, so sheets are not drawn
        if shard_blocks is None:
            self._model = self.accelerator.prepare_model(objective)
        else:
            self._model = shard_objective(objective.to(self.device), shard_blocks)
        # After wrapping, since sharding replaces the parameters.
        self.parameters = {n: p for n, p in objective.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError(f"{name}: nothing to train, every parameter is frozen")
        self._buffers = running_buffers(objective)
        self._forward: Callable[..., Losses] = torch.compile(self._model) if config.compile else self._model
        self._trained = nn.ParameterList(self.parameters.values())
        self._optimiser, self._schedule = create_optimiser(config, self._trained)
        self._averages = create_averages(self._trained, config.average)
        self._checkpoints = Checkpoints(folder / "checkpoints", name, config.keep)
        self._clock, self._non_finite = TimeLimit(config.max_minutes, self.accelerator), NonFiniteWatch()
        self._sheet_batch: Batch | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.accelerator.is_main_process

    def fit(self) -> bool:
        """Train to the end or to a pause; the objective then has the averaged weights.

        Returns:
            Whether training reached its end.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite; checkpoints are kept.
            ValueError: If the checkpoint is of another model, or another run uses this folder, or the losses
                do not depend on the trained parameters.
            OSError: If a checkpoint cannot be written; earlier ones are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.folder) if self.is_main else nullcontext():
            return self._fit()

    def _fit(self) -> bool:
        start = self._resume()
        log = TrainingLog(self.folder, self.name, start, trackers=self.config.trackers) if self.is_main else None
        try:
            step = self._run_steps(start, log)
        finally:
            if log is not None:
                log.close()
        self._load_averages()
        if self._sharded:
            gather_parameters(self.objective)
        return step >= self.config.steps or self._clock.progress >= 1.0

    def _resume(self) -> int:
        state = self._checkpoints.load_newest(self._report)
        if state is None:
            return 0
        self._restore(state, f"the checkpoint of step {state.step} in {self._checkpoints.folder}")
        self._report(f"{self.name}: resumed at step {state.step}")
        return state.step

    def _run_steps(self, start: int, log: TrainingLog | None) -> int:
        config, began = self.config, time.monotonic()
        means, done = RunningMeans(), start
        stream = self._open_stream(start) if start < config.steps else iter(())
        for step in range(start, config.steps):
            if self._clock.advance() >= 1.0 or self._is_pause_due(began):
                break
            means.add(self._optimiser_step(step, stream))
            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                self._write_row(done, means.pop(), log, time.monotonic() - began, done - start)
            if config.sheet_every and done % config.sheet_every == 0 and not self._sharded:
                self._write_sheet(done, log)
            if done % config.save_every == 0 and done < config.steps:
                self._write_checkpoint(done)
        if done > start:
            self._write_checkpoint(done)
        return done

    def _write_row(
        self, step: int, values: dict[str, Tensor], log: TrainingLog | None, seconds: float, steps: int
    ) -> None:
        self._check_finite()
        means = self._mean_losses(values)
        rate = self._optimiser.param_groups[0]["lr"]
        if log is not None:
            log.write(step, {"seconds": seconds, "rate": rate, **means})
        losses = " ".join(f"{key} {value:.4f}" for key, value in means.items())
        self._report(f"{self.name} {step}/{self.config.steps} {losses} ({seconds / steps:.2f} s/step)")

    def _open_stream(self, start: int) -> Iterator[Batch]:
        """The batches of this process; the processes take batches in turn."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return self.feed.batches(start * self.config.accumulate * world + rank, world)

    def _optimiser_step(self, step: int, stream: Iterator[Batch]) -> dict[str, Tensor]:
        """One optimiser step; returns the losses and the norm of the gradient, on the device."""
        config = self.config
        self._schedule(self._progress(step) * config.steps)
        self._optimiser.zero_grad(set_to_none=True)
        means = RunningMeans()
        for micro_batch in range(config.accumulate):
            training_step = self._training_step(step, micro_batch)
            training_step.seed_torch()
            batch = self._next_batch(stream)
            is_last = micro_batch == config.accumulate - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self._model):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
                    losses = self._forward(batch, training_step)
                if not losses:
                    raise ValueError(f"{self.name}: the samples of step {step} lack the inputs of all losses")
                total = torch.stack([value.float() for value in losses.values()]).sum()
                (total / config.accumulate).backward()
            means.add({key: value.detach().float() for key, value in losses.items()})
        values = {**means.pop(), "gradient": self._clip_gradient()}
        self._non_finite.record(step, values)
        self._optimiser.step()
        self._averages.update(self._trained, step + 2)  # timm's decay is zero before step 2
        return values

    def _progress(self, step: int) -> float:
        """Fraction of training that is done: of the steps, or of the time limit if that is larger."""
        return min(1.0, max(step / self.config.steps, self._clock.progress))

    def _clip_gradient(self) -> Tensor:
        parameters = [p for p in self.parameters.values() if p.grad is not None]
        if not parameters:
            raise ValueError(f"{self.name}: no loss depends on the trained parameters")
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip, foreach=None)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _check_finite(self) -> None:
        """Raise an error for non-finite losses or gradients that were recorded in earlier steps."""
        broken = self._non_finite.first_broken()
        if broken is None:
            return
        step, names = broken
        losses = [name for name in names if name != "gradient"]
        problem = f"loss {', '.join(losses)} is not finite" if losses else "the gradient's norm is not finite"
        paths = self._checkpoints.paths()
        last_good = f"the last good checkpoint is {paths[0]}" if paths else "there is no checkpoint yet"
        raise FloatingPointError(f"{self.name}: {problem} at step {step}; {last_good}")

    def _training_step(self, index: int, micro_batch: int = 0) -> TrainingStep:
        config, accelerator = self.config, self.accelerator
        rank, world_size = accelerator.process_index, accelerator.num_processes
        progress = self._clock.progress
        return TrainingStep(index, config.steps, config.seed, micro_batch, rank, world_size, self.device, progress)

    def _next_batch(self, stream: Iterator[Batch]) -> Batch:
        """The next batch on the device, except for times, which are read on the CPU."""
        batch = next(stream)
        return {
            key: value if key == "times" else value.to(self.device, non_blocking=True) for key, value in batch.items()
        }

    def _is_pause_due(self, began: float) -> bool:
        limit = self.config.pause_minutes
        return limit is not None and mean_over_processes(self.accelerator, time.monotonic() - began) > 60.0 * limit

    def _mean_losses(self, values: dict[str, Tensor]) -> dict[str, float]:
        row = torch.stack([value.to(self.device) for value in values.values()])
        mean: Any = self.accelerator.reduce(row, "mean") if self.accelerator.num_processes > 1 else row
        return dict(zip(values, mean.tolist(), strict=True))

    @torch.no_grad()
    def _write_sheet(self, step: int, log: TrainingLog | None) -> None:
        if self._sheet_batch is None:  # the same batch for all sheets, so that they can be compared
            self._sheet_batch = self._next_batch(self._open_stream(0))
        picture = self.objective.draw_sheet(self._sheet_batch, self._training_step(0)) if log else None
        if picture is not None and log is not None:
            folder = self.folder / "sheets"
            folder.mkdir(exist_ok=True)
            write_png(folder / f"{self.name}-{step:09d}.png", picture)
            log.write_picture(step, picture)

    def _write_checkpoint(self, step: int) -> None:
        self._check_finite()
        state = self._state(step)
        if self.is_main:
            self._checkpoints.write(state)
        self.accelerator.wait_for_everyone()

    def _state(self, step: int) -> TrainingState:
        moments: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            for key, value in self._optimiser.state[parameter].items():
                if isinstance(value, Tensor):
                    moments[f"{name}/{key}"] = full_tensor(value)
                else:
                    numbers[f"{name}/{key}"] = value
        tensors = {**self.parameters, **self._buffers}
        return TrainingState(
            step,
            {name: full_tensor(tensor) for name, tensor in tensors.items()},
            {name: full_tensor(tensor) for name, tensor in self._averaged_parameters().items()},
            moments,
            {"moments": numbers, "minutes": self._clock.minutes},
        )

    def _averaged_parameters(self) -> dict[str, Tensor]:
        return dict(zip(self.parameters, self._averages.module.parameters(), strict=True))

    @torch.no_grad()
    def _load_averages(self) -> None:
        for name, average in self._averaged_parameters().items():
            self.parameters[name].copy_(average)

    @torch.no_grad()
    def _restore(self, state: TrainingState, source: str) -> None:
        tensors = {**self.parameters, **self._buffers}
        check_tensor_names(source, tensors, state.weights)
        for name, tensor in tensors.items():
            tensor.copy_(place_like(state.weights[name], tensor))
        for name, average in self._averaged_parameters().items():
            average.copy_(place_like(state.averages[name], average))
        for key, value in state.moments.items():
            name, kind = key.rsplit("/", 1)
            parameter = self.parameters[name]
            self._optimiser.state[parameter][kind] = place_like(value, parameter)
        for key, number in state.numbers.get("moments", {}).items():
            name, kind = key.rsplit("/", 1)
            self._optimiser.state[self.parameters[name]][kind] = number
        self._clock.minutes = float(state.numbers.get("minutes", 0.0))

    def _report(self, line: str) -> None:
        if self.is_main:
            self._report_to(line)
