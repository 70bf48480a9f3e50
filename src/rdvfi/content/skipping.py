"""Leaving out, on a CPU, the work on what a pair of frames does not show.

A graph of fixed shapes always does all the work, and on a GPU that costs nothing that is noticed. On a
CPU it would: there a truth value can be read at no cost, and the rules are written so that with
nothing found they change nothing, bit for bit.
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
    """Within it nothing is left out, as in a graph."""
    before = _FIXED.set(True)
    try:
        yield
    finally:
        _FIXED.reset(before)


def value_on_cpu(found: Callable[[], Tensor], like: Tensor) -> bool | None:
    """A truth value, or None where asking for it would wait for a device or break a graph.

    Args:
        found: Computes one truth value, where it can be read.
        like: A tensor of the same device.
    """
    if like.device.type != "cpu" or torch.compiler.is_compiling() or _FIXED.get() or is_in_torch_dispatch_mode():
        return None
    return bool(found())


def is_absent(found: Callable[[], Tensor], like: Tensor) -> bool:
    """Whether it is known that nothing was found; see `value_on_cpu`."""
    return value_on_cpu(found, like) is False
