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
