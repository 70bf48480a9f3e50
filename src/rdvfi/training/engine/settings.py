"""Settings of the training engine, with their defaults."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SCHEDULES = ("constant", "cosine", "poly", "rsqrt", "tanh", "wsd")
"""Schedules of ``timm.scheduler`` that need no further settings."""


@dataclass
class EngineConfig:
    """Settings of the optimiser, of limits, checkpoints and logs.

    Attributes:
        steps: Total number of optimiser steps.
        optimiser: Name of an optimiser of ``timm.optim``.
        rate: Peak learning rate.
        weight_decay: Weight decay of the optimiser.
        schedule: One of `SCHEDULES`: ``cosine`` falls to zero, ``constant`` does not change.
        warmup: Steps over which the learning rate rises linearly.
        clip: Largest norm of the gradient.
        accumulate: Batches per step and process (gradient accumulation).
        average: Decay of the averaged weights (EMA).
        bfloat16: Run the forward pass under autocast in bfloat16.
        compile: Compile the objective's forward pass.
        max_minutes: Time limit of a stage; None for no limit. Learning rate and noise levels follow the
            elapsed time where it is further than the steps, so schedules are completed within the limit.
        pause_minutes: Time after which the whole run stops with a checkpoint, from which the same
            command resumes; None for no pause.
        save_every: Steps between checkpoints.
        keep: Number of checkpoints that are kept.
        log_every: Steps between rows of the log.
        sheet_every: Steps between sheets of sample pictures; 0 for none.
        trackers: Trackers of accelerate, such as ``tensorboard`` or ``wandb``, that receive the log in
            addition to its CSV file.
        device: ``auto``, or ``cpu`` to ignore GPUs.
        seed: Seed of all random numbers.
    """

    steps: int = 1000
    optimiser: str = "adamw"
    rate: float = 5e-4
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup: int = 100
    clip: float = 1.0
    accumulate: int = 1
    average: float = 0.995
    bfloat16: bool = True
    compile: bool = False
    max_minutes: float | None = None
    pause_minutes: float | None = None
    save_every: int = 250
    keep: int = 2
    log_every: int = 50
    sheet_every: int = 0
    trackers: list[str] = field(default_factory=list)
    device: str = "auto"
    seed: int = 0

    def validate(self) -> None:
        """Raise a ValueError that names the first invalid value."""
        rules: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
            (("steps", "accumulate", "save_every", "keep", "log_every"), lambda value: value >= 1, "at least 1"),
            (("rate", "clip"), lambda value: value > 0, "positive"),
            (("warmup", "sheet_every", "seed", "weight_decay"), lambda value: value >= 0, "non-negative"),
            (("max_minutes",), lambda value: value is None or value > 0, "positive"),
            (("average",), lambda value: 0 <= value < 1, "in [0, 1)"),
            (("device",), lambda value: value in ("auto", "cpu"), "auto or cpu"),
            (("schedule",), lambda value: value in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        )
        for names, is_valid, requirement in rules:
            for name in names:
                if not is_valid(getattr(self, name)):
                    raise ValueError(f"engine.{name} must be {requirement}; got {getattr(self, name)!r}")
