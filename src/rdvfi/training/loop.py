"""One training loop for every stage: resumable, time-limited, with averaged weights.

A stage gives a module, a stream of batches and a loss; the loop does the rest. Checkpoints are
written atomically (a temporary file, then a rename) and hold weights, averaged weights, optimiser
state and the step, so a stopped run goes on from its last checkpoint. Tensors only: they are read
back with ``weights_only=True``.
"""

import csv
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps in all; the learning rate falls to zero by then (cosine).
        rate: Peak learning rate.
        warmup: Steps of linear warm-up.
        minutes: Stop after this long, with a checkpoint; None means no limit.
        average: Decay of the averaged weights.
        every: Steps between checkpoints.
        bfloat16: Run convolutions in bfloat16; weights and their updates stay in float32.
    """

    steps: int
    rate: float = 5e-4
    warmup: int = 100
    minutes: float | None = None
    average: float = 0.995
    every: int = 250
    bfloat16: bool = True

    def rate_at(self, step: int) -> float:
        """Learning rate of one step."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def _write(path: Path, state: dict[str, object]) -> None:
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    os.replace(temporary, path)


def train(
    name: str,
    model: nn.Module,
    batches: Iterator[dict[str, Tensor]],
    loss: Callable[[dict[str, Tensor], int], Losses],
    schedule: Schedule,
    folder: Path,
    *,
    report: Callable[[str], None],
) -> bool:
    """Train the parameters of ``model`` that require gradients; averaged weights are left in it.

    Args:
        name: Names the checkpoint and the log in ``folder``.
        model: What is trained.
        batches: Endless batches.
        loss: Named losses of one batch at one step; their sum is minimised.
        schedule: How long and how fast.
        folder: Where checkpoints and logs go.
        report: Receives progress lines.

    Returns:
        Whether all steps were done.

    Raises:
        FloatingPointError: If the loss is not finite; the last checkpoint is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=schedule.rate, weight_decay=1e-4)
    averaged = [p.detach().clone() for p in parameters]
    checkpoint, start = folder / f"{name}.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        start = int(state["step"])
        for p, a, value, mean in zip(
            parameters, averaged, state["weights"], state["averaged"], strict=True
        ):
            p.data.copy_(value)
            a.copy_(mean)
        optimiser.load_state_dict(state["optimiser"])
        report(f"{name}: resumed at step {start}")

    def save(step: int) -> None:
        weights = [p.detach() for p in parameters]
        state = {"step": step, "weights": weights, "averaged": averaged}
        _write(checkpoint, {**state, "optimiser": optimiser.state_dict()})

    began, totals, step = time.monotonic(), {}, start
    with (folder / f"{name}.csv").open("a", newline="") as log:
        writer = csv.writer(log)
        for step in range(start, schedule.steps):
            if schedule.minutes is not None and time.monotonic() - began > 60.0 * schedule.minutes:
                break
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate_at(step)
            batch = next(batches)
            with torch.autocast("cpu", torch.bfloat16, enabled=schedule.bfloat16):
                losses = loss(batch, step)
            total = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(total):
                raise FloatingPointError(
                    f"{name}: loss is {total.item()} at step {step}; "
                    f"checkpoints are kept in {folder}"
                )
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            if not torch.isfinite(norm):
                raise FloatingPointError(
                    f"{name}: gradient is {norm.item()} at step {step}; checkpoints are kept in "
                    f"{folder}"
                )
            optimiser.step()
            decay = min(schedule.average, (step + 1) / (step + 10))
            for mean, parameter in zip(averaged, parameters, strict=True):
                mean.lerp_(parameter.detach(), 1.0 - decay)
            for key, value in losses.items():
                totals.setdefault(key, []).append(value.item())
            if (step + 1) % 50 == 0:
                means = {key: sum(values) / len(values) for key, values in totals.items()}
                totals = {}
                elapsed = time.monotonic() - began
                line = " ".join(f"{key} {value:.4f}" for key, value in means.items())
                pace = elapsed / (step + 1 - start)
                report(f"{name} {step + 1}/{schedule.steps} {line} ({pace:.2f} s/step)")
                writer.writerow([step + 1, round(elapsed, 1), *means.values()])
                log.flush()
            if (step + 1) % schedule.every == 0:
                save(step + 1)
        else:
            step = schedule.steps
    save(step)
    for p, a in zip(parameters, averaged, strict=True):
        p.data.copy_(a)
    return step >= schedule.steps
