"""Drawing frames as a plain, differentiable composition: the definition of `rdvfi.ops.render`.

`draw_bilinear` upsamples the flows themselves. At the edge of a moving object that invents motions
between the object's and the background's, which nothing in the picture has.

`draw_consistent` never mixes motions. Each of the four small-grid pixels around a full-size one is
a hypothesis: both images are looked up along *its* flows, and the four colours are mixed by their
bilinear weights and by the agreement of the two images,

    w_k = b_k exp(-|c0_k - c1_k| / s),

the difference taken as the mean over the channels. It is overlapped block motion compensation
(Orchard and Sullivan, 1994, https://doi.org/10.1109/83.334974) with weights that look at the
pictures, at four times the look-ups.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from rdvfi.types import Flows

DOUBT = 0.2
"""Difference of two warped colours at which a hypothesis keeps 1/e of its weight."""

Images = Float[Tensor, "n 3 H W"]
Maps = Float[Tensor, "n 8 h w"]


def join(
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
) -> Float[Tensor, "b t 8 h w"]:
    """All maps in one, flows in half-images: the unit of `grid_sample`."""
    h, w = flow0.shape[-2:]
    kind = torch.promote_types(flow0.dtype, torch.float32)
    to_unit = torch.tensor([2.0 / w, 2.0 / h], dtype=kind, device=flow0.device)[:, None, None]
    return torch.cat((flow0.to(kind) * to_unit, flow1.to(kind) * to_unit, mask, residual), dim=2)


def draw_bilinear(first: Images, last: Images, maps: Maps) -> Images:
    """Frames along bilinearly upsampled flows, unclamped."""
    full = _upsampled(maps, first)
    seen0, seen1 = _warped(first, full[:, :2]), _warped(last, full[:, 2:4])
    return torch.lerp(seen1, seen0, full[:, 4:5]) + full[:, 5:8]


def draw_consistent(first: Images, last: Images, maps: Maps) -> Images:
    """Frames as a mixture over the four neighbouring flows of every pixel, unclamped."""
    (h, w), (small_h, small_w) = first.shape[-2:], maps.shape[-2:]
    colours, total = torch.zeros_like(first), torch.zeros_like(first[:, :1])
    for rows, down in _neighbours(h, small_h, maps):
        for columns, across in _neighbours(w, small_w, maps):
            full = maps[:, :5].index_select(2, rows).index_select(3, columns)
            seen0, seen1 = _warped(first, full[:, :2]), _warped(last, full[:, 2:4])
            apart = (seen0 - seen1).abs().mean(1, keepdim=True)
            weight = down[:, None] * across * torch.exp(-apart / DOUBT)
            colours = colours + weight * torch.lerp(seen1, seen0, full[:, 4:5])
            total = total + weight
    return colours / total + _upsampled(maps[:, 5:8], first)


def _upsampled(maps: Float[Tensor, "n c h w"], like: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c H W"]:
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)


def _neighbours(size: int, small: int, like: Tensor) -> tuple[tuple[Int64[Tensor, " s"], Float[Tensor, " s"]], ...]:
    """Small-grid index on either side of every pixel along an axis, with its bilinear weight."""
    place = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * (small / size) - 0.5
    place = place.clamp(0.0, small - 1.0)
    before = place.floor()
    share = place - before
    index = before.long()
    return (index, 1.0 - share), ((index + 1).clamp(max=small - 1), share)


def _warped(image: Images, shift: Float[Tensor, "n 2 H W"]) -> Images:
    """``image`` looked up ``shift`` half-images away."""
    h, w = image.shape[-2:]
    ys = (2.0 * torch.arange(h, dtype=shift.dtype, device=shift.device) + 1.0) / h - 1.0
    xs = (2.0 * torch.arange(w, dtype=shift.dtype, device=shift.device) + 1.0) / w - 1.0
    place = shift + torch.stack((xs.expand(h, w), ys[:, None].expand(h, w)))
    return F.grid_sample(
        image,
        place.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
