"""Settings of the training engine, with their defaults."""

from dataclasses import dataclass, field

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
        for name in ("steps", "accumulate", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"engine.{name} must be at least 1; got {getattr(self, name)}")
        for name in ("rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"engine.{name} must be positive; got {getattr(self, name)}")
        for name in ("warmup", "sheet_every", "seed", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"engine.{name} must not be negative; got {getattr(self, name)}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"engine.max_minutes must be positive; got {self.max_minutes}")
        if not 0 <= self.average < 1:
            raise ValueError(f"engine.average must be in [0, 1); got {self.average}")
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"engine.device must be auto or cpu; got {self.device!r}")
        if self.schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise ValueError(f"engine.schedule must be one of {known}; got {self.schedule!r}")
