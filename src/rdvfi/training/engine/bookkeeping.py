"""Running means of training values without synchronising the device, detection of broken steps, and the time limit."""

import time
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


class RunningMeans:
    """Means of named tensors, each over the calls of `add` that contained it."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Add one value per name."""
        for key, value in values.items():
            self._values.setdefault(key, []).append(value)

    def pop(self) -> dict[str, Tensor]:
        """Return the means and start anew."""
        means = {key: torch.stack(values).mean() for key, values in self._values.items()}
        self._values = {}
        return means


class NonFiniteWatch:
    """Detects the first step with non-finite values, without synchronising with the device."""

    def __init__(self) -> None:
        self._steps: dict[str, Tensor] = {}

    def record(self, step: int, values: dict[str, Tensor]) -> None:
        """Record the step for every value that is not finite and was finite in all earlier steps."""
        for name, value in values.items():
            earlier = self._steps.get(name)
            recorded = torch.full((), -1, device=value.device) if earlier is None else earlier
            self._steps[name] = torch.where(torch.isfinite(value) | (recorded >= 0), recorded, step)

    def first_broken(self) -> tuple[int, list[str]] | None:
        """The first step with non-finite values and their names; None if all were finite. Synchronises."""
        if not self._steps:
            return None
        steps = dict(zip(self._steps, torch.stack([*self._steps.values()]).tolist(), strict=True))
        broken_steps = [step for step in steps.values() if step >= 0]
        if not broken_steps:
            return None
        first = min(broken_steps)
        return first, [name for name, step in steps.items() if step == first]


class TimeLimit:
    """Elapsed fraction of the time limit of a stage, the same in all processes."""

    def __init__(self, max_minutes: float | None, accelerator: Accelerator) -> None:
        self.max_minutes, self._accelerator = max_minutes, accelerator
        self.minutes, self.progress = 0.0, 0.0
        self._last: float | None = None

    def advance(self) -> float:
        """Read the clock; returns the fraction of the limit that has passed, 0 without a limit."""
        if self.max_minutes is None:
            return 0.0
        now = mean_over_processes(self._accelerator, time.monotonic())
        self.minutes += 0.0 if self._last is None else (now - self._last) / 60.0
        self._last, self.progress = now, min(1.0, self.minutes / self.max_minutes)
        return self.progress


def mean_over_processes(accelerator: Accelerator, value: float) -> float:
    """The mean of a number over all processes."""
    if accelerator.num_processes == 1:
        return value
    mean: Any = accelerator.reduce(torch.tensor(value, dtype=torch.float64, device=accelerator.device), "mean")
    return float(mean)
