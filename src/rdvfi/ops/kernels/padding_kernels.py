"""Activation and border in one pass on CUDA: the kernel of `rdvfi.ops.silu_padded`.

Every value is read once and written once, ``2 s`` bytes, and the border a second time; about 10 operations
a value. Two launches and as many passes before.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import TILE, load, programs, tile


@triton.jit
@no_type_check
def _silu(
    x,
    out,
    channels,
    height,
    width,
    x_n,
    x_c,
    x_y,
    x_x,
    out_n,
    out_c,
    out_y,
    out_x,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    """SiLU of one channel, extended by its border."""
    m, y, x_, inside = tile(height + 2, width + 2, BLOCK_Y, BLOCK_X)
    n, c = m // channels, m % channels
    row, column = tl.minimum(tl.maximum(y - 1, 0), height - 1), tl.minimum(tl.maximum(x_ - 1, 0), width - 1)
    value = load(x + n * x_n + c * x_c, row, column, x_y, x_x, inside)
    value = value / (1.0 + tl.exp(-value))
    at = out + n * out_n + c * out_c + y.to(tl.int64) * out_y + x_.to(tl.int64) * out_x
    tl.store(at, value.to(out.dtype.element_ty), mask=inside)


def silu_padded(x: Tensor) -> Tensor:
    """See `rdvfi.ops.silu_padded`."""
    n, c, h, w = x.shape
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    kind = torch.channels_last if last else torch.contiguous_format
    out = torch.empty((n, c, h + 2, w + 2), dtype=x.dtype, device=x.device, memory_format=kind)
    if out.numel():
        with torch.cuda.device_of(x):
            grid = programs(n * c, h + 2, w + 2)
            _silu[grid](x, out, c, h, w, *x.stride(), *out.stride(), **TILE)
    return out
