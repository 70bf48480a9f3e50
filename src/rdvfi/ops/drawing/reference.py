"""Drawing frames as a plain, differentiable composition: the definition of `rdvfi.ops.render`.

`composition` draws all frames at once. `draw_in_bands` draws the same frames without gradients, a band of rows of one
frame at a time, so that memory stays bounded at any size; `draw_band` is what both consist of.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.types import Flows, Image, Video

_BAND_PIXELS = 1_000_000
"""Pixels of a band; it takes about 100 bytes for each."""

Images = Float[Tensor, "n 3 H W"]
Maps = Float[Tensor, "n 8 h w"]


def composition(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
) -> Video:
    """`rdvfi.ops.render` of all frames at once: differentiable and unclamped."""
    b, t = flow0.shape[:2]
    maps = join_maps(flow0, flow1, mask, residual).flatten(0, 1)
    first, last = (image.to(maps.dtype)[:, None].expand(b, t, *image.shape[1:]).flatten(0, 1) for image in (img0, img1))
    return draw_band(first, last, maps, 0, img0.shape[-2]).unflatten(0, (b, t)).to(img0.dtype)


def draw_in_bands(img0: Image, img1: Image, maps: Float[Tensor, "b t 8 h w"]) -> Video:
    """Frames of joined maps, clamped to [0, 1], a band of rows at a time.

    Args:
        img0: First frames, in the maps' type.
        img1: Last frames, likewise.
        maps: What `join_maps` returns.
    """
    (b, t), (h, w) = maps.shape[:2], img0.shape[-2:]
    frames = img0.new_empty((b, t, 3, h, w))
    rows = max(1, _BAND_PIXELS // w)
    for i in range(b):
        for k in range(t):
            for top in range(0, h, rows):
                bottom = min(h, top + rows)
                drawn = draw_band(img0[i : i + 1], img1[i : i + 1], maps[i, k : k + 1], top, bottom)
                torch.clamp(drawn[0], 0.0, 1.0, out=frames[i, k, :, top:bottom])
    return frames


def join_maps(
    flow0: Flows, flow1: Flows, mask: Float[Tensor, "b t 1 h w"], residual: Float[Tensor, "b t 3 h w"]
) -> Float[Tensor, "b t 8 h w"]:
    """All maps in one, flows in half-images: the unit of `grid_sample`."""
    h, w = flow0.shape[-2:]
    kind = torch.promote_types(flow0.dtype, torch.float32)
    halves = [torch.full((1, 1), 2.0 / size, dtype=kind, device=flow0.device) for size in (w, h)]
    to_unit = torch.stack(halves)  # made there: a CUDA graph cannot hold a copy from the CPU
    return torch.cat((flow0.to(kind) * to_unit, flow1.to(kind) * to_unit, mask, residual), dim=2)


def draw_band(first: Images, last: Images, maps: Maps, top: int, bottom: int) -> Float[Tensor, "n 3 rows W"]:
    """Rows ``top`` to ``bottom`` of the frames, unclamped: the definition.

    Args:
        first: First frames, one for each frame drawn.
        last: Last frames, likewise.
        maps: Both flows, the blend and the residual colour, as `join_maps` returns them.
        top: First row.
        bottom: The row behind the last one.
    """
    full = _upsample_rows(maps, first, top, bottom)
    warped0, warped1 = _warp_rows(first, full[:, :2], top), _warp_rows(last, full[:, 2:4], top)
    return torch.lerp(warped1, warped0, full[:, 4:5]) + full[:, 5:8]


def _upsample_rows(maps: Maps, like: Images, top: int, bottom: int) -> Float[Tensor, "n 8 rows W"]:
    """Rows of the maps at the size of the image, half-pixel centres."""
    h, w = like.shape[-2:]
    if (top, bottom) == (0, h):
        return F.interpolate(maps, (h, w), mode="bilinear", align_corners=False)
    small, rows = maps.shape[-2], torch.arange(top, bottom, device=maps.device)
    # In whole numbers the row's place on the small grid is exact: (2 y + 1) small / (2 h) - 1 / 2.
    twice = ((2 * rows + 1) * small - h).clamp(min=0, max=2 * h * (small - 1))
    before = twice // (2 * h)
    share = ((twice - before * 2 * h).double() / (2 * h)).to(maps.dtype)[:, None]
    after = (before + 1).clamp(max=small - 1)
    tall = torch.lerp(maps.index_select(2, before), maps.index_select(2, after), share)
    return F.interpolate(tall, (bottom - top, w), mode="bilinear", align_corners=False)


def _warp_rows(image: Images, shift: Float[Tensor, "n 2 rows W"], top: int) -> Float[Tensor, "n 3 rows W"]:
    """``image`` looked up ``shift`` half-images away from the rows that begin at ``top``."""
    h, w = image.shape[-2:]
    rows = torch.arange(top, top + shift.shape[-2], dtype=shift.dtype, device=shift.device)
    ys = (2.0 * rows + 1.0) / h - 1.0
    xs = (2.0 * torch.arange(w, dtype=shift.dtype, device=shift.device) + 1.0) / w - 1.0
    place = (shift + torch.stack((xs.expand(len(ys), w), ys[:, None].expand(-1, w)))).permute(0, 2, 3, 1)
    # On a CPU `grid_sample` uses one thread per image of a batch: one image is looked up in strips.
    strips = math.gcd(len(ys), torch.get_num_threads()) if len(image) == 1 and image.is_cpu else 1
    if strips > 1:
        image, place = image.expand(strips, -1, -1, -1), place[0].unflatten(0, (strips, -1))
    values = F.grid_sample(image, place, mode="bilinear", padding_mode="border", align_corners=False)
    return values.transpose(0, 1).flatten(1, 2)[None] if strips > 1 else values
