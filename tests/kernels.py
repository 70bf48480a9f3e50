"""Running Triton kernels in tests: on the GPU where there is one, else in Triton's interpreter."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROUNDING = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Absolute tolerance for results of size 1: coordinates are float32, results are rounded once."""


def load(name: str) -> ModuleType:
    """The module of kernels ``rdvfi.ops.kernels.<name>``, in a form that runs here.

    What decides is the environment at the moment of its first import. Without Triton the tests are
    skipped, except where a GPU was asked for: there that is an error.
    """
    if importlib.util.find_spec("triton") is None:
        if os.environ.get("RDVFI_REQUIRE_CUDA") == "1":
            raise pytest.UsageError("RDVFI_REQUIRE_CUDA=1 but Triton is not installed")
        pytest.skip("needs Triton", allow_module_level=True)
    importlib.import_module("triton.experimental.gluon")  # Triton itself is not to be interpreted
    _patch_language_once()
    with patch.dict(os.environ, {"TRITON_INTERPRET": "0" if DEVICE == "cuda" else "1"}):
        return importlib.import_module(f"rdvfi.ops.kernels.{name}_kernels")


@cache
def _patch_language_once() -> None:
    """The interpreter prepares Triton's language anew in each function that a kernel calls, a quarter of its time.

    The kernel has done that for functions of this package, which use the same module.
    """
    from triton.runtime.interpreter import InterpretedFunction

    call = InterpretedFunction.__call__

    def ours_at_once(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = self.fn.__module__.startswith("rdvfi.")
        return self.rewrite()(*args, **kwargs) if ours else call(self, *args, **kwargs)

    InterpretedFunction.__call__ = ours_at_once


def wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer, larger program instances where they are interpreted: there each costs milliseconds."""
    if DEVICE == "cpu":
        sampling = load("sampling")
        for name, size in (("BLOCK_Y", 32), ("BLOCK_X", 128)):
            monkeypatch.setattr(sampling, name, type(sampling.BLOCK_X)(size))


def random_case(seed: int, n: int, c: int, h: int, w: int, *, reach: float = 5.0) -> tuple[Tensor, Tensor]:
    """An image in [0, 1] and a flow that also leaves the picture, on the device of the kernels."""
    own = torch.Generator().manual_seed(seed)
    image = torch.rand(n, c, h, w, generator=own)
    return image.to(DEVICE), (reach * torch.randn(n, 2, h, w, generator=own)).to(DEVICE)


def assert_close(got: Tensor, expected: Tensor, *, tolerance: float) -> None:
    """Compare with a float64 reference relative to its size, at most 1 of it tolerated as size."""
    size = max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
    torch.testing.assert_close(got.cpu().double(), expected, rtol=0, atol=size * tolerance)


def spy(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *names: str) -> list[str]:
    """The names of those functions of the module, in the order in which they get called."""
    calls: list[str] = []

    def noted(name: str, launch: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls.append(name)
            return launch(*args)

        return call

    for name in names:
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    return calls
