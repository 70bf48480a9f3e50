"""Local correlation on CUDA: the kernels of `rdvfi.ops.correlation`.

One launch each: forward, gradient by the source, gradient by the target. The grids are those of
latents, a few thousand pixels, and everything is read from the caches: what these kernels save is
launches, 25 for a radius of 2 and 49 for one of 3, twice over.

Floor of the forward pass, per pixel with C channels of s bytes and K offsets: both features are read
and all scores written, ``(2 C + K) s`` bytes, and ``2 C K`` operations.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import launch_grid, load, tile, zeros


@triton.jit
@no_type_check
def _forward(
    source, target, out, height, width, source_stride_n, source_stride_c, source_stride_h, source_stride_w,
    target_stride_n, target_stride_c, target_stride_h, target_stride_w, scale, RADIUS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Scores of one offset."""
    n, y, x, mask = tile(height, width)
    side = 2 * RADIUS + 1
    offset = tl.program_id(1)
    to_y = tl.minimum(tl.maximum(y + offset // side - RADIUS, 0), height - 1)
    to_x = tl.minimum(tl.maximum(x + offset % side - RADIUS, 0), width - 1)
    source += n * source_stride_n
    target += n * target_stride_n
    total = zeros()
    for _ in range(CHANNELS):
        total += load(source, y, x, source_stride_h, source_stride_w, mask) * load(
            target, to_y, to_x, target_stride_h, target_stride_w, mask
        )
        source += source_stride_c
        target += target_stride_c
    out += ((n * side * side + offset) * height + y) * width + x
    tl.store(out, (total * scale).to(out.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def _by_source(
    grad, target, out, height, width, target_stride_n, target_stride_c, target_stride_h, target_stride_w, scale,
    RADIUS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient by one channel of the source; ``grad`` is contiguous."""
    n, y, x, mask = tile(height, width)
    c = tl.program_id(1)
    side = 2 * RADIUS + 1
    target += n * target_stride_n + c * target_stride_c
    grad += n * side * side * height * width
    total = zeros()
    for offset in range(side * side):
        to_y = tl.minimum(tl.maximum(y + offset // side - RADIUS, 0), height - 1)
        to_x = tl.minimum(tl.maximum(x + offset % side - RADIUS, 0), width - 1)
        total += load(grad, y, x, width, 1, mask) * load(target, to_y, to_x, target_stride_h, target_stride_w, mask)
        grad += height * width
    out += ((n * CHANNELS + c) * height + y) * width + x
    tl.store(out, (total * scale).to(out.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def _by_wide_target(
    grad, source, out, height, width, source_stride_n, source_stride_c, source_stride_h, source_stride_w, scale,
    RADIUS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient by one channel of the target with its replicated border, float32."""
    side = 2 * RADIUS + 1
    tall, wide = height + 2 * RADIUS, width + 2 * RADIUS
    n, y, x, mask = tile(tall, wide)
    c = tl.program_id(1)
    source += n * source_stride_n + c * source_stride_c
    grad += n * side * side * height * width
    total = zeros()
    for offset in range(side * side):
        from_y, from_x = y - offset // side, x - offset % side
        there = mask & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        total += load(grad, from_y, from_x, width, 1, there) * load(
            source, from_y, from_x, source_stride_h, source_stride_w, there
        )
        grad += height * width
    out += ((n * CHANNELS + c) * tall + y) * wide + x
    tl.store(out, total * scale, mask=mask)


def correlation(source: Tensor, target: Tensor, radius: int) -> Tensor:
    """See `rdvfi.ops.correlation`; any strides."""
    n, c, h, w = source.shape
    offsets = (2 * radius + 1) ** 2
    out = torch.empty((n, offsets, h, w), dtype=source.dtype, device=source.device)
    _forward[(*launch_grid(n, h, w), offsets)](
        source, target, out, h, w, *source.stride(), *target.stride(), scale=c**-0.5, RADIUS=radius, CHANNELS=c
    )
    return out


def correlation_backward(grad: Tensor, source: Tensor, target: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Gradients by the source and by the target."""
    from rdvfi.ops.local_correlation import folded

    n, c, h, w = source.shape
    grad, border = grad.contiguous(), 2 * radius
    by_source = torch.empty((n, c, h, w), dtype=source.dtype, device=source.device)
    by_wide = torch.empty((n, c, h + border, w + border), dtype=torch.float32, device=source.device)
    _by_source[(*launch_grid(n, h, w), c)](
        grad, target, by_source, h, w, *target.stride(), scale=c**-0.5, RADIUS=radius, CHANNELS=c
    )
    grid = (*launch_grid(n, h + border, w + border), c)
    _by_wide_target[grid](grad, source, by_wide, h, w, *source.stride(), scale=c**-0.5, RADIUS=radius, CHANNELS=c)
    return by_source, folded(by_wide, target, radius)
