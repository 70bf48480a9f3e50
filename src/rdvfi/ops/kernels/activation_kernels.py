"""Bias, residual connection, SiLU and replicated borders on CUDA: `rdvfi.ops.activation`.

Elements are numbered with the channel the fastest, as `torch.channels_last` lays them out, so that
reading and writing is coalesced there. Sums are float32.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
@no_type_check
def _activated(
    x,
    bias,
    added,
    total,
    out,
    count,
    channels,
    height,
    width,
    x_b,
    x_c,
    x_y,
    x_x,
    added_b,
    added_c,
    added_y,
    added_x,
    BORDER: tl.constexpr,
    BIASED: tl.constexpr,
    ADDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``BLOCK`` of the padded elements; those inside also write the sum."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    c, pixel = index % channels, index // channels
    column, line = pixel % (width + 2 * BORDER) - BORDER, pixel // (width + 2 * BORDER)
    row, b = line % (height + 2 * BORDER) - BORDER, line // (height + 2 * BORDER)
    from_x = tl.minimum(tl.maximum(column, 0), width - 1)
    from_y = tl.minimum(tl.maximum(row, 0), height - 1)
    value = tl.load(x + b * x_b + c * x_c + from_y * x_y + from_x * x_x, mask=inside, other=0.0).to(tl.float32)
    if BIASED:
        value += tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
    if ADDED:
        more = added + b * added_b + c * added_c + from_y * added_y + from_x * added_x
        value += tl.load(more, mask=inside, other=0.0).to(tl.float32)
    own = inside & (from_x == column) & (from_y == row)
    value = value.to(total.dtype.element_ty)
    tl.store(total + ((b * height + from_y) * width + from_x) * channels + c, value, mask=own)
    value = value.to(tl.float32)
    tl.store(out + index, (value / (1.0 + tl.exp(-value))).to(out.dtype.element_ty), mask=inside)


def activated(x: Tensor, bias: Tensor | None, added: Tensor | None, border: int) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.activation.activated`."""
    b, c, h, w = x.shape
    total = torch.empty_like(x, memory_format=torch.channels_last)
    shape, last = (b, c, h + 2 * border, w + 2 * border), torch.channels_last
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=last)
    more = x if added is None else added
    arguments = [x, x if bias is None else bias, more, total, out, out.numel(), c, h, w, *x.stride(), *more.stride()]
    _activated[(-(-out.numel() // _BLOCK),)](
        *arguments, BORDER=border, BIASED=bias is not None, ADDED=added is not None, BLOCK=_BLOCK
    )
    return total, out
