"""A motion as named tensors, the interface between the ``estimate`` and ``render`` graphs."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

Structure = Any
"""A tensor, a plain value, or dataclasses and tuples of them."""


def named_tensors(value: Structure, place: str = "") -> dict[str, Tensor]:
    """The tensors of a structure, by where they are: ``keyframes.latents``."""
    if isinstance(value, Tensor):
        return {place: value}
    found: dict[str, Tensor] = {}
    for name, item in _items(value):
        found |= named_tensors(item, f"{place}.{name}" if place else name)
    return found


def with_tensors(value: Structure, new: Callable[[str, Tensor], Tensor], place: str = "") -> Structure:
    """The structure with ``new(place, tensor)`` instead of every tensor."""
    if isinstance(value, Tensor):
        return new(place, value)
    changed = {name: with_tensors(item, new, f"{place}.{name}" if place else name) for name, item in _items(value)}
    if isinstance(value, tuple) and changed:
        return tuple(changed.values())
    return dataclasses.replace(value, **changed) if changed else value  # pyright: ignore[reportArgumentType]


def _items(value: Structure) -> list[tuple[str, Structure]]:
    if isinstance(value, tuple):
        return [(str(i), item) for i, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []
