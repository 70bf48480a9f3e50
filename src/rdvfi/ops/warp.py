"""Backward warping: sample an image where a flow field points.

``out(y) = image(y + F(y))``, bilinear, borders replicated, ``align_corners=False``. Coordinates are
float32 whatever the image's type: in half precision they are off by a pixel beyond about 2000 px.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import pixel_grid


def sampling_grid(flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n h w 2"]:
    """Normalised coordinates for `torch.nn.functional.grid_sample` of ``pixel + flow``."""
    h, w = flow.shape[-2:]
    size = torch.tensor([w, h], dtype=torch.float32, device=flow.device)[:, None, None]
    position = pixel_grid(h, w, device=flow.device) + flow.float()
    return ((2.0 * position + 1.0) / size - 1.0).permute(0, 2, 3, 1)


def backward_warp(
    image: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"]
) -> Float[Tensor, "n c h w"]:
    """Sample ``image`` at ``pixel + flow``: bilinear, borders replicated.

    Args:
        image: What is sampled.
        flow: ``(dx, dy)`` in pixels of the same grid.

    Returns:
        ``image(y + flow(y))``, in the image's type.
    """
    warped = F.grid_sample(
        image.float(),
        sampling_grid(flow),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return warped.to(image.dtype)


def follow(
    here: tuple[Float[Tensor, "b t 2 h w"], Float[Tensor, "b t 2 h w"]],
    there: tuple[Float[Tensor, "b t 2 h w"], Float[Tensor, "b t 2 h w"]],
    start: Float[Tensor, " t"],
    end: Float[Tensor, " t"],
    *,
    iterations: int = 2,
) -> Float[Tensor, "b t 2 h w"]:
    """Shift of the points seen at time ``start`` until time ``end``, from their flows to both ends.

    A point keeps its origin in the first frame and its place in the last, so with ``F`` the flow
    to either of them its shift ``s`` satisfies ``F_start(y) = s + F_end(y + s)``. Both equations
    are joined with weights ``1 - end`` and ``end``; then the error of the guess cancels to first
    order for uniform motion, and the fixed-point iteration hardly needs to iterate.

    Args:
        here: Flows to the first and to the last frame at ``start``, on its grid.
        there: The same at ``end``.
        start: Times.
        end: Times.
        iterations: Fixed-point steps.
    """
    b, t = here[0].shape[:2]
    weight = end[None, :, None, None, None]
    gap = weight - start[None, :, None, None, None]
    both = torch.cat(there, dim=2).flatten(0, 1)
    shift = gap * (here[1] - here[0])
    for _ in range(iterations):
        seen = backward_warp(both, shift.flatten(0, 1)).unflatten(0, (b, t))
        to_first, to_last = here[0] - seen[:, :, :2], here[1] - seen[:, :, 2:]
        shift = torch.lerp(to_first, to_last, weight)
    return shift
