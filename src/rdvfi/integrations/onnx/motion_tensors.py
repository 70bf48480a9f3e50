"""A motion as named tensors, the interface between the ``estimate`` and ``render`` graphs."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

Structure = Any
"""A tensor, a plain value, or dataclasses and tuples of them."""


def named_tensors(value: Structure, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a structure by dotted path, as in ``keyframes.latents``."""
    if isinstance(value, Tensor):
        return {prefix: value}
    tensors: dict[str, Tensor] = {}
    for name, item in _named_items(value):
        tensors |= named_tensors(item, f"{prefix}.{name}" if prefix else name)
    return tensors


def replace_tensors(value: Structure, new: Callable[[str, Tensor], Tensor], prefix: str = "") -> Structure:
    """The structure with every tensor replaced by ``new(path, tensor)``."""
    if isinstance(value, Tensor):
        return new(prefix, value)
    changed = {
        name: replace_tensors(item, new, f"{prefix}.{name}" if prefix else name) for name, item in _named_items(value)
    }
    if isinstance(value, tuple) and changed:
        return tuple(changed.values())
    return dataclasses.replace(value, **changed) if changed else value  # pyright: ignore[reportArgumentType]


def _named_items(value: Structure) -> list[tuple[str, Structure]]:
    if isinstance(value, tuple):
        return [(str(i), item) for i, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []
