"""Bias, residual connection, SiLU and replicated borders on CUDA: `rdvfi.ops.activation`.

Elements of a row are numbered with the channel the fastest, as `torch.channels_last` lays them out, so that
reading and writing is coalesced there; a row is numbered in 32 bits, of which a division takes a third of the
instructions that one of 64 takes. Sums are float32.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

_LONGEST = 1024
"""Elements of one program instance, at most."""


@triton.jit
@no_type_check
def _activated(
    x, bias, added, total, out, channels, height, width, x_stride_b, x_stride_c, x_stride_h, x_stride_w,
    added_stride_b, added_stride_c, added_stride_h, added_stride_w, BORDER: tl.constexpr, BIASED: tl.constexpr,
    ADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``BLOCK`` elements of the padded row ``program_id(0)`` of all; those inside also write the sum."""
    line, index = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    length = (width + 2 * BORDER) * channels
    mask = index < length
    column, row = index // channels - BORDER, line % (height + 2 * BORDER) - BORDER
    b, c = (line // (height + 2 * BORDER)).to(tl.int64), (index % channels).to(tl.int64)
    from_x = tl.minimum(tl.maximum(column, 0), width - 1).to(tl.int64)
    from_y = tl.minimum(tl.maximum(row, 0), height - 1).to(tl.int64)
    value = tl.load(
        x + b * x_stride_b + c * x_stride_c + from_y * x_stride_h + from_x * x_stride_w, mask=mask, other=0.0
    ).to(tl.float32)
    if BIASED:
        value += tl.load(bias + c, mask=mask, other=0.0).to(tl.float32)
    if ADDED:
        more = added + b * added_stride_b + c * added_stride_c + from_y * added_stride_h + from_x * added_stride_w
        value += tl.load(more, mask=mask, other=0.0).to(tl.float32)
    own = mask & (from_x == column) & (from_y == row)
    value = value.to(total.dtype.element_ty)
    tl.store(total + ((b * height + from_y) * width + from_x) * channels + c, value, mask=own)
    value = value.to(tl.float32)
    tl.store(
        out + line.to(tl.int64) * length + index, (value / (1.0 + tl.exp(-value))).to(out.dtype.element_ty), mask=mask
    )


def activated(x: Tensor, bias: Tensor | None, added: Tensor | None, border: int) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.activation.activated`."""
    b, c, h, w = x.shape
    total = torch.empty_like(x, memory_format=torch.channels_last)
    shape, last = (b, c, h + 2 * border, w + 2 * border), torch.channels_last
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=last)
    more = x if added is None else added
    arguments = [x, x if bias is None else bias, more, total, out, c, h, w, *x.stride(), *more.stride()]
    length = (w + 2 * border) * c
    block = min(_LONGEST, triton.next_power_of_2(length))
    _activated[b * (h + 2 * border), -(-length // block)](
        *arguments, BORDER=border, BIASED=bias is not None, ADDED=added is not None, BLOCK=block
    )
    return total, out
