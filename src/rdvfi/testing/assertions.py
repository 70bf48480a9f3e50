"""What the checks of `rdvfi.testing` share: closeness, and an account of what was checked."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Largest difference, absolute or relative to the largest value, that counts as equal."""

BATCH_TOLERANCE = 1e-4
"""For one sample alone against the same in a batch: kernels add up in another order."""


def assert_close(got: Tensor, expected: Tensor, *, tolerance: float | None = None, law: str = "values differ") -> None:
    """The tensors have one shape and agree within the tolerance of the coarser of their types."""
    assert got.shape == expected.shape, f"{law}: {tuple(got.shape)} != {tuple(expected.shape)}"
    if tolerance is None:
        tolerance = max(TOLERANCE[got.dtype], TOLERANCE[expected.dtype])
    if got.numel() == 0:
        return
    difference = float((got.double() - expected.double()).abs().max())
    allowed = tolerance * max(1.0, float(expected.double().abs().max()))
    assert difference <= allowed, f"{law}: off by {difference:.3g}, allowed is {allowed:.3g}"


def check_field(field: Tensor, name: str) -> None:
    assert field.dtype == torch.float32, f"{name} must be float32, got {field.dtype}"
    assert torch.isfinite(field).all(), f"{name} must be finite"


def unchanged(module: Callable[..., Any], *inputs: Tensor) -> Any:
    """Call a module and see that it left its arguments as they were."""
    copies = [argument.clone() for argument in inputs]
    result = module(*inputs)
    same = all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
    name = type(module).__name__ if isinstance(module, nn.Module) else "denoise"
    assert same, f"{name} must not change its arguments"
    return result


class Account:
    """Which laws a check found to hold, and which it could not look at; it tells them at the end."""

    def __init__(self, check: str, subject: object) -> None:
        self._head = f"{check} {type(subject).__name__}"
        self._held: list[str] = []
        self._skipped: list[str] = []

    def holds(self, *laws: str) -> None:
        """Laws held."""
        self._held += laws

    def skips(self, law: str, why: str) -> None:
        """A law that was not looked at."""
        self._skipped.append(f"{law} ({why})")

    def tell(self) -> None:
        """Print one line with the laws that hold, and one for each law that was not checked."""
        lines = [f"{self._head}: {len(self._held)} laws hold: {'; '.join(self._held)}"]
        lines += [f"{self._head}: not checked: {each}" for each in self._skipped]
        sys.stdout.write("\n".join(lines) + "\n")
