"""Norms and what surrounds them, on CUDA: the kernels of `rdvfi.ops.transformer`.

A program instance holds whole rows of features in registers, so everything is read and written once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import reduce_sum

_MAX_BLOCK_SIZE = 1024
"""Elements of one program instance of `_gated_unit`, at most."""
_PIXEL_BLOCK = 8
"""Pixels that one instance of `_rms_silu` norms."""


@jit
def _gated_norm(
    x, residual, gate, constant, scale, shift, total, out, width, eps, HAS_RESIDUAL: tl.constexpr,
    HAS_CONSTANT: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """One token."""
    row = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK_SIZE)
    mask = column < width
    value = tl.load(x + row + column, mask=mask, other=0.0)
    if HAS_RESIDUAL:
        term = tl.load(residual + row + column, mask=mask, other=0.0).to(tl.float32)
        term = term * tl.load(gate + column, mask=mask, other=0.0)
        value = (value.to(tl.float32) + term).to(value.dtype)
    if HAS_CONSTANT:
        term = tl.load(constant + column, mask=mask, other=0.0).to(tl.float32)
        value = (value.to(tl.float32) + term).to(value.dtype)
    tl.store(total + row + column, value, mask=mask)
    value32 = value.to(tl.float32)
    mean = reduce_sum(value32, 0) / width
    centred = tl.where(mask, value32 - mean, 0.0)
    variance = reduce_sum(centred * centred, 0) / width
    normed = centred / tl.sqrt(variance + eps)
    normed = normed * tl.load(scale + column, mask=mask, other=0.0) + tl.load(shift + column, mask=mask, other=0.0)
    tl.store(out + row + column, normed.to(value.dtype), mask=mask)


@jit
def _rotary_heads(
    queries, keys, query_weight, key_weight, cos, sin, out_queries, out_keys, tokens, width, head_size, row_stride,
    eps, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """One token's queries (``program_id(1) == 0``) or keys, in pairs of channels."""
    row = tl.program_id(0).to(tl.int64)
    x, weight, out = queries, query_weight, out_queries
    if tl.program_id(1) == 1:
        x, weight, out = keys, key_weight, out_keys
    pair = tl.arange(0, BLOCK_SIZE)
    mask = pair < width // 2
    x += row * row_stride
    first = tl.load(x + 2 * pair, mask=mask, other=0.0)
    second = tl.load(x + 2 * pair + 1, mask=mask, other=0.0)
    dtype = first.dtype
    first, second = first.to(tl.float32), second.to(tl.float32)
    factor = 1.0 / tl.sqrt(reduce_sum(first * first + second * second, 0) / width + eps)
    first = (first * factor * tl.load(weight + 2 * pair, mask=mask, other=0.0).to(tl.float32)).to(dtype).to(tl.float32)
    second = second * factor * tl.load(weight + 2 * pair + 1, mask=mask, other=0.0).to(tl.float32)
    second = second.to(dtype).to(tl.float32)
    angle_offsets = row % tokens * head_size + 2 * pair % head_size
    c, s = tl.load(cos + angle_offsets, mask=mask, other=0.0), tl.load(sin + angle_offsets + 1, mask=mask, other=0.0)
    out += row * width + 2 * pair
    tl.store(out, (first * c - second * s).to(dtype), mask=mask)
    tl.store(out + 1, (first * s + second * c).to(dtype), mask=mask)


@jit
def _rms_silu(
    x, gamma, out, channels, height, width, stride_b, stride_c, stride_h, stride_w, scale, SILU: tl.constexpr,
    PIXEL_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """``PIXEL_BLOCK`` pixels of row ``program_id(0)`` of all, with all their channels."""
    row_id, column = tl.program_id(0), (tl.program_id(1) * PIXEL_BLOCK + tl.arange(0, PIXEL_BLOCK))[:, None]
    c = tl.arange(0, BLOCK_SIZE)[None, :].to(tl.int64)
    mask = (column < width) & (c < channels)
    b, y = (row_id // height).to(tl.int64), (row_id % height).to(tl.int64)
    pixel_index, column = row_id.to(tl.int64) * width + column, column.to(tl.int64)
    value = tl.load(x + b * stride_b + y * stride_h + column * stride_w + c * stride_c, mask=mask, other=0.0)
    value32 = value.to(tl.float32)
    length = tl.sqrt(reduce_sum(value32 * value32, 1))
    value32 = (value32 / tl.maximum(length, 1e-12)[:, None]).to(value.dtype).to(tl.float32)
    value32 = value32 * scale * tl.load(gamma + c, mask=c < channels, other=0.0).to(tl.float32)
    if SILU:
        value32 = value32 / (1.0 + tl.exp(-value32))
    tl.store(out + pixel_index * channels + c, value32.to(value.dtype), mask=mask)


def gated_norm(
    x: Tensor,
    residual: Tensor | None,
    gate: Tensor | None,
    constant: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.transformer.gated_norm`."""
    x, width = x.contiguous(), x.shape[-1]
    residual_or_x = x if residual is None else residual.contiguous()
    vectors = [x if row is None else row.contiguous() for row in (gate, constant, scale, shift)]
    total, out = torch.empty_like(x), torch.empty_like(x)
    flags = {"HAS_RESIDUAL": residual is not None, "HAS_CONSTANT": constant is not None}
    arguments = [x, residual_or_x, *vectors, total, out, width, eps]
    _gated_norm[(x.numel() // width,)](*arguments, **flags, BLOCK_SIZE=triton.next_power_of_2(width))
    return total, out


def rotary_heads(
    queries: Tensor, keys: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.transformer.rotary_heads`."""
    b, n, width = queries.shape
    if queries.stride() != keys.stride() or queries.stride(2) != 1 or queries.stride(0) != n * queries.stride(1):
        queries, keys = queries.contiguous(), keys.contiguous()
    out = torch.empty((b, n, width), dtype=queries.dtype, device=queries.device)
    outputs = out, torch.empty_like(out)
    cos, sin = cos.contiguous(), sin.contiguous()
    arguments = [queries, keys, query_weight, key_weight, cos, sin, *outputs, n, width, cos.shape[1]]
    arguments += [queries.stride(1), eps]
    block_size = triton.next_power_of_2(width // 2)
    _rotary_heads[(b * n, 2)](*arguments, BLOCK_SIZE=block_size)
    return outputs


def rms_silu(x: Tensor, gamma: Tensor, silu: bool) -> Tensor:
    """See `rdvfi.ops.transformer.rms_silu`."""
    b, c, h, w = x.shape
    out = torch.empty_like(x, memory_format=torch.channels_last)
    arguments = [x, gamma.contiguous(), out, c, h, w, *x.stride(), c**0.5]
    block_size = triton.next_power_of_2(c)
    _rms_silu[b * h, -(-w // _PIXEL_BLOCK)](*arguments, SILU=silu, PIXEL_BLOCK=_PIXEL_BLOCK, BLOCK_SIZE=block_size)
    return out


@jit
def _gated_unit(x, out, width, BLOCK_SIZE: tl.constexpr):
    """``BLOCK_SIZE`` results of row ``program_id(0)``."""
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = column < width
    out_offsets, offsets = row * width + column, 2 * row * width + column
    value = tl.load(x + offsets, mask=mask, other=0.0)
    gate = tl.load(x + offsets + width, mask=mask, other=0.0).to(tl.float32)
    gate = (gate * 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))).to(value.dtype).to(tl.float32)
    tl.store(out + out_offsets, (value.to(tl.float32) * gate).to(value.dtype), mask=mask)


def gated_unit(x: Tensor) -> Tensor:
    """See `rdvfi.ops.transformer.gated_unit`."""
    x, width = x.contiguous(), x.shape[-1] // 2
    out = x.new_empty((*x.shape[:-1], width))
    block_size = min(_MAX_BLOCK_SIZE, triton.next_power_of_2(width))
    _gated_unit[x.numel() // (2 * width), -(-width // block_size)](x, out, width, BLOCK_SIZE=block_size)
    return out
