"""Bars around a picture on CUDA: the kernels of `rdvfi.content.bars` and of the bars of the coarse flow.

One launch reads the outer third of the lines at each side, one pixel in ``step``, and one walks along the
lines, one instance per sample and side. At 1080p 4 x 362 lines of 128 samples of 6 values: 4.4 MB in half
precision, about 30 operations a sample. A picture is filled by one copy, ``2 s`` bytes a value.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import launch_grid, load, reduce_sum, tile


@triton.jit
@no_type_check
def _largest(x):
    return tl.reduce(x, 0, tl.standard._elementwise_max)


@triton.jit
@no_type_check
def _side(side, height, width, stride_h, stride_w):
    """Lines from a side inwards: their number and length, where they begin, and the steps across and along."""
    row = side < 2
    across = tl.where(row, stride_h, stride_w)
    lines = tl.where(row, height, width)
    begin = tl.where(side % 2 == 1, (lines - 1).to(tl.int64) * across, 0)
    across = tl.where(side % 2 == 1, -across, across)
    return lines, tl.where(row, width, height), begin, across, tl.where(row, stride_w, stride_h)


@triton.jit
@no_type_check
def _lines(
    first, last, out, height, width, first_stride_b, first_stride_c, first_stride_h, first_stride_w, last_stride_b,
    last_stride_c, last_stride_h, last_stride_w, most, within, mean_within, equal, background, WIDEST: tl.constexpr,
    SOFT: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of one line: whether it may belong to a bar, whether it is constant, and how much of it differs."""
    i, side, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    lines, size, begin, across, along = _side(side, height, width, first_stride_h, first_stride_w)
    _, _, last_begin, last_across, last_along = _side(side, height, width, last_stride_h, last_stride_w)
    if i < tl.minimum(tl.maximum(lines // WIDEST, 1) + SOFT, lines):
        step = tl.maximum(size // SAMPLES, 1)
        count = (size + step - 1) // step
        j = tl.arange(0, BLOCK)
        there = j < count
        edge = first + b * first_stride_b + begin + j * step * along
        other_edge = last + b * last_stride_b + last_begin + j * step * last_along
        off, apart = tl.full((BLOCK,), 0.0, tl.float32), tl.full((BLOCK,), 0.0, tl.float32)
        for c in range(3):
            own = tl.load(edge + c * first_stride_c, mask=there, other=0.0).to(tl.float32)
            other = tl.load(other_edge + c * last_stride_c, mask=there, other=0.0).to(tl.float32)
            colour = 0.5 * (reduce_sum(own, 0) + reduce_sum(other, 0)) / count
            own = tl.load(edge + c * first_stride_c + i * across, mask=there, other=0.0).to(tl.float32)
            other = tl.load(other_edge + c * last_stride_c + i * last_across, mask=there, other=0.0).to(tl.float32)
            off = tl.maximum(off, tl.maximum(tl.abs(own - colour), tl.abs(other - colour)))
            apart = tl.maximum(apart, tl.abs(own - other))
        off = tl.where(there, off, 0.0)
        constant = (_largest(off) < within) & (reduce_sum(off, 0) / count < mean_within)
        differs = reduce_sum(tl.where(off > equal, 1.0, 0.0), 0) / count
        line = constant | ((_largest(apart) < equal) & (differs < 1.0 - background))
        at = out + ((b * 4 + side) * 3) * most + i
        tl.store(at, tl.where(line, 1.0, 0.0))
        tl.store(at + most, tl.where(constant, 1.0, 0.0))
        tl.store(at + 2 * most, differs)


@triton.jit
@no_type_check
def _runs(lines, out, height, width, most, edge, WIDEST: tl.constexpr, SOFT: tl.constexpr, BLOCK: tl.constexpr):
    """Lines of a bar at one side, as the first line of the picture or the one after its last."""
    side, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    size = tl.where(side < 2, height, width)
    deepest = tl.maximum(size // WIDEST, 1)
    lines += (b * 4 + side) * 3 * most
    i = tl.arange(0, BLOCK)
    line = tl.load(lines + i, mask=i < deepest, other=0.0)
    ends = 1.0 - line * tl.load(lines + most)  # no bar where the outermost line is not constant
    _, run = tl.reduce((ends, i), 0, tl.standard._argmax_combine_tie_break_left)
    after = tl.load(lines + 2 * most + run)
    for k in tl.static_range(1, SOFT):
        after = tl.maximum(after, tl.load(lines + 2 * most + run + k))
    run = tl.where(after > edge, run, 0)
    tl.store(out + b * 4 + side, tl.where(side % 2 == 1, size - run, run).to(tl.int64))


def bars(
    first: Tensor,
    last: Tensor,
    *,
    within: float,
    mean_within: float,
    equal: float,
    background: float,
    edge: float,
    soft: int,
    widest: int,
    samples: int,
) -> Tensor:
    """See `rdvfi.content.bars.find_bars`."""
    b, _, h, w = first.shape
    most = max(1, max(h, w) // widest) + soft
    lines, out = first.new_zeros((b, 4, 3, most), dtype=torch.float32), first.new_empty((b, 4), dtype=torch.int64)
    arguments = [first, last, lines, h, w, *first.stride(), *last.stride(), most]
    arguments += [within, mean_within, equal, background]
    _lines[most, 4, b](*arguments, WIDEST=widest, SOFT=soft, SAMPLES=samples, BLOCK=2 * samples)
    block = triton.next_power_of_2(most - soft + 1)
    _runs[4, b](lines, out, h, w, most, edge, WIDEST=widest, SOFT=soft, BLOCK=block)
    return out


@triton.jit
@no_type_check
def _fill(
    image, inside_of, out, height, width, image_stride_n, image_stride_c, image_stride_h, image_stride_w,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Every pixel of a bar is that of the nearest line of the picture."""
    n, y, x, mask = tile(height, width)
    inside_of += n * 4
    top, low = tl.load(inside_of).to(tl.int32), tl.load(inside_of + 1).to(tl.int32)
    left, right = tl.load(inside_of + 2).to(tl.int32), tl.load(inside_of + 3).to(tl.int32)
    row = tl.minimum(tl.maximum(y, top), low - 1)
    column = tl.minimum(tl.maximum(x, left), right - 1)
    image += n * image_stride_n
    for c in range(CHANNELS):
        value = load(image + c * image_stride_c, row, column, image_stride_h, image_stride_w, mask)
        at = out + ((n * CHANNELS + c) * height + y) * width + x
        tl.store(at, value.to(out.dtype.element_ty), mask=mask)


def fill_bars(images: Tensor, inside: Tensor) -> Tensor:
    """See `rdvfi.content.bars.Bars.fill`."""
    n, c, h, w = images.shape
    out, inside = torch.empty_like(images, memory_format=torch.contiguous_format), inside.contiguous()
    _fill[launch_grid(n, h, w)](images, inside, out, h, w, *images.stride(), CHANNELS=c)
    return out


@triton.jit
@no_type_check
def _flat_lines(images, out, pairs, height, width, noise, BLOCK: tl.constexpr):
    """Of a row or a column of both pictures of a pair: whether it is of one colour, and the colour."""
    line, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    area = height * width
    row = line < height
    start = tl.where(row, line * width, line - height)
    step, size = tl.where(row, 1, width), tl.where(row, width, height)
    j = tl.arange(0, BLOCK)
    there, flat = j < size, 1.0
    out += n * 4 * (height + width) + line
    for c in tl.static_range(3):
        own = images + (n * 3 + c) * area + start + j * step
        first = tl.load(own, mask=there, other=0.0)
        last = tl.load(own + pairs * 3 * area, mask=there, other=0.0)
        high = tl.reduce(tl.where(there, tl.maximum(first, last), -1e9), 0, tl.standard._elementwise_max)
        low = -tl.reduce(tl.where(there, tl.maximum(-first, -last), -1e9), 0, tl.standard._elementwise_max)
        flat = tl.where(high - low < noise, flat, 0.0)
        tl.store(out + (1 + c) * (height + width), 0.5 * (high + low))
    tl.store(out, flat)


@triton.jit
@no_type_check
def _bar_runs(lines, out, height, width, noise, BLOCK: tl.constexpr):
    """How far bars of one colour reach, from each side, in lines."""
    side, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    size = tl.where(side < 2, height, width)
    lines += n * 4 * (height + width) + tl.where(side < 2, 0, height)
    i = tl.arange(0, BLOCK)
    there = i < size
    at = lines + tl.where(side % 2 == 1, size - 1 - i, i)
    edge = lines + tl.where(side % 2 == 1, size - 1, 0)
    belongs = tl.load(at, mask=there, other=0.0) > 0.0
    for c in tl.static_range(1, 4):
        colour = tl.load(at + c * (height + width), mask=there, other=0.0)
        belongs = belongs & (tl.abs(colour - tl.load(edge + c * (height + width))) < noise)
    ends = tl.where(belongs, 0.0, 1.0)
    all_of_it, run = tl.reduce((ends, i), 0, tl.standard._argmax_combine_tie_break_left)
    tl.store(out + n * 4 + side, tl.where(all_of_it > 0.0, run, size))


@triton.jit
@no_type_check
def _bar_mask(runs, out, height, width):
    n, y, x, mask = tile(height, width)
    runs += n * 4
    bar = (y < tl.load(runs)) | (y >= height - tl.load(runs + 1))
    bar = bar | (x < tl.load(runs + 2)) | (x >= width - tl.load(runs + 3))
    tl.store(out + (n * height + y) * width + x, tl.where(bar, 1.0, 0.0), mask=mask)


def static_bars(images: Tensor, *, noise: float) -> Tensor:
    """See `rdvfi.motion.flow.global_local.static_bars`."""
    images = images.float().contiguous()
    n, _, h, w = images.shape
    lines, runs = images.new_empty((n // 2, 4, h + w)), images.new_empty((n // 2, 4), dtype=torch.int32)
    out, block = images.new_empty((n // 2, 1, h, w)), triton.next_power_of_2(max(h, w))
    _flat_lines[h + w, n // 2](images, lines, n // 2, h, w, noise, BLOCK=block)
    _bar_runs[4, n // 2](lines, runs, h, w, noise, BLOCK=block)
    _bar_mask[launch_grid(n // 2, h, w)](runs, out, h, w)
    return out
