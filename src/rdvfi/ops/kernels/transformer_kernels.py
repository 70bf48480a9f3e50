"""Norms and what surrounds them, on CUDA: the kernels of `rdvfi.ops.transformer`.

A program instance holds whole rows of features in registers, so everything is read and written once.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import reduce_sum

_LONGEST = 1024
"""Elements of one program instance of `_gated_unit`, at most."""
_PIXELS = 8
"""Pixels that one instance of `_rms_silu` norms."""


@triton.jit
@no_type_check
def _gated_norm(
    x, added, gate, constant, scale, shift, total, out, width, eps, ADDED: tl.constexpr, CONSTANT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One token."""
    row = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    mask = column < width
    value = tl.load(x + row + column, mask=mask, other=0.0)
    if ADDED:
        more = tl.load(added + row + column, mask=mask, other=0.0).to(tl.float32)
        more = more * tl.load(gate + column, mask=mask, other=0.0)
        value = (value.to(tl.float32) + more).to(value.dtype)
    if CONSTANT:
        more = tl.load(constant + column, mask=mask, other=0.0).to(tl.float32)
        value = (value.to(tl.float32) + more).to(value.dtype)
    tl.store(total + row + column, value, mask=mask)
    wide = value.to(tl.float32)
    mean = reduce_sum(wide, 0) / width
    apart = tl.where(mask, wide - mean, 0.0)
    variance = reduce_sum(apart * apart, 0) / width
    normed = apart / tl.sqrt(variance + eps)
    normed = normed * tl.load(scale + column, mask=mask, other=0.0) + tl.load(shift + column, mask=mask, other=0.0)
    tl.store(out + row + column, normed.to(value.dtype), mask=mask)


@triton.jit
@no_type_check
def _rotary_heads(
    queries, keys, query_weight, key_weight, cos, sin, out_queries, out_keys, tokens, width, head, row_stride, eps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One token's queries (``program_id(1) == 0``) or keys, in pairs of channels."""
    row = tl.program_id(0).to(tl.int64)
    x, weight, out = queries, query_weight, out_queries
    if tl.program_id(1) == 1:
        x, weight, out = keys, key_weight, out_keys
    pair = tl.arange(0, BLOCK)
    mask = pair < width // 2
    x += row * row_stride
    one = tl.load(x + 2 * pair, mask=mask, other=0.0)
    two = tl.load(x + 2 * pair + 1, mask=mask, other=0.0)
    dtype = one.dtype
    one, two = one.to(tl.float32), two.to(tl.float32)
    factor = 1.0 / tl.sqrt(reduce_sum(one * one + two * two, 0) / width + eps)
    one = (one * factor * tl.load(weight + 2 * pair, mask=mask, other=0.0).to(tl.float32)).to(dtype).to(tl.float32)
    two = two * factor * tl.load(weight + 2 * pair + 1, mask=mask, other=0.0).to(tl.float32)
    two = two.to(dtype).to(tl.float32)
    at = row % tokens * head + 2 * pair % head
    c, s = tl.load(cos + at, mask=mask, other=0.0), tl.load(sin + at + 1, mask=mask, other=0.0)
    out += row * width + 2 * pair
    tl.store(out, (one * c - two * s).to(dtype), mask=mask)
    tl.store(out + 1, (one * s + two * c).to(dtype), mask=mask)


@triton.jit
@no_type_check
def _rms_silu(
    x, gamma, out, channels, height, width, x_stride_b, x_stride_c, x_stride_h, x_stride_w, root, SILU: tl.constexpr,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``PIXELS`` pixels of row ``program_id(0)`` of all, with all their channels."""
    line, column = tl.program_id(0), (tl.program_id(1) * PIXELS + tl.arange(0, PIXELS))[:, None]
    c = tl.arange(0, BLOCK)[None, :].to(tl.int64)
    mask = (column < width) & (c < channels)
    b, y = (line // height).to(tl.int64), (line % height).to(tl.int64)
    pixel, column = line.to(tl.int64) * width + column, column.to(tl.int64)
    value = tl.load(x + b * x_stride_b + y * x_stride_h + column * x_stride_w + c * x_stride_c, mask=mask, other=0.0)
    wide = value.to(tl.float32)
    length = tl.sqrt(reduce_sum(wide * wide, 1))
    wide = (wide / tl.maximum(length, 1e-12)[:, None]).to(value.dtype).to(tl.float32)
    wide = wide * root * tl.load(gamma + c, mask=c < channels, other=0.0).to(tl.float32)
    if SILU:
        wide = wide / (1.0 + tl.exp(-wide))
    tl.store(out + pixel * channels + c, wide.to(value.dtype), mask=mask)


def gated_norm(
    x: Tensor,
    added: Tensor | None,
    gate: Tensor | None,
    constant: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.transformer.gated_norm`."""
    x, width = x.contiguous(), x.shape[-1]
    more = x if added is None else added.contiguous()
    rows = [x if row is None else row.contiguous() for row in (gate, constant, scale, shift)]
    total, out = torch.empty_like(x), torch.empty_like(x)
    flags = {"ADDED": added is not None, "CONSTANT": constant is not None}
    arguments = [x, more, *rows, total, out, width, eps]
    _gated_norm[(x.numel() // width,)](*arguments, **flags, BLOCK=triton.next_power_of_2(width))
    return total, out


def rotary_heads(
    queries: Tensor, keys: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.transformer.rotary_heads`."""
    b, n, width = queries.shape
    if queries.stride() != keys.stride() or queries.stride(2) != 1 or queries.stride(0) != n * queries.stride(1):
        queries, keys = queries.contiguous(), keys.contiguous()
    out = torch.empty((b, n, width), dtype=queries.dtype, device=queries.device)
    turned = out, torch.empty_like(out)
    cos, sin = cos.contiguous(), sin.contiguous()
    arguments = [queries, keys, query_weight, key_weight, cos, sin, *turned, n, width, cos.shape[1]]
    arguments += [queries.stride(1), eps]
    block = triton.next_power_of_2(width // 2)
    _rotary_heads[(b * n, 2)](*arguments, BLOCK=block)
    return turned


def rms_silu(x: Tensor, gamma: Tensor, silu: bool) -> Tensor:
    """See `rdvfi.ops.transformer.rms_silu`."""
    b, c, h, w = x.shape
    out = torch.empty_like(x, memory_format=torch.channels_last)
    arguments = [x, gamma.contiguous(), out, c, h, w, *x.stride(), c**0.5]
    block = triton.next_power_of_2(c)
    _rms_silu[b * h, -(-w // _PIXELS)](*arguments, SILU=silu, PIXELS=_PIXELS, BLOCK=block)
    return out


@triton.jit
@no_type_check
def _gated_unit(x, out, width, BLOCK: tl.constexpr):
    """``BLOCK`` results of row ``program_id(0)``."""
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < width
    index, at = row * width + column, 2 * row * width + column
    value = tl.load(x + at, mask=mask, other=0.0)
    gate = tl.load(x + at + width, mask=mask, other=0.0).to(tl.float32)
    gate = (gate * 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))).to(value.dtype).to(tl.float32)
    tl.store(out + index, (value.to(tl.float32) * gate).to(value.dtype), mask=mask)


def gated_unit(x: Tensor) -> Tensor:
    """See `rdvfi.ops.transformer.gated_unit`."""
    x, width = x.contiguous(), x.shape[-1] // 2
    out = x.new_empty((*x.shape[:-1], width))
    block = min(_LONGEST, triton.next_power_of_2(width))
    _gated_unit[x.numel() // (2 * width), -(-width // block)](x, out, width, BLOCK=block)
    return out
