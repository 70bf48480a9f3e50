"""Drawing frames on a CPU, tile by tile.

The frames are those of `rdvfi.ops.render`; this draws where `rdvfi.ops.bands` cannot. What costs
time in the plain composition is less the arithmetic than everything around it: each full-size
intermediate goes through memory, fresh memory is mapped page by page, upsampling picks its four
neighbours one by one, and `grid_sample` uses one thread per image of a batch. Here a tile goes
through all steps while it is in the cache, and each band of its rows is given to `grid_sample` as a
batch of one strip per thread.

Upsampling is separable: the small maps are widened first, at ``H / h`` times less work than at full
size. Then a tile's rows are interpolated with its columns laid out as channels (channels last), for
which PyTorch's bilinear kernel works on whole vectors; that is why a tile is made of whole columns.
Both coordinates stay planes of their own, which `grid_sample` reads as fast as pairs.

Per pixel and time this takes 24 gathered values and about 100 operations in two warps, 24
operations for the maps and 9 for the blend. Only the frames, 12 bytes a pixel, have to reach the
memory; images (24 bytes) and small maps come from the last cache when there are several times. The
gathers are the floor: the two `grid_sample` alone take more than half of the time.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.fresh import fresh
from rdvfi.types import Image, Video

_TILE = 600_000
"""Pixels whose upsampled maps are held at a time, 32 bytes each: they should stay in the cache."""
_STRIP = 32_768
"""Pixels that a thread warps and blends at a time, at about 30 bytes each."""


def draw_in_tiles(img0: Image, img1: Image, maps: Float[Tensor, "b t 8 h w"]) -> Video:
    """Frames from float32 images and joined maps, clamped to [0, 1].

    Args:
        img0: First frames.
        img1: Last frames.
        maps: Both flows in half-images, the unit of `grid_sample`; the share of the first frame;
            the residual colour.
    """
    h, w = img0.shape[-2:]
    frames = fresh(*maps.shape[:2], 3, h, w)
    columns = -(-w // -(-w * h // _TILE))
    threads = torch.get_num_threads()
    rows = min(h, max(1, _STRIP // columns) * threads)
    across, down = _centres(w), _centres(h)[:, None]
    wide = torch.empty((1, 8, maps.shape[-2], w), dtype=torch.float32)
    for first, last, times, drawn in zip(img0, img1, maps, frames, strict=True):
        for small, frame in zip(times, drawn, strict=True):
            torch.ops.aten.upsample_bilinear2d.out(small[None], wide.shape[-2:], False, None, None, out=wide)
            wide[0, 0:4:2] += across
            for left in _starts(w, columns):
                full = _lengthened(wide[0, :, :, left : left + columns], h)
                full[1:4:2] += down
                tile = frame[:, :, left : left + columns]
                for top in _starts(h, rows):
                    band = slice(top, top + rows)
                    _draw(first, last, full[:, band], tile[:, band], math.gcd(rows, threads))
    return frames


def _starts(size: int, step: int) -> list[int]:
    """Where parts of ``step`` begin that cover ``size``; the last reaches back over drawn ones."""
    return [min(start, size - step) for start in range(0, size, step)]


def _lengthened(wide: Float[Tensor, "8 small columns"], h: int) -> Float[Tensor, "8 H columns"]:
    """Rows interpolated to ``h``; columns go as channels."""
    as_channels = wide.contiguous()[:, :, None].permute(0, 3, 1, 2)
    return F.interpolate(as_channels, (h, 1), mode="bilinear")[..., 0].permute(0, 2, 1)


def _draw(
    first: Float[Tensor, "3 H W"],
    last: Float[Tensor, "3 H W"],
    full: Float[Tensor, "8 rows columns"],
    out: Float[Tensor, "3 rows columns"],
    strips: int,
) -> None:
    """Warp both images, blend, add the residual and clamp."""
    strip = full.unflatten(1, (strips, -1))
    seen0, seen1 = (
        F.grid_sample(
            image.expand(strips, *image.shape),
            strip[i : i + 2].permute(1, 2, 3, 0),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        for i, image in ((0, first), (2, last))
    )
    drawn = torch.lerp(seen1, seen0, strip[4][:, None], out=seen0)
    drawn += strip[5:].transpose(0, 1)
    torch.clamp(drawn, 0.0, 1.0, out=out.unflatten(1, (strips, -1)).transpose(0, 1))


def _centres(size: int) -> Float[Tensor, " size"]:
    """Centres of ``size`` pixels, from -1 to 1 across the image."""
    return ((2.0 * torch.arange(size, dtype=torch.float64) + 1.0) / size - 1.0).float()
