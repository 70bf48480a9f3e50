"""The decorator of Triton kernels."""

import inspect
from collections.abc import Callable
from typing import Any

import triton


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit`, without the run-time shape checks of `rdvfi._typecheck`, which would hide a kernel's globals."""
    return triton.jit(inspect.unwrap(function))
