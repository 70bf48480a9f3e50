# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Frames without their overlays on CUDA: the kernels of `rdvfi.content.overlay.make_plates`.

One launch widens the mask, one looks the other frame up, 12 loads and 3 writes a pixel, and what is covered there
too is continued from its surroundings (`rdvfi.ops.kernels.occlusion_kernels`). Floor: 40 bytes a pixel.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.occlusion_kernels import pull_push
from rdvfi.ops.kernels.overlay_kernels import window_filter
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load, tile


@jit
def _make_plate(images, flows, near, plates, known, pairs, height, width):
    """The other frame's pixels near an overlay, and where they are not covered there too."""
    n, y, x, mask = tile(height, width)
    area = height * width
    offsets = y * width + x
    other_image = images + (n + pairs) % (2 * pairs) * 3 * area
    flows += n * 2 * area
    u, v = load(flows, y, x, width, 1, mask), load(flows + area, y, x, width, 1, mask)
    point = corners(x + u, y + v, height, width)
    near += n % pairs * area
    covered = bilinear(near, point, width, 1, mask) > 0.05
    near_value = load(near, y, x, width, 1, mask)
    tl.store(known + n * area + offsets, tl.where(covered, 1.0 - near_value, 1.0), mask=mask)
    for c in tl.static_range(3):
        warped = bilinear(other_image + c * area, point, width, 1, mask)
        pixel = load(images + (n * 3 + c) * area, y, x, width, 1, mask)
        tl.store(plates + (n * 3 + c) * area + offsets, tl.where(near_value > 0.5, warped, pixel), mask=mask)


def plates(
    img0: Tensor, img1: Tensor, mask: Tensor, onward: Tensor, back: Tensor, *, edge: int, levels: int, min_share: float
) -> Tensor:
    """See `rdvfi.content.overlay.make_plates`."""
    images, flows = torch.cat((img0, img1)).float(), torch.cat((onward, back)).float()
    (n, _, h, w), mask = images.shape, mask.float().contiguous()
    near, filled_images, known = torch.empty_like(mask), torch.empty_like(images), images.new_empty((n, 1, h, w))
    ones = images.new_ones((1, 1, h, w))
    arguments = (mask, ones, near, h, w, mask.stride(0), 0, 0.0)
    window_filter[launch_grid(n // 2, h, w)](*arguments, MAXIMUM=True, OR_FACTOR=False, WINDOW=edge)
    _make_plate[launch_grid(n, h, w)](images, flows, near, filled_images, known, n // 2, h, w)
    return torch.stack(pull_push(filled_images, known, levels=levels, min_share=min_share).chunk(2), dim=1)
