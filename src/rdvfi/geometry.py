"""Pixel grids, resizing of images and flows, padding, and the choice of the motion size.

Convention: pixel centres lie at half-integers of the image plane (``align_corners=False`` everywhere). Resizing a
flow field therefore multiplies dx by W'/W and dy by H'/H, and pixel ``(x, y)`` of one size covers the same part of
the picture as ``((x + 0.5) W'/W - 0.5, ...)`` of another.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

MINIMUM_SIDE = 16
"""Smallest image side that the library accepts, in pixels."""


def pixel_grid(h: int, w: int, *, device: torch.device | None = None) -> Float[Tensor, "2 h w"]:
    """Pixel coordinates ``(x, y)`` of an ``h`` by ``w`` grid: integers, float32."""
    ys = torch.arange(h, dtype=torch.float32, device=device)
    xs = torch.arange(w, dtype=torch.float32, device=device)
    return torch.stack((xs.expand(h, w), ys[:, None].expand(h, w)))


def resize_image(image: Float[Tensor, "n c _ _"], size: tuple[int, int]) -> Float[Tensor, "n c _ _"]:
    """Resize to ``size = (h, w)``: bilinear, with antialiasing if a side is reduced."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    reduces = size[0] < image.shape[-2] or size[1] < image.shape[-1]
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=reduces)


def resize_flow(flow: Float[Tensor, "n 2 _ _"], size: tuple[int, int]) -> Float[Tensor, "n 2 _ _"]:
    """Resize a flow field to ``size = (h, w)`` and rescale it to pixels of the new grid."""
    h, w = flow.shape[-2:]
    if (h, w) == tuple(size):
        return flow
    resized = resize_image(flow, size)
    if size[0] * w == size[1] * h:  # equal factors need a single multiplication
        return resized * (size[1] / w)
    return torch.cat((resized[:, :1] * (size[1] / w), resized[:, 1:] * (size[0] / h)), dim=1)


def flow_length(flow: Float[Tensor, "*n 2 h w"]) -> Float[Tensor, "*n 1 h w"]:
    """Length of every vector of a flow field; its gradient at a zero vector is zero."""
    if flow.device.type != "cpu":
        return torch.linalg.vector_norm(flow, dim=-3, keepdim=True).clamp(min=1e-12)
    dx, dy = flow.split(1, dim=-3)
    # `linalg.vector_norm` over an axis of two strided values is a hundred times slower on a CPU.
    return (dx * dx + dy * dy).clamp(min=1e-24).sqrt()


def stays_inside(flow: Float[Tensor, "n 2 h w"]) -> Bool[Tensor, "n 1 h w"]:
    """Whether the end of each vector of a flow field is within the outermost pixel centres of the grid."""
    h, w = flow.shape[-2:]
    x, y = (pixel_grid(h, w, device=flow.device) + flow).split(1, dim=1)
    return (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)


def replicate_pad(image: Float[Tensor, "n c _ _"], size: tuple[int, int]) -> Float[Tensor, "n c _ _"]:
    """Extend to ``size = (h, w)`` at the right and bottom by repeating the border."""
    h, w = image.shape[-2:]
    if (h, w) == tuple(size):
        return image
    return F.pad(image, (0, size[1] - w, 0, size[0] - h), mode="replicate")


@dataclass(frozen=True)
class MotionSize:
    """The sizes at which a pair of frames is processed."""

    padded: tuple[int, int]
    """Size (height, width) of the full-size frames after replicate padding; that of the input if it is large."""
    motion: tuple[int, int]
    """Size (height, width) of the frames that the generator reads."""


def choose_motion_size(
    height: int, width: int, *, area: int = 448 * 256, multiple: int = 16, minimum: int = 32
) -> MotionSize:
    """Choose the motion size of ``height`` by ``width`` frames.

    Large frames are reduced to about ``area`` pixels, each side rounded to ``multiple``: 16:9 gives
    448x256. Small frames are never enlarged: they are padded by replication to
    the next multiple (and to ``minimum``), and motion is estimated at that size.

    Raises:
        ValueError: If a side is below 16 pixels.
    """
    if height < MINIMUM_SIDE or width < MINIMUM_SIDE:
        raise ValueError(f"frames are {width}x{height} pixels; both sides must be at least {MINIMUM_SIDE}")
    if height * width <= area:
        padded = tuple(max(-(-side // multiple) * multiple, minimum) for side in (height, width))
        return MotionSize((padded[0], padded[1]), (padded[0], padded[1]))
    scale = (area / (height * width)) ** 0.5
    motion = tuple(max(round(side * scale / multiple) * multiple, multiple, minimum) for side in (height, width))
    # The minimum may exceed the side of a very long strip; the padded frame is at least as large.
    padded = tuple(max(side, small) for side, small in zip((height, width), motion, strict=True))
    return MotionSize((padded[0], padded[1]), (motion[0], motion[1]))
