"""Steps of learned matching on CUDA: the kernels of `rdvfi.motion.flow.match_ops` and `attention`.

Pictures of 448x256 are matched on 28x16 cells: 448 by 448 scores for each pair. Attention's rotation reads
and writes every feature once, ``2 s`` bytes each with two trigonometric functions; the means of all matches
read the scores three times, 4 bytes and 4 to 8 operations each; a look-up reads 4 scores and writes one,
about 25 operations; upsampling reads 9 logits per fine pixel, 36 bytes, and writes 8. All is a few
megabytes at most, so launches and latency decide: these were 10 to 40 launches each.
"""

from math import log, pi
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import (
    corners,
    launch_grid,
    load,
    load_clamped,
    reduce_sum,
    round_trip,
    store_pair,
    tile,
    vector_length,
    zeros,
)

_TOKENS = 32


@triton.jit
@no_type_check
def _rotate(
    x, out, heads, height, width, x_stride_n, x_stride_k, x_stride_c, x_stride_h, x_stride_w, step, turned, slowest,
    span, HALF: tl.constexpr, CHANNELS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Tokens; channels of the first ``turned`` heads are turned by their position."""
    m = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS))[:, None]
    n, k = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    c = tl.arange(0, CHANNELS)[None, :]
    there = (m < height * width) & (c < HALF)
    row, column = m // width, m % width
    pairs = HALF // 2
    share = tl.where(c < pairs, c, c - pairs) / tl.maximum(pairs - 1.0, 1.0)
    place = tl.where(c < pairs, column, row) + 0.5
    angle = tl.where(k < turned, slowest * tl.exp(share * span) * place * step, 0.0)
    cosine, sine = tl.cos(angle), tl.sin(angle)
    at = x + n * x_stride_n + k * x_stride_k + c * x_stride_c + row * x_stride_h + column * x_stride_w
    a = tl.load(at, mask=there, other=0.0).to(tl.float32)
    b = tl.load(at + HALF * x_stride_c, mask=there, other=0.0).to(tl.float32)
    out += (n * heads + k) * height * width * 2 * HALF + m * 2 * HALF + c
    kind = out.dtype.element_ty
    tl.store(out, (a * cosine - b * sine).to(kind), mask=there)
    tl.store(out + HALF, (a * sine + b * cosine).to(kind), mask=there)


def rotated_tokens(x: Tensor, step: float, turned: int, *, longest: float, shortest: float) -> Tensor:
    """See `rdvfi.motion.flow.attention.rotated_tokens`."""
    n, k, c, h, w = x.shape
    out = x.new_empty((n, k, h * w, c))

    rates = (2.0 * pi / longest, log(longest / shortest))
    grid, channels = (-(-h * w // _TOKENS), n * k), triton.next_power_of_2(c // 2)
    arguments = [x, out, k, h, w, *x.stride(), float(step), turned, *rates]
    _rotate[grid](*arguments, HALF=c // 2, CHANNELS=channels, TOKENS=_TOKENS)
    return out


@triton.jit
@no_type_check
def _line_sums(scores, largest, out, cells, BLOCK: tl.constexpr):
    """Sums of ``exp`` over every column (instances 0 on axis 1), and over every row (1)."""
    i, by_row, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    j = tl.arange(0, BLOCK)
    at = scores + b * cells * cells + tl.where(by_row == 1, i * cells + j, j * cells + i)
    weight = tl.exp(tl.load(at, mask=j < cells, other=float("-inf")) - tl.load(largest + b))
    total = reduce_sum(weight, 0)
    tl.store(out + (by_row * tl.num_programs(2) + b) * cells + i, tl.maximum(total, 1e-30))


@triton.jit
@no_type_check
def _means(scores, largest, totals, out, cells, height, width, BLOCK: tl.constexpr):
    """The mean of a cell's matches as a flow, and the logarithm of their spread."""
    i, back, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    pairs = tl.num_programs(2)
    j = tl.arange(0, BLOCK)
    there = j < cells
    at = scores + b * cells * cells + tl.where(back == 0, i * cells + j, j * cells + i)
    weight = tl.exp(tl.load(at, mask=there, other=float("-inf")) - tl.load(largest + b))
    weight = weight * weight / tl.load(totals + (back * pairs + b) * cells + j, mask=there, other=1.0)
    x, y = j % width - (width - 1.0) / 2.0, j // width - (height - 1.0) / 2.0
    total = tl.maximum(reduce_sum(weight, 0), 1e-36)
    mean_x = reduce_sum(weight * x, 0) / total
    mean_y = reduce_sum(weight * y, 0) / total
    square = reduce_sum(weight * (x * x + y * y), 0) / total
    spread = tl.maximum(square - mean_x * mean_x - mean_y * mean_y, 0.0)
    out += (back * pairs + b) * 3 * cells + i
    tl.store(out, mean_x + (width - 1.0) / 2.0 - i % width)
    tl.store(out + cells, mean_y + (height - 1.0) / 2.0 - i // width)
    tl.store(out + 2 * cells, tl.log(1.0 + spread))


def expected_flow(scores: Tensor, height: int, width: int) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.expected_flow`: flow, then uncertainty."""
    scores = scores.float().contiguous()
    (b, m, _), block = scores.shape, triton.next_power_of_2(scores.shape[1])
    largest, totals = scores.amax((1, 2)), scores.new_empty((2, b, m))
    out = scores.new_empty((2 * b, 3, height, width))
    _line_sums[m, 2, b](scores, largest, totals, m, BLOCK=block)
    _means[m, 2, b](scores, largest, totals, out, m, height, width, BLOCK=block)
    return out


@triton.jit
@no_type_check
def _look_up(
    scores, flow, out, height, width, flow_stride_n, flow_stride_c, flow_stride_h, flow_stride_w, RADIUS: tl.constexpr
):
    """Scores of one offset from where the flow leads."""
    n, y, x, mask = tile(height, width)
    side = 2 * RADIUS + 1
    offset = tl.program_id(1)
    cells = height * width
    flow += n * flow_stride_n
    to_x = x + load(flow, y, x, flow_stride_h, flow_stride_w, mask) + (offset % side - RADIUS)
    to_y = y + load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask) + (offset // side - RADIUS)
    x0, y0, x1, y1, fx, fy = corners(to_x, to_y, height, width)
    own = scores + (n * cells + y * width + x) * cells
    top = load(own, y0, x0, width, 1, mask)
    top += fx * (load(own, y0, x1, width, 1, mask) - top)
    low = load(own, y1, x0, width, 1, mask)
    low += fx * (load(own, y1, x1, width, 1, mask) - low)
    at = out + ((n * side * side + offset) * height + y) * width + x
    tl.store(at, (top + fy * (low - top)).to(out.dtype.element_ty), mask=mask)


def looked_up(scores: Tensor, flow: Tensor, radius: int, dtype: torch.dtype) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.looked_up`."""
    scores, (n, _, h, w) = scores.float().contiguous(), flow.shape
    out = scores.new_empty((n, (2 * radius + 1) ** 2, h, w), dtype=dtype)
    grid = (*launch_grid(n, h, w), out.shape[1])
    _look_up[grid](scores, flow, out, h, w, *flow.stride(), RADIUS=radius)
    return out


@triton.jit
@no_type_check
def _motion(flow, unsure, out, samples, height, width, flow_stride_n, flow_stride_c, flow_stride_h, flow_stride_w):
    """The flow, how far the way there and back misses, and uncertainty."""
    n, y, x, mask = tile(height, width)
    area = height * width
    other = flow + (n + samples // 2) % samples * flow_stride_n
    flow += n * flow_stride_n
    u, v, miss_x, miss_y = round_trip(
        flow, other, flow_stride_c, y, x, height, width, flow_stride_h, flow_stride_w, mask
    )
    out += n * 4 * area + y * width + x
    kind = out.dtype.element_ty
    store_pair(out, area, (0.1 * u).to(kind), (0.1 * v).to(kind), mask)
    missed = tl.log(1.0 + vector_length(miss_x, miss_y))
    store_pair(out + 2 * area, area, missed, load(unsure + n * area, y, x, width, 1, mask), mask)


def motion_features(flow: Tensor, unsure: Tensor, dtype: torch.dtype) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.motion_features`."""
    n, _, h, w = flow.shape
    unsure, out = unsure.contiguous(), flow.new_empty((n, 4, h, w), dtype=dtype)
    _motion[launch_grid(n, h, w)](flow, unsure, out, n, h, w, *flow.stride())
    return out


@triton.jit
@no_type_check
def _upsample(
    flow, logits, out, height, width, logits_stride_n, logits_stride_c, logits_stride_h, logits_stride_w,
    FACTOR: tl.constexpr,
):  # fmt: skip
    """Each fine pixel a mean over 3x3 coarse neighbours; one instance per place in a cell on axis 1."""
    n, y, x, mask = tile(height, width)
    part = tl.program_id(1)
    area = height * width
    flow += n * 2 * area
    logits += n * logits_stride_n + part * logits_stride_c
    largest = load(logits, y, x, logits_stride_h, logits_stride_w, mask)
    for k in range(1, 9):
        own = logits + k * FACTOR * FACTOR * logits_stride_c
        largest = tl.maximum(largest, load(own, y, x, logits_stride_h, logits_stride_w, mask))
    total = zeros()
    u, v = total, total
    for k in range(9):
        share = tl.exp(
            load(logits + k * FACTOR * FACTOR * logits_stride_c, y, x, logits_stride_h, logits_stride_w, mask) - largest
        )
        total += share
        u += share * load_clamped(flow, y + k // 3 - 1, x + k % 3 - 1, height, width, mask)
        v += share * load_clamped(flow + area, y + k // 3 - 1, x + k % 3 - 1, height, width, mask)
    fine = width * FACTOR
    at = out + n * 2 * area * FACTOR * FACTOR + (y * FACTOR + part // FACTOR) * fine + x * FACTOR + part % FACTOR
    store_pair(at, area * FACTOR * FACTOR, FACTOR * u / total, FACTOR * v / total, mask)


def convex_upsampled(flow: Tensor, logits: Tensor, factor: int) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.convex_upsampled`."""
    flow, (n, _, h, w) = flow.float().contiguous(), flow.shape
    out = flow.new_empty((n, 2, factor * h, factor * w))
    grid = (*launch_grid(n, h, w), factor**2)
    _upsample[grid](flow, logits, out, h, w, *logits.stride(), FACTOR=factor)
    return out
