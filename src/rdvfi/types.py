"""Array types: the one place where axis names and units are defined.

Axes
    ``b`` batch, ``t`` requested times, ``k`` knots (keyframes with both ends), ``H W`` the user's image size, ``h w``
    a small grid (motion size or a stride of it), ``c`` channels of a latent, ``hz wz`` the latent grid.

Units
    RGB is in [0, 1]. A flow is ``(dx, dy)`` in pixels **of its own grid**, always float32. Time is
    a fraction of the way from the first frame (0) to the last (1).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

T = TypeVar("T")


def short_repr(self: object) -> str:
    """The representation of a dataclass, with shapes of tensors instead of values."""
    if isinstance(self, Tensor):
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"
    if not is_dataclass(self):
        return str(self)
    parts = {field.name: getattr(self, field.name) for field in fields(self) if field.repr}
    texts = [f"{name}={short_repr(part)}" for name, part in parts.items() if part is not None]
    return f"{type(self).__name__}({', '.join(texts)})"


def map_tensors(
    value: Any, on_tensor: Callable[[Tensor], Any], on_leaf: Callable[[Any], Any] = lambda leaf: leaf
) -> Any:
    """Replace every tensor of a structure (dataclasses, lists, tuples, mappings) by ``on_tensor(tensor)``, in order.

    Other leaves are replaced by ``on_leaf(leaf)``; by default they stay the same.
    """
    if isinstance(value, Tensor):
        return on_tensor(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{x.name: map_tensors(getattr(value, x.name), on_tensor, on_leaf) for x in fields(value) if x.init}
        )
    if isinstance(value, Mapping):
        return type(value)((key, map_tensors(item, on_tensor, on_leaf)) for key, item in value.items())  # pyright: ignore
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        items = [map_tensors(item, on_tensor, on_leaf) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)  # pyright: ignore
    return on_leaf(value)


def move_tensors(value: T, device: str | torch.device) -> T:
    """Move all tensors of a structure to a device: of dataclasses, modules, lists, tuples and mappings.

    Raises:
        TypeError: If it contains an object that is neither of these nor a plain value.
    """

    def leaf(part: Any) -> Any:
        if isinstance(part, nn.Module):
            return copy.deepcopy(part).to(device)
        if part is None or isinstance(part, int | float | bool | str | Enum | bytes | Fraction | torch.Size):
            return part
        raise TypeError(f"a {type(part).__name__} cannot be moved to {device}: make it a dataclass of tensors")

    return map_tensors(value, lambda tensor: tensor.to(device), leaf)


Image = Float[Tensor, "b 3 H W"]
"""RGB images at the user's size, in [0, 1]."""

SmallImage = Float[Tensor, "b 3 h w"]
"""RGB images at motion size, in [0, 1]."""

Video = Float[Tensor, "b t 3 H W"]
"""RGB frames at the user's size, in [0, 1]."""

Flow = Float[Tensor, "b 2 h w"]
"""One flow field per sample, ``(dx, dy)`` in pixels of its own grid."""

Flows = Float[Tensor, "b t 2 h w"]
"""One flow field per sample and time, ``(dx, dy)`` in pixels of its own grid."""

Timesteps = float | Sequence[float | int] | np.ndarray | Tensor
"""Times as an argument: a number, a list of numbers, or a 1-D array or tensor."""

Times = Float[Tensor, " t"]
"""Fractions of the way from the first frame (0) to the last (1)."""
