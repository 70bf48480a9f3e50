"""Drawing of frames for ONNX, in a loop of the graph over strips of rows.

The samples of a strip stay in the processor's cache, which halves the time of ONNX Runtime, and no end frame is
copied for each time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan_op

from rdvfi.ops.drawing import reference

STRIPS = 32
"""Strips of a frame."""


def draw_in_strips(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor, dtype: torch.dtype
) -> Tensor:
    """`rdvfi.ops.render` of one pair."""
    t, h = flow0.shape[1], img0.shape[-2]
    maps = reference.join_maps(flow0, flow1, mask, residual)[0]
    tall = F.interpolate(maps, (h, maps.shape[-1]), mode="bilinear", align_corners=False)
    rows = (h + STRIPS - 1) // STRIPS
    index = torch.arange(STRIPS)[:, None] * rows + torch.arange(rows)  # the last rows lie beyond the frame
    strips = tall[:, :, index.clamp(max=h - 1)].transpose(1, 2).flatten(0, 1)
    ys = pixel_centres(index, h)[None, :, :, None].expand(t, STRIPS, rows, 1).flatten(0, 1)
    _, drawn = scan_op(_draw_strip, [torch.zeros(1)], [strips, ys], [img0.float(), img1.float()])
    frames = drawn.unflatten(0, (1, t, STRIPS)).transpose(2, 3).flatten(3, 4)
    return frames.index_select(3, torch.arange(h)).to(dtype)


def _draw_strip(carry: Tensor, maps: Tensor, ys: Tensor, img0: Tensor, img1: Tensor) -> list[Tensor]:
    """One strip of a frame; the carry is unused, but a loop needs one."""
    full = F.interpolate(maps[None], (maps.shape[-2], img0.shape[-1]), mode="bilinear", align_corners=False)
    flow0, flow1, share, colour = full.split((2, 2, 1, 3), dim=1)
    first, last = sample_image(img0, flow0.unbind(1), ys), sample_image(img1, flow1.unbind(1), ys)
    return [carry.clone(), (last + share * (first - last) + colour).squeeze(0).clamp(0.0, 1.0)]


def pixel_centres(pixels: Tensor, side: int) -> Tensor:
    """Pixel centres in units of half the image, from its centre: the coordinates of `grid_sample`."""
    return (2.0 * pixels.to(torch.float32) + 1.0) / side - 1.0


def sample_image(image: Tensor, shift: Sequence[Tensor], ys: Tensor) -> Tensor:
    """The image at the pixels of the rows ``ys`` (rows, 1), displaced by ``shift = (dx, dy)`` half-images.

    Outside, the image is continued by its border: positions are clamped to the centres of the border pixels, where
    padding has no weight. ONNX Runtime samples with zero padding two to nine times as fast as with border padding.
    """
    h, w = image.shape[-2:]
    xs = pixel_centres(torch.arange(w), w)
    positions = (
        (middle + shift[axis]).clamp(1.0 / side - 1.0, 1.0 - 1.0 / side)
        for axis, (middle, side) in enumerate(((xs, w), (ys, h)))
    )
    return F.grid_sample(image, torch.stack(tuple(positions), dim=-1), padding_mode="zeros", align_corners=False)
