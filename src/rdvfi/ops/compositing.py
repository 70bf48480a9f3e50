"""Full-size passes around the drawing of frames: overlays are removed and restored.

See `rdvfi.content.bars` and `rdvfi.content.overlay` for what they mean. Maps at motion size are enlarged
on the way, as `rdvfi.geometry.resize_image` does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.geometry import resize_image
from rdvfi.ops.inference import operator

MAX_STATIC_DIFFERENCE = 6 / 255
"""Largest difference of static pixels between two frames (coding noise), over the channels."""
_EPSILON = 1e-4


@operator("compositing", name="lifted_overlay", launches=2)
def remove_overlay(
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
    equal = ((img0 - img1).abs().amax(1, keepdim=True) < MAX_STATIC_DIFFERENCE).to(img0)
    opaque = (resize_image(mask, size) > 0.5).to(img0) * equal
    near = resize_image(near, size) > 0.01
    plate0, plate1 = (
        torch.where(near, resize_image(plate, size).to(image), image)
        for plate, image in zip(plates.unbind(1), (img0, img1), strict=True)
    )
    difference, plate_difference = (img0 - img1).float(), (plate0 - plate1).float()
    products = torch.cat(
        (
            (difference * plate_difference).sum(1, keepdim=True),
            (plate_difference * plate_difference).sum(1, keepdim=True),
        ),
        dim=1,
    )
    rows = F.avg_pool2d(products, (3, 1), 1, (1, 0), count_include_pad=False)
    numerator, denominator = F.avg_pool2d(rows, (1, 3), 1, (0, 1), count_include_pad=False).split(1, dim=1)
    transparency = ((numerator + _EPSILON) / (denominator + _EPSILON)).clamp(0.0, 1.0) * (1.0 - opaque)
    return plate0, plate1, torch.where(near, transparency, 1.0).to(img0)


@operator("compositing", name="composited")
def restore_overlay_and_bars(
    frames: Tensor, img0: Tensor, img1: Tensor, times: Tensor, lifted: list[Tensor], bars: list[Tensor]
) -> Tensor:
    """New frames with the removed overlay composited again, and with the bars of the nearer input frame.

    Args:
        frames: New frames, (b, t, 3, h, w).
        img0: First frames with overlay and bars.
        img1: Last ones.
        times: Times of the new frames, (t,).
        lifted: Result of `remove_overlay`; empty without an overlay.
        bars: First row of the picture and the row after its last, (b, 2), and the same for columns; empty without bars.
    """
    if lifted:
        plate0, plate1, transparency = lifted
        t = times.to(frames)[None, :, None, None, None]
        overlay0, overlay1 = img0 - transparency * plate0, img1 - transparency * plate1
        frames = (overlay0[:, None] + t * (overlay1 - overlay0)[:, None] + transparency[:, None] * frames).clamp(
            0.0, 1.0
        )
    if bars:
        h, w = frames.shape[-2:]
        picture = _line_mask(bars[0], h)[:, :, None] & _line_mask(bars[1], w)[:, None, :]
        later = (times > 0.5)[None, :, None, None, None]
        frames = torch.where(picture[:, None, None], frames, torch.where(later, img1[:, None], img0[:, None]))
    return frames


def _line_mask(inside: Tensor, length: int) -> Tensor:
    lines = torch.arange(length, device=inside.device)[None]
    return (lines >= inside[:, :1]) & (lines < inside[:, 1:])
