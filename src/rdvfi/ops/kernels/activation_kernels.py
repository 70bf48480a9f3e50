"""Bias, residual connection, SiLU and replicated borders on CUDA: `rdvfi.ops.activation`.

Elements of a row are numbered with the channel the fastest, as `torch.channels_last` lays them out, so that
reading and writing is coalesced there; a row is numbered in 32 bits, of which a division takes a third of the
instructions that one of 64 takes. Sums are float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit

_MAX_BLOCK_SIZE = 1024
"""Elements of one program instance, at most."""


@jit
def _bias_silu_pad(
    x, bias, residual, total, out, channels, height, width, x_stride_b, x_stride_c, x_stride_h, x_stride_w,
    residual_stride_b, residual_stride_c, residual_stride_h, residual_stride_w, BORDER: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """One block of one padded row; elements inside the image also store the sum."""
    row_id, offsets = tl.program_id(0), tl.program_id(1) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    row_size = (width + 2 * BORDER) * channels
    mask = offsets < row_size
    column, row = offsets // channels - BORDER, row_id % (height + 2 * BORDER) - BORDER
    b, c = (row_id // (height + 2 * BORDER)).to(tl.int64), (offsets % channels).to(tl.int64)
    source_x = tl.minimum(tl.maximum(column, 0), width - 1).to(tl.int64)
    source_y = tl.minimum(tl.maximum(row, 0), height - 1).to(tl.int64)
    elements = x + b * x_stride_b + c * x_stride_c + source_y * x_stride_h + source_x * x_stride_w
    value = tl.load(elements, mask=mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        value += tl.load(bias + c, mask=mask, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        elements = residual + b * residual_stride_b + c * residual_stride_c
        elements += source_y * residual_stride_h + source_x * residual_stride_w
        value += tl.load(elements, mask=mask, other=0.0).to(tl.float32)
    interior = mask & (source_x == column) & (source_y == row)
    value = value.to(total.dtype.element_ty)
    tl.store(total + ((b * height + source_y) * width + source_x) * channels + c, value, mask=interior)
    value = value.to(tl.float32)
    value = (value / (1.0 + tl.exp(-value))).to(out.dtype.element_ty)
    tl.store(out + row_id.to(tl.int64) * row_size + offsets, value, mask=mask)


def activated(x: Tensor, bias: Tensor | None, residual: Tensor | None, border: int) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.activation.activate`."""
    b, c, h, w = x.shape
    total = torch.empty_like(x, memory_format=torch.channels_last)
    shape = (b, c, h + 2 * border, w + 2 * border)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    added = x if residual is None else residual
    arguments = [x, x if bias is None else bias, added, total, out, c, h, w, *x.stride(), *added.stride()]
    row_size = (w + 2 * border) * c
    block_size = min(_MAX_BLOCK_SIZE, triton.next_power_of_2(row_size))
    _bias_silu_pad[b * (h + 2 * border), -(-row_size // block_size)](
        *arguments, BORDER=border, HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, BLOCK_SIZE=block_size
    )
    return total, out
