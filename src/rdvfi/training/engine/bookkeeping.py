"""Running means of training values without synchronising the device, detection of broken steps, and the time limit."""

import time
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


class Means:
    """Means of named tensors, each over the times that it was there."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Take values in."""
        for key, value in values.items():
            self._values.setdefault(key, []).append(value)

    def take(self) -> dict[str, Tensor]:
        """The means so far, which are then forgotten."""
        means = {key: torch.stack(found).mean() for key, found in self._values.items()}
        self._values = {}
        return means


class FirstBroken:
    """The first step at which values were not finite, noted on the device."""

    def __init__(self) -> None:
        self._steps: dict[str, Tensor] = {}

    def note(self, step: int, values: dict[str, Tensor]) -> None:
        """Keep a step's values, and check that they are finite."""
        for name, value in values.items():
            before = self._steps.get(name)
            never = torch.full((), -1, device=value.device) if before is None else before
            self._steps[name] = torch.where(torch.isfinite(value) | (never >= 0), never, step)

    def found(self) -> tuple[int, list[str]] | None:
        """The step and the names of the values that broke there; None if all were finite."""
        if not self._steps:
            return None
        steps = dict(zip(self._steps, torch.stack([*self._steps.values()]).tolist(), strict=True))
        broken = [step for step in steps.values() if step >= 0]
        return (min(broken), [name for name, step in steps.items() if step == min(broken)]) if broken else None


class TimeLimit:
    """How far a stage is in the time that it may take; all processes agree on it."""

    def __init__(self, max_minutes: float | None, accelerator: Accelerator) -> None:
        self.max_minutes, self._accelerator = max_minutes, accelerator
        self.minutes, self.share = 0.0, 0.0
        self._last: float | None = None

    def advance(self) -> float:
        """Read the clock; returns the share of the time that has passed, 0 where there is no limit."""
        if self.max_minutes is None:
            return 0.0
        now = agreed(self._accelerator, time.monotonic())
        self.minutes += 0.0 if self._last is None else (now - self._last) / 60.0
        self._last, self.share = now, min(1.0, self.minutes / self.max_minutes)
        return self.share


def agreed(accelerator: Accelerator, seconds: float) -> float:
    """The same number in every process: their mean."""
    if accelerator.num_processes == 1:
        return seconds
    row: Any = accelerator.reduce(torch.tensor(seconds, dtype=torch.float64, device=accelerator.device), "mean")
    return float(row)
