"""Assertions and the report that the checks of `rdvfi.testing` share."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Largest difference that counts as equal, absolute or relative to the largest value, by type."""

BATCH_TOLERANCE = 1e-4
"""Tolerance between a sample alone and in a batch, for which kernels sum in another order."""


def assert_close(got: Tensor, expected: Tensor, *, tolerance: float | None = None, law: str = "values differ") -> None:
    """Assert that two tensors have one shape and are equal within a tolerance.

    Args:
        got: The tensor to check.
        expected: The expected tensor.
        tolerance: Largest difference, absolute or relative to the largest expected value; by default that of the
            less precise of both types (`TOLERANCE`).
        law: Beginning of the message of the error.
    """
    assert got.shape == expected.shape, f"{law}: {tuple(got.shape)} != {tuple(expected.shape)}"
    if tolerance is None:
        tolerance = max(TOLERANCE[got.dtype], TOLERANCE[expected.dtype])
    if got.numel() == 0:
        return
    difference = float((got.double() - expected.double()).abs().max())
    allowed = tolerance * max(1.0, float(expected.double().abs().max()))
    assert difference <= allowed, f"{law}: off by {difference:.3g}, allowed is {allowed:.3g}"


def check_field(field: Tensor, name: str) -> None:
    """Assert that a field is float32 and finite."""
    assert field.dtype == torch.float32, f"{name} must be float32, got {field.dtype}"
    assert torch.isfinite(field).all(), f"{name} must be finite"


def call_unchanged(module: Callable[..., Any], *inputs: Tensor) -> Any:
    """The result of a call, after asserting that the call did not change its arguments."""
    copies = [argument.clone() for argument in inputs]
    result = module(*inputs)
    same = all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
    name = type(module).__name__ if isinstance(module, nn.Module) else "denoise"
    assert same, f"{name} must not change its arguments"
    return result


class CheckReport:
    """The laws that hold, and those that could not be checked."""

    def __init__(self, check: str, component: object) -> None:
        self._title = f"{check} {type(component).__name__}"
        self._passed: list[str] = []
        self._skipped: list[str] = []

    def passed(self, *laws: str) -> None:
        """Add laws that hold."""
        self._passed += laws

    def skipped(self, law: str, reason: str) -> None:
        """Add a law that was not checked."""
        self._skipped.append(f"{law} ({reason})")

    def print(self) -> None:
        """Print one line with the laws that hold, and one for each law that was not checked."""
        lines = [f"{self._title}: {len(self._passed)} laws hold: {'; '.join(self._passed)}"]
        lines += [f"{self._title}: not checked: {law}" for law in self._skipped]
        sys.stdout.write("\n".join(lines) + "\n")
