"""Drawing frames: the one full-size pass of the whole pipeline.

For every requested time, small maps (two flows, a blend mask, an RGB residual) are upsampled to
the image size, both end frames are warped along the flows, and blended::

    frame = mask * warp(img0, flow0) + (1 - mask) * warp(img1, flow1) + residual

The maps are joined on the small grid and upsampled in a single call, already as the normalised
displacements that `grid_sample` wants, so the full-size work is one upsampling, two warps and one
blend per frame, whatever made the maps. Memory is bounded by working on a few frames at a time.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.types import Flows, Image, Video

_PIXELS_AT_ONCE = 4_000_000
"""Full-size pixels drawn in one go without gradients; a larger frame goes whole.

It takes about 90 bytes a pixel: 360 MB for four megapixels."""


def _identity_grid(h: int, w: int, device: torch.device) -> Float[Tensor, "1 h w 2"]:
    ys = (2.0 * torch.arange(h, dtype=torch.float32, device=device) + 1.0) / h - 1.0
    xs = (2.0 * torch.arange(w, dtype=torch.float32, device=device) + 1.0) / w - 1.0
    return torch.stack((xs.expand(h, w), ys[:, None].expand(h, w)), dim=-1)[None]


def _draw(
    img0: Float[Tensor, "n 3 H W"],
    img1: Float[Tensor, "n 3 H W"],
    maps: Float[Tensor, "n 8 h w"],
) -> Float[Tensor, "n 3 H W"]:
    """Frames from float32 images and joined maps (flow0, flow1 normalised; mask; residual)."""
    h, w = img0.shape[-2:]
    full = F.interpolate(maps, (h, w), mode="bilinear", align_corners=False)
    identity = _identity_grid(h, w, img0.device)
    warped = [
        F.grid_sample(
            image,
            full[:, i : i + 2].permute(0, 2, 3, 1) + identity,
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        for i, image in ((0, img0), (2, img1))
    ]
    return torch.lerp(warped[1], warped[0], full[:, 4:5]) + full[:, 5:8]


def render(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
) -> Video:
    """Draw frames from both end frames along small-grid flows.

    Differentiable in every argument. Coordinates are float32 whatever the images' type.

    Args:
        img0: First frames.
        img1: Last frames.
        flow0: Where each pixel of the new frames is found in ``img0``, in small-grid pixels.
        flow1: The same for ``img1``.
        mask: Share of the first frame in the blend, [0, 1].
        residual: Added colour.

    Returns:
        The frames, clamped to [0, 1] where no gradient is recorded, in the images' type.
    """
    b, t = flow0.shape[:2]
    small_h, small_w = flow0.shape[-2:]
    h, w = img0.shape[-2:]
    to_unit = torch.tensor([2.0 / small_w, 2.0 / small_h], device=flow0.device)[:, None, None]
    maps = torch.cat((flow0.float() * to_unit, flow1.float() * to_unit, mask, residual), dim=2)
    first, last = img0.float(), img1.float()
    if torch.is_grad_enabled() and any(x.requires_grad for x in (maps, first, last)):
        wide = [image[:, None].expand(b, t, 3, h, w).flatten(0, 1) for image in (first, last)]
        return _draw(wide[0], wide[1], maps.flatten(0, 1)).unflatten(0, (b, t)).to(img0.dtype)

    frames = torch.empty((b, t, 3, h, w), dtype=img0.dtype, device=img0.device)
    chunk = max(1, min(t, _PIXELS_AT_ONCE // (h * w)))
    for i in range(b):
        for start in range(0, t, chunk):
            part = maps[i, start : start + chunk]
            n = part.shape[0]
            drawn = _draw(first[i].expand(n, 3, h, w), last[i].expand(n, 3, h, w), part)
            frames[i, start : start + chunk] = drawn.clamp_(0.0, 1.0)
    return frames
