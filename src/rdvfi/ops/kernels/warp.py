"""Backward warping on CUDA: the kernels of `rdvfi.ops.backward_warp`.

Floor of the forward pass, per pixel of the output with C channels of s bytes: the flow is read
(8 bytes), each channel of the image is read about once (neighbouring look-ups share their corners
through the caches) and written once, hence ``8 + 2 C s`` bytes: 32 for float32 RGB, 20 for float16.
Against that stand about 20 operations for the coordinates and 6 per channel: the memory decides.

The backward pass reads flow, gradient and image and adds four weighted gradients per channel to a
float32 buffer, by atomic additions: ``16 + C (2 s + 16)`` bytes, most of them for the additions.
Their order changes from run to run, so the gradient of the image repeats to rounding only.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling import bilinear, corners, load, tile

BLOCK_Y, BLOCK_X = 8, 64
"""Pixels of one program instance."""


@triton.jit
@no_type_check
def _warp_kernel(
    image,
    flow,
    out,
    height,
    width,
    image_n,
    image_c,
    image_y,
    image_x,
    flow_n,
    flow_c,
    flow_y,
    flow_x,
    CHANNELS: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    n, y, x, inside = tile(height, width, BLOCK_Y, BLOCK_X)
    dx = load(flow + n * flow_n, y, x, flow_y, flow_x, inside)
    dy = load(flow + n * flow_n + flow_c, y, x, flow_y, flow_x, inside)
    x0, y0, x1, y1, fx, fy = corners(x + dx, y + dy, height, width)
    image += n * image_n
    out += (n * CHANNELS * height + y) * width + x
    for _ in range(CHANNELS):
        seen = bilinear(image, x0, y0, x1, y1, fx, fy, image_y, image_x, inside)
        tl.store(out, seen.to(out.dtype.element_ty), mask=inside)
        image += image_c
        out += height * width


def _programs(n: int, height: int, width: int) -> tuple[int]:
    """The launch grid: one instance per tile of every sample."""
    return (n * -(-height // BLOCK_Y) * -(-width // BLOCK_X),)


def backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """See `rdvfi.ops.backward_warp`; (n, c, h, w) and (n, 2, h, w), any strides."""
    n, c, h, w = image.shape
    out = torch.empty_like(image, memory_format=torch.contiguous_format)
    if out.numel():
        _warp_kernel[_programs(n, h, w)](
            image,
            flow,
            out,
            h,
            w,
            *image.stride(),
            *flow.stride(),
            CHANNELS=c,
            BLOCK_Y=BLOCK_Y,
            BLOCK_X=BLOCK_X,
        )
    return out
