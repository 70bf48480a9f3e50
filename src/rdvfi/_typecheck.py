"""Runtime checks of array annotations, enabled by an import hook.

The library carries jaxtyping annotations and no decorators. Tests check the first calls of
every function (``--jaxtyping-packages=rdvfi,rdvfi._typecheck.typechecker``); users check every call with the
environment variable ``RDVFI_TYPECHECK=1`` before ``import rdvfi``.

Dynamo cannot trace how beartype reports violations, so nothing is checked while torch
compiles, scripts or traces: the same code is checked in eager mode and compiles with
``fullgraph=True``.
"""

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import torch


@no_type_check  # otherwise the hook would apply the checker to itself, while it is imported
def typechecker(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, except while torch is tracing ``fn``."""
    # Imported here, since the library runs without it.
    from beartype import beartype

    if isinstance(fn, type):
        return beartype(fn)
    checked = beartype(fn)

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
            return fn(*args, **kwargs)
        return checked(*args, **kwargs)

    return wrapper
