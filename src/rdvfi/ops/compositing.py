"""Full-size passes around the drawing of frames: overlays lifted off and laid back.

See `rdvfi.content.bars` and `rdvfi.content.overlay` for what they mean. Maps at motion size are enlarged
on the way, as `rdvfi.geometry.resize_image` does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.geometry import resize_image
from rdvfi.ops.inference import operator

EQUAL = 6 / 255
"""Difference of two frames that a codec may leave in what stands still, in its worst channel."""
_NONE = 1e-4


@operator("compositing", launches=2)
def lifted_overlay(
    img0: Tensor, img1: Tensor, mask: Tensor, near: Tensor, plates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Both frames without an overlay, and its transparency ``1 - alpha``, (b, 1, h, w).

    Args:
        img0: First frames, (b, 3, h, w).
        img1: Last ones.
        mask: 1 where the overlay is opaque, 0 elsewhere, at motion size, (b, 1, _, _).
        near: 1 there and around.
        plates: Both frames without it, at motion size, (b, 2, 3, _, _).
    """
    size = (img0.shape[-2], img0.shape[-1])
    equal = ((img0 - img1).abs().amax(1, keepdim=True) < EQUAL).to(img0)
    opaque = (resize_image(mask, size) > 0.5).to(img0) * equal
    near = resize_image(near, size) > 0.01
    first, last = (
        torch.where(near, resize_image(plate, size).to(image), image)
        for plate, image in zip(plates.unbind(1), (img0, img1), strict=True)
    )
    apart, moved = (img0 - img1).float(), (first - last).float()
    products = torch.cat(((apart * moved).sum(1, keepdim=True), (moved * moved).sum(1, keepdim=True)), dim=1)
    rows = F.avg_pool2d(products, (3, 1), 1, (1, 0), count_include_pad=False)
    up, down = F.avg_pool2d(rows, (1, 3), 1, (0, 1), count_include_pad=False).split(1, dim=1)
    clear = ((up + _NONE) / (down + _NONE)).clamp(0.0, 1.0) * (1.0 - opaque)
    return first, last, torch.where(near, clear, 1.0).to(img0)


@operator("compositing")
def composited(
    frames: Tensor, img0: Tensor, img1: Tensor, times: Tensor, lifted: list[Tensor], bars: list[Tensor]
) -> Tensor:
    """New frames with the overlay that was lifted off laid back, and the bars of the nearer input frame.

    Args:
        frames: New frames, (b, t, 3, h, w).
        img0: First frames, as they were.
        img1: Last ones.
        times: Of the new frames, (t,).
        lifted: What `lifted_overlay` made; empty without an overlay.
        bars: The first row of the picture and the one after its last, (b, 2), and the same for columns; empty
            without bars.
    """
    if lifted:
        first, last, clear = lifted
        t = times.to(frames)[None, :, None, None, None]
        front0, front1 = img0 - clear * first, img1 - clear * last
        frames = (front0[:, None] + t * (front1 - front0)[:, None] + clear[:, None] * frames).clamp(0.0, 1.0)
    if bars:
        h, w = frames.shape[-2:]
        inside = _between(bars[0], h)[:, :, None] & _between(bars[1], w)[:, None, :]
        later = (times > 0.5)[None, :, None, None, None]
        frames = torch.where(inside[:, None, None], frames, torch.where(later, img1[:, None], img0[:, None]))
    return frames


def _between(inside: Tensor, length: int) -> Tensor:
    lines = torch.arange(length, device=inside.device)[None]
    return (lines >= inside[:, :1]) & (lines < inside[:, 1:])
