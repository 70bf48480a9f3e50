"""Steps of learned matching on CUDA: the kernels of `rdvfi.motion.flow.match_ops` and `attention`.

Pictures of 448x256 are matched on 28x16 cells: 448 by 448 scores for each pair. Attention's rotation reads
and writes every feature once, ``2 s`` bytes each with two trigonometric functions; the means of all matches
read the scores three times, 4 bytes and 4 to 8 operations each; a look-up reads 4 scores and writes one,
about 25 operations; upsampling reads 9 logits per fine pixel, 36 bytes, and writes 8. All is a few
megabytes at most, so launches and latency decide: these were 10 to 40 launches each.
"""

from math import log, pi

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
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

_TOKEN_BLOCK = 32


@jit
def _rotate_tokens(
    x, out, num_heads, height, width, stride_n, stride_k, stride_c, stride_h, stride_w, step, num_rotated_heads,
    lowest_rate, log_rate_span, HALF: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Tokens of one head; channels of the first ``num_rotated_heads`` heads are rotated by their position."""
    token = (tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE))[:, None]
    n, head = (tl.program_id(1) // num_heads).to(tl.int64), tl.program_id(1) % num_heads
    channel = tl.arange(0, CHANNELS)[None, :]
    mask = (token < height * width) & (channel < HALF)
    row, column = token // width, token % width
    pairs = HALF // 2
    position_in_octaves = tl.where(channel < pairs, channel, channel - pairs) / tl.maximum(pairs - 1.0, 1.0)
    coordinate = tl.where(channel < pairs, column, row) + 0.5
    angle = tl.where(
        head < num_rotated_heads, lowest_rate * tl.exp(position_in_octaves * log_rate_span) * coordinate * step, 0.0
    )
    cosine, sine = tl.cos(angle), tl.sin(angle)
    elements = x + n * stride_n + head * stride_k + channel * stride_c + row * stride_h + column * stride_w
    first = tl.load(elements, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(elements + HALF * stride_c, mask=mask, other=0.0).to(tl.float32)
    out += (n * num_heads + head) * height * width * 2 * HALF + token * 2 * HALF + channel
    dtype = out.dtype.element_ty
    tl.store(out, (first * cosine - second * sine).to(dtype), mask=mask)
    tl.store(out + HALF, (first * sine + second * cosine).to(dtype), mask=mask)


def rotated_tokens(x: Tensor, step: float, num_rotated_heads: int, *, longest: float, shortest: float) -> Tensor:
    """See `rdvfi.motion.flow.attention.rotate_tokens`."""
    n, heads, c, h, w = x.shape
    out = x.new_empty((n, heads, h * w, c))

    rates = (2.0 * pi / longest, log(longest / shortest))
    grid, channels = (-(-h * w // _TOKEN_BLOCK), n * heads), triton.next_power_of_2(c // 2)
    arguments = [x, out, heads, h, w, *x.stride(), float(step), num_rotated_heads, *rates]
    _rotate_tokens[grid](*arguments, HALF=c // 2, CHANNELS=channels, BLOCK_SIZE=_TOKEN_BLOCK)
    return out


@jit
def _softmax_sums(scores, largest, out, cells, BLOCK_SIZE: tl.constexpr):
    """Sums of ``exp`` over every column (instances 0 on axis 1), and over every row (1)."""
    i, is_row, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    j = tl.arange(0, BLOCK_SIZE)
    elements = scores + b * cells * cells + tl.where(is_row == 1, i * cells + j, j * cells + i)
    weight = tl.exp(tl.load(elements, mask=j < cells, other=float("-inf")) - tl.load(largest + b))
    total = reduce_sum(weight, 0)
    tl.store(out + (is_row * tl.num_programs(2) + b) * cells + i, tl.maximum(total, 1e-30))


@jit
def _expected_matches(scores, largest, totals, out, cells, height, width, BLOCK_SIZE: tl.constexpr):
    """The mean of a cell's matches as a flow, and the logarithm of their spread."""
    i, is_backward, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    pairs = tl.num_programs(2)
    j = tl.arange(0, BLOCK_SIZE)
    mask = j < cells
    elements = scores + b * cells * cells + tl.where(is_backward == 0, i * cells + j, j * cells + i)
    weight = tl.exp(tl.load(elements, mask=mask, other=float("-inf")) - tl.load(largest + b))
    weight = weight * weight / tl.load(totals + (is_backward * pairs + b) * cells + j, mask=mask, other=1.0)
    x, y = j % width - (width - 1.0) / 2.0, j // width - (height - 1.0) / 2.0
    total = tl.maximum(reduce_sum(weight, 0), 1e-36)
    mean_x = reduce_sum(weight * x, 0) / total
    mean_y = reduce_sum(weight * y, 0) / total
    square = reduce_sum(weight * (x * x + y * y), 0) / total
    spread = tl.maximum(square - mean_x * mean_x - mean_y * mean_y, 0.0)
    out += (is_backward * pairs + b) * 3 * cells + i
    tl.store(out, mean_x + (width - 1.0) / 2.0 - i % width)
    tl.store(out + cells, mean_y + (height - 1.0) / 2.0 - i // width)
    tl.store(out + 2 * cells, tl.log(1.0 + spread))


def expected_flow(scores: Tensor, height: int, width: int) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.expected_flow`: flow, then uncertainty."""
    scores = scores.float().contiguous()
    (b, m, _), block_size = scores.shape, triton.next_power_of_2(scores.shape[1])
    largest, totals = scores.amax((1, 2)), scores.new_empty((2, b, m))
    out = scores.new_empty((2 * b, 3, height, width))
    _softmax_sums[m, 2, b](scores, largest, totals, m, BLOCK_SIZE=block_size)
    _expected_matches[m, 2, b](scores, largest, totals, out, m, height, width, BLOCK_SIZE=block_size)
    return out


@jit
def _look_up_scores(scores, flow, out, height, width, stride_n, stride_c, stride_h, stride_w, RADIUS: tl.constexpr):
    """Scores at one offset from the end point of the flow."""
    n, y, x, mask = tile(height, width)
    side = 2 * RADIUS + 1
    offset = tl.program_id(1)
    cells = height * width
    flow += n * stride_n
    target_x = x + load(flow, y, x, stride_h, stride_w, mask) + (offset % side - RADIUS)
    target_y = y + load(flow + stride_c, y, x, stride_h, stride_w, mask) + (offset // side - RADIUS)
    x0, y0, x1, y1, fx, fy = corners(target_x, target_y, height, width)
    cell_scores = scores + (n * cells + y * width + x) * cells
    top = load(cell_scores, y0, x0, width, 1, mask)
    top += fx * (load(cell_scores, y0, x1, width, 1, mask) - top)
    bottom = load(cell_scores, y1, x0, width, 1, mask)
    bottom += fx * (load(cell_scores, y1, x1, width, 1, mask) - bottom)
    out_elements = out + ((n * side * side + offset) * height + y) * width + x
    tl.store(out_elements, (top + fy * (bottom - top)).to(out.dtype.element_ty), mask=mask)


def looked_up(scores: Tensor, flow: Tensor, radius: int, dtype: torch.dtype) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.sample_scores`."""
    scores, (n, _, h, w) = scores.float().contiguous(), flow.shape
    out = scores.new_empty((n, (2 * radius + 1) ** 2, h, w), dtype=dtype)
    grid = (*launch_grid(n, h, w), out.shape[1])
    _look_up_scores[grid](scores, flow, out, h, w, *flow.stride(), RADIUS=radius)
    return out


@jit
def _motion_features(flow, uncertainty, out, samples, height, width, stride_n, stride_c, stride_h, stride_w):
    """The flow, the logarithm of its forward-backward error, and its uncertainty."""
    n, y, x, mask = tile(height, width)
    area = height * width
    other = flow + (n + samples // 2) % samples * stride_n
    flow += n * stride_n
    u, v, miss_x, miss_y = round_trip(flow, other, stride_c, y, x, height, width, stride_h, stride_w, mask)
    out += n * 4 * area + y * width + x
    dtype = out.dtype.element_ty
    store_pair(out, area, (0.1 * u).to(dtype), (0.1 * v).to(dtype), mask)
    log_error = tl.log(1.0 + vector_length(miss_x, miss_y))
    store_pair(out + 2 * area, area, log_error, load(uncertainty + n * area, y, x, width, 1, mask), mask)


def motion_features(flow: Tensor, uncertainty: Tensor, dtype: torch.dtype) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.motion_features`."""
    n, _, h, w = flow.shape
    uncertainty, out = uncertainty.contiguous(), flow.new_empty((n, 4, h, w), dtype=dtype)
    _motion_features[launch_grid(n, h, w)](flow, uncertainty, out, n, h, w, *flow.stride())
    return out


@jit
def _convex_upsample(flow, logits, out, height, width, stride_n, stride_c, stride_h, stride_w, FACTOR: tl.constexpr):
    """Each fine pixel is a weighted mean of 3x3 coarse ones; axis 1 numbers the fine pixels of a cell."""
    n, y, x, mask = tile(height, width)
    subpixel = tl.program_id(1)
    area = height * width
    flow += n * 2 * area
    logits += n * stride_n + subpixel * stride_c
    largest = load(logits, y, x, stride_h, stride_w, mask)
    for k in range(1, 9):
        neighbour_logits = logits + k * FACTOR * FACTOR * stride_c
        largest = tl.maximum(largest, load(neighbour_logits, y, x, stride_h, stride_w, mask))
    weight_sum = zeros()
    u, v = weight_sum, weight_sum
    for k in range(9):
        weight = tl.exp(load(logits + k * FACTOR * FACTOR * stride_c, y, x, stride_h, stride_w, mask) - largest)
        weight_sum += weight
        u += weight * load_clamped(flow, y + k // 3 - 1, x + k % 3 - 1, height, width, mask)
        v += weight * load_clamped(flow + area, y + k // 3 - 1, x + k % 3 - 1, height, width, mask)
    fine_width = width * FACTOR
    out_elements = out + n * 2 * area * FACTOR * FACTOR + (y * FACTOR + subpixel // FACTOR) * fine_width + x * FACTOR
    out_elements += subpixel % FACTOR
    store_pair(out_elements, area * FACTOR * FACTOR, FACTOR * u / weight_sum, FACTOR * v / weight_sum, mask)


def convex_upsampled(flow: Tensor, logits: Tensor, factor: int) -> Tensor:
    """See `rdvfi.motion.flow.match_ops.upsample_convex`."""
    flow, (n, _, h, w) = flow.float().contiguous(), flow.shape
    out = flow.new_empty((n, 2, factor * h, factor * w))
    grid = (*launch_grid(n, h, w), factor**2)
    _convex_upsample[grid](flow, logits, out, h, w, *logits.stride(), FACTOR=factor)
    return out
