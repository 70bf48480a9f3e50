# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Local correlation on CUDA: the kernels of `rdvfi.ops.correlation`.

One launch each: forward, gradient by the source, gradient by the target. The grids are those of
latents, a few thousand pixels, and everything is read from the caches: what these kernels save is
launches, 25 for a radius of 2 and 49 for one of 3, twice over.

Floor of the forward pass, per pixel with C channels of s bytes and K offsets: both features are read
and all scores written, ``(2 C + K) s`` bytes, and ``2 C K`` operations.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import launch_grid, load, tile, zeros


@jit
def _forward(
    source, target, out, height, width, source_stride_n, source_stride_c, source_stride_h, source_stride_w,
    target_stride_n, target_stride_c, target_stride_h, target_stride_w, scale, RADIUS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Scores of one offset."""
    n, y, x, mask = tile(height, width)
    side = 2 * RADIUS + 1
    offset = tl.program_id(1)
    target_y = tl.minimum(tl.maximum(y + offset // side - RADIUS, 0), height - 1)
    target_x = tl.minimum(tl.maximum(x + offset % side - RADIUS, 0), width - 1)
    source += n * source_stride_n
    target += n * target_stride_n
    score = zeros()
    for _ in range(CHANNELS):
        score += load(source, y, x, source_stride_h, source_stride_w, mask) * load(
            target, target_y, target_x, target_stride_h, target_stride_w, mask
        )
        source += source_stride_c
        target += target_stride_c
    out += ((n * side * side + offset) * height + y) * width + x
    tl.store(out, (score * scale).to(out.dtype.element_ty), mask=mask)


@jit
def _grad_source(
    grad, target, out, height, width, stride_n, stride_c, stride_h, stride_w, scale, RADIUS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient by one channel of the source; ``grad`` is contiguous."""
    n, y, x, mask = tile(height, width)
    c = tl.program_id(1)
    side = 2 * RADIUS + 1
    target += n * stride_n + c * stride_c
    grad += n * side * side * height * width
    total = zeros()
    for offset in range(side * side):
        target_y = tl.minimum(tl.maximum(y + offset // side - RADIUS, 0), height - 1)
        target_x = tl.minimum(tl.maximum(x + offset % side - RADIUS, 0), width - 1)
        total += load(grad, y, x, width, 1, mask) * load(target, target_y, target_x, stride_h, stride_w, mask)
        grad += height * width
    out += ((n * CHANNELS + c) * height + y) * width + x
    tl.store(out, (total * scale).to(out.dtype.element_ty), mask=mask)


@jit
def _grad_padded_target(
    grad, source, out, height, width, stride_n, stride_c, stride_h, stride_w, scale, RADIUS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient by one channel of the target with its replicated border, float32."""
    side = 2 * RADIUS + 1
    padded_height, padded_width = height + 2 * RADIUS, width + 2 * RADIUS
    n, y, x, mask = tile(padded_height, padded_width)
    c = tl.program_id(1)
    source += n * stride_n + c * stride_c
    grad += n * side * side * height * width
    total = zeros()
    for offset in range(side * side):
        source_y, source_x = y - offset // side, x - offset % side
        tap_mask = mask & (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width)
        total += load(grad, source_y, source_x, width, 1, tap_mask) * load(
            source, source_y, source_x, stride_h, stride_w, tap_mask
        )
        grad += height * width
    out += ((n * CHANNELS + c) * padded_height + y) * padded_width + x
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
    from rdvfi.ops.local_correlation import fold_border_gradient

    n, c, h, w = source.shape
    grad, border = grad.contiguous(), 2 * radius
    grad_source = torch.empty((n, c, h, w), dtype=source.dtype, device=source.device)
    grad_padded = torch.empty((n, c, h + border, w + border), dtype=torch.float32, device=source.device)
    _grad_source[(*launch_grid(n, h, w), c)](
        grad, target, grad_source, h, w, *target.stride(), scale=c**-0.5, RADIUS=radius, CHANNELS=c
    )
    grid = (*launch_grid(n, h + border, w + border), c)
    _grad_padded_target[grid](
        grad, source, grad_padded, h, w, *source.stride(), scale=c**-0.5, RADIUS=radius, CHANNELS=c
    )
    return grad_source, fold_border_gradient(grad_padded, target, radius)
