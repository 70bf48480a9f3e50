"""Frames without their overlays on CUDA: the kernels of `rdvfi.content.overlay.make_plates`.

One launch widens the mask, one looks the other frame up, 12 loads and 3 writes a pixel, and what is covered there
too is continued from its surroundings (`rdvfi.ops.kernels.occlusion_kernels`). Floor: 40 bytes a pixel.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.occlusion_kernels import pull_push
from rdvfi.ops.kernels.overlay_kernels import window
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load, tile


@triton.jit
@no_type_check
def _plate(images, flows, near, plates, known, pairs, height, width):
    """What the other frame shows where an overlay is near, and where it shows it."""
    n, y, x, mask = tile(height, width)
    area = height * width
    here = y * width + x
    other = images + (n + pairs) % (2 * pairs) * 3 * area
    flows += n * 2 * area
    u, v = load(flows, y, x, width, 1, mask), load(flows + area, y, x, width, 1, mask)
    point = corners(x + u, y + v, height, width)
    near += n % pairs * area
    covered = bilinear(near, point, width, 1, mask) > 0.05
    own = load(near, y, x, width, 1, mask)
    tl.store(known + n * area + here, tl.where(covered, 1.0 - own, 1.0), mask=mask)
    for c in tl.static_range(3):
        seen = bilinear(other + c * area, point, width, 1, mask)
        plain = load(images + (n * 3 + c) * area, y, x, width, 1, mask)
        tl.store(plates + (n * 3 + c) * area + here, tl.where(own > 0.5, seen, plain), mask=mask)


def plates(
    img0: Tensor, img1: Tensor, mask: Tensor, onward: Tensor, back: Tensor, *, edge: int, levels: int, enough: float
) -> Tensor:
    """See `rdvfi.content.overlay.make_plates`."""
    images, flows = torch.cat((img0, img1)).float(), torch.cat((onward, back)).float()
    (n, _, h, w), mask = images.shape, mask.float().contiguous()
    near, made, known = torch.empty_like(mask), torch.empty_like(images), images.new_empty((n, 1, h, w))
    ones = images.new_ones((1, 1, h, w))
    arguments = (mask, ones, near, h, w, mask.stride(0), 0, 0.0)
    window[launch_grid(n // 2, h, w)](*arguments, LARGEST=True, BOTH=False, SIDE=edge)
    _plate[launch_grid(n, h, w)](images, flows, near, made, known, n // 2, h, w)
    return torch.stack(pull_push(made, known, levels=levels, enough=enough).chunk(2), dim=1)
