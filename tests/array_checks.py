"""Annotations are checked in the first calls of a function in each test, and no longer in its five hundredth.

jaxtyping's import hook puts `jaxtyping.jaxtyped` around every function of the library. Here it is made when the
function is first called, and used for `CALLS` calls a test: what shapes a function takes and gives in a test, its
first calls show. Checking every call takes a fifth of the suite's time.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch

CALLS = 2
"""Calls of one function that are checked in one test."""

_always = jaxtyping.jaxtyped
_test = 0


def next_test() -> None:
    """From now on the first calls of every function are checked again."""
    global _test
    _test += 1


def _at_first(fn: Any = None, *, typechecker: Callable[..., Any] | None) -> Any:
    """`jaxtyping.jaxtyped`, for the first calls in each test."""
    if fn is None:
        return functools.partial(_at_first, typechecker=typechecker)
    if isinstance(fn, classmethod | staticmethod):
        return type(fn)(_at_first(fn.__func__, typechecker=typechecker))
    if isinstance(fn, property):
        return property(*(f and _at_first(f, typechecker=typechecker) for f in (fn.fget, fn.fset, fn.fdel)))
    if not isinstance(fn, type):
        return _counted(fn, typechecker)
    if dataclasses.is_dataclass(fn) and "__init__" in vars(fn):
        fn.__init__ = _counted(fn.__init__, typechecker)
    return fn


def _counted(fn: Callable[..., Any], typechecker: Callable[..., Any] | None) -> Callable[..., Any]:
    checked: Callable[..., Any] | None = None
    test, left = -1, 0

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked, test, left
        if torch.compiler.is_compiling():
            return fn(*args, **kwargs)
        if test != _test:
            test, left = _test, CALLS
        if left == 0:
            return fn(*args, **kwargs)
        left -= 1
        checked = checked or _always(fn, typechecker=typechecker)
        return checked(*args, **kwargs)

    return call


jaxtyping.jaxtyped = _at_first
