"""Drawing of frames for ONNX, in a loop of the graph over strips of rows.

What is looked up in a strip stays in a processor's cache, which halves the time of ONNX Runtime, and no end frame
is copied for every time.
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
    maps = reference.join(flow0, flow1, mask, residual)[0]
    tall = F.interpolate(maps, (h, maps.shape[-1]), mode="bilinear", align_corners=False)
    rows = (h + STRIPS - 1) // STRIPS
    index = torch.arange(STRIPS)[:, None] * rows + torch.arange(rows)  # the last ones are beyond the frame
    strips = tall[:, :, index.clamp(max=h - 1)].transpose(1, 2).flatten(0, 1)
    ys = centres(index, h)[None, :, :, None].expand(t, STRIPS, rows, 1).flatten(0, 1)
    _, drawn = scan_op(_strip, [torch.zeros(1)], [strips, ys], [img0.float(), img1.float()])
    frames = drawn.unflatten(0, (t, STRIPS)).transpose(1, 2).flatten(2, 3)
    return frames.index_select(2, torch.arange(h))[None].to(dtype)


def _strip(carry: Tensor, maps: Tensor, ys: Tensor, img0: Tensor, img1: Tensor) -> list[Tensor]:
    """A strip of a frame; a loop has to carry something."""
    full = F.interpolate(maps[None], (maps.shape[-2], img0.shape[-1]), mode="bilinear", align_corners=False)
    flow0, flow1, share, colour = full.split((2, 2, 1, 3), dim=1)
    first, last = looked_up(img0, flow0.unbind(1), ys), looked_up(img1, flow1.unbind(1), ys)
    return [carry.clone(), (last + share * (first - last) + colour).clamp(0.0, 1.0).squeeze(0)]


def centres(pixels: Tensor, side: int) -> Tensor:
    """Where pixels are, in half-images from the middle."""
    return (2.0 * pixels.to(torch.float32) + 1.0) / side - 1.0


def looked_up(image: Tensor, shift: Sequence[Tensor], ys: Tensor) -> Tensor:
    """An image looked up ``shift = (dx, dy)`` half-images away from the pixels of the rows at ``ys``, (rows, 1).

    What lies outside is seen at the border: places are kept among the centres of pixels, where whatever is around
    the image has no weight. ONNX Runtime looks up with zeros around two to nine times as fast as with its own border.
    """
    h, w = image.shape[-2:]
    xs = centres(torch.arange(w), w)
    places = (
        (middle + shift[axis]).clamp(1.0 / side - 1.0, 1.0 - 1.0 / side)
        for axis, (middle, side) in enumerate(((xs, w), (ys, h)))
    )
    return F.grid_sample(image, torch.stack(tuple(places), dim=-1), padding_mode="zeros", align_corners=False)
