"""Settings of the training engine, with their defaults."""

from dataclasses import dataclass, field

SCHEDULES = ("constant", "cosine", "poly", "rsqrt", "tanh", "wsd")
"""Schedules of ``timm.scheduler`` that need no settings of their own."""


@dataclass
class EngineConfig:
    """How to train.

    Attributes:
        steps: Optimiser steps in all.
        optimiser: A name of ``timm.optim``.
        rate: Peak learning rate.
        weight_decay: As the optimiser takes it.
        schedule: One of `SCHEDULES`: ``cosine`` falls to zero, ``constant`` stays.
        warmup: Steps of linear rise.
        clip: Largest norm of the gradient.
        accumulate: Batches per step and process.
        average: Decay of the averaged weights.
        bfloat16: Run the forward pass in bfloat16 where that is safe (autocast).
        compile: Compile the objective's forward pass.
        max_minutes: The longest that a stage may take. Learning rate and noise levels follow the
            clock where it is further than the steps, so the stage comes to its end with it; None
            means no limit.
        pause_minutes: Stop the whole run after this long, with a checkpoint from which the same
            command goes on; None means never.
        save_every: Steps between checkpoints.
        keep: Checkpoints that are kept.
        log_every: Steps between rows of the log.
        sheet_every: Steps between picture sheets; 0 makes none.
        trackers: Where the log goes beside its CSV file: trackers of accelerate, such as
            ``tensorboard`` or ``wandb``.
        device: ``auto``, or ``cpu`` to leave a GPU alone.
        seed: Of everything random.
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

    def check(self) -> None:
        """Say which value makes no sense; raises ValueError if one does not."""
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
