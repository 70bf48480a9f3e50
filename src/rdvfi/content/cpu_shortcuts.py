"""Skipping steps on a CPU that would not change the result.

Code of fixed shapes always runs every step of every rule; on a GPU that costs almost nothing. On a CPU it would cost
time, but there a condition can be read without waiting. All rules are written such that skipping a step whose condition
does not hold leaves the result unchanged, bit for bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

_FIXED: ContextVar[bool] = ContextVar("rdvfi_fixed_shapes", default=False)


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Run every step within this context, as in a captured graph."""
    token = _FIXED.set(True)
    try:
        yield
    finally:
        _FIXED.reset(token)


def value_on_cpu(condition: Callable[[], Tensor], like: Tensor) -> bool | None:
    """The value of a condition, or None if reading it would wait for a device or interrupt a graph.

    Args:
        condition: Computes a boolean tensor with one element; called only if it can be read.
        like: A tensor on the same device.
    """
    if like.device.type != "cpu" or torch.compiler.is_compiling() or _FIXED.get() or is_in_torch_dispatch_mode():
        return None
    return bool(condition())


def is_absent(condition: Callable[[], Tensor], like: Tensor) -> bool:
    """Whether a condition is known to be false; see `value_on_cpu`."""
    return value_on_cpu(condition, like) is False
