# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Bars around a picture on CUDA: the kernels of `rdvfi.content.bars` and of the bars of the coarse flow.

One launch reads the outer third of the lines at each side, one pixel in ``step``, and one walks along the
lines, one instance per sample and side. At 1080p 4 x 362 lines of 128 samples of 6 values: 4.4 MB in half
precision, about 30 operations a sample. A picture is filled by one copy, ``2 s`` bytes a value.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import launch_grid, load, reduce_sum, tile


@jit
def _reduce_max(x):
    return tl.reduce(x, 0, tl.standard._elementwise_max)


@jit
def _lines_from_side(side, height, width, stride_h, stride_w):
    """Lines parallel to a side: number, length, offset of the outermost one, strides between lines and along them."""
    is_row = side < 2
    line_stride = tl.where(is_row, stride_h, stride_w)
    lines = tl.where(is_row, height, width)
    start = tl.where(side % 2 == 1, (lines - 1).to(tl.int64) * line_stride, 0)
    line_stride = tl.where(side % 2 == 1, -line_stride, line_stride)
    return lines, tl.where(is_row, width, height), start, line_stride, tl.where(is_row, stride_w, stride_h)


@jit
def _classify_lines(
    first, last, out, height, width, first_stride_b, first_stride_c, first_stride_h, first_stride_w, last_stride_b,
    last_stride_c, last_stride_h, last_stride_w, max_lines, max_deviation, max_mean_deviation, max_static_difference,
    min_background, MAX_DEPTH_DIVISOR: tl.constexpr, SOFT_LINES: tl.constexpr, SAMPLES: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """For one line: whether it may belong to a bar, whether it is constant, and the share of it that differs."""
    line, side, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    lines, line_length, start, line_stride, sample_stride = _lines_from_side(
        side, height, width, first_stride_h, first_stride_w
    )
    _, _, last_start, last_line_stride, last_sample_stride = _lines_from_side(
        side, height, width, last_stride_h, last_stride_w
    )
    if line < tl.minimum(tl.maximum(lines // MAX_DEPTH_DIVISOR, 1) + SOFT_LINES, lines):
        step = tl.maximum(line_length // SAMPLES, 1)
        count = (line_length + step - 1) // step
        sample = tl.arange(0, BLOCK_SIZE)
        mask = sample < count
        edge_elements = first + batch * first_stride_b + start + sample * step * sample_stride
        last_edge_elements = last + batch * last_stride_b + last_start + sample * step * last_sample_stride
        deviation, difference = tl.full((BLOCK_SIZE,), 0.0, tl.float32), tl.full((BLOCK_SIZE,), 0.0, tl.float32)
        for c in range(3):
            pixel0 = tl.load(edge_elements + c * first_stride_c, mask=mask, other=0.0).to(tl.float32)
            pixel1 = tl.load(last_edge_elements + c * last_stride_c, mask=mask, other=0.0).to(tl.float32)
            colour = 0.5 * (reduce_sum(pixel0, 0) + reduce_sum(pixel1, 0)) / count
            pixel0 = tl.load(edge_elements + c * first_stride_c + line * line_stride, mask=mask, other=0.0).to(
                tl.float32
            )
            pixel1 = tl.load(last_edge_elements + c * last_stride_c + line * last_line_stride, mask=mask, other=0.0).to(
                tl.float32
            )
            deviation = tl.maximum(deviation, tl.maximum(tl.abs(pixel0 - colour), tl.abs(pixel1 - colour)))
            difference = tl.maximum(difference, tl.abs(pixel0 - pixel1))
        deviation = tl.where(mask, deviation, 0.0)
        is_constant = (_reduce_max(deviation) < max_deviation) & (reduce_sum(deviation, 0) / count < max_mean_deviation)
        differing_share = reduce_sum(tl.where(deviation > max_static_difference, 1.0, 0.0), 0) / count
        belongs = is_constant | (
            (_reduce_max(difference) < max_static_difference) & (differing_share < 1.0 - min_background)
        )
        out_elements = out + ((batch * 4 + side) * 3) * max_lines + line
        tl.store(out_elements, tl.where(belongs, 1.0, 0.0))
        tl.store(out_elements + max_lines, tl.where(is_constant, 1.0, 0.0))
        tl.store(out_elements + 2 * max_lines, differing_share)


@jit
def _bar_depths(
    lines, out, height, width, max_lines, min_content, MAX_DEPTH_DIVISOR: tl.constexpr, SOFT_LINES: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """End of the bar at one side, as the first line of the picture or the one after its last."""
    side, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    size = tl.where(side < 2, height, width)
    max_depth = tl.maximum(size // MAX_DEPTH_DIVISOR, 1)
    lines += (b * 4 + side) * 3 * max_lines
    line = tl.arange(0, BLOCK_SIZE)
    belongs = tl.load(lines + line, mask=line < max_depth, other=0.0)
    is_end = 1.0 - belongs * tl.load(lines + max_lines)  # no bar where the outermost line is not constant
    _, depth = tl.reduce((is_end, line), 0, tl.standard._argmax_combine_tie_break_left)
    content_share = tl.load(lines + 2 * max_lines + depth)
    for offset in tl.static_range(1, SOFT_LINES):
        content_share = tl.maximum(content_share, tl.load(lines + 2 * max_lines + depth + offset))
    depth = tl.where(content_share > min_content, depth, 0)
    tl.store(out + b * 4 + side, tl.where(side % 2 == 1, size - depth, depth).to(tl.int64))


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
    max_lines = max(1, max(h, w) // widest) + soft
    lines, out = first.new_zeros((b, 4, 3, max_lines), dtype=torch.float32), first.new_empty((b, 4), dtype=torch.int64)
    arguments = [first, last, lines, h, w, *first.stride(), *last.stride(), max_lines]
    arguments += [within, mean_within, equal, background]
    _classify_lines[max_lines, 4, b](
        *arguments, MAX_DEPTH_DIVISOR=widest, SOFT_LINES=soft, SAMPLES=samples, BLOCK_SIZE=2 * samples
    )
    block_size = triton.next_power_of_2(max_lines - soft + 1)
    _bar_depths[4, b](
        lines, out, h, w, max_lines, edge, MAX_DEPTH_DIVISOR=widest, SOFT_LINES=soft, BLOCK_SIZE=block_size
    )
    return out


@jit
def _replicate_into_bars(
    image, picture, out, height, width, stride_n, stride_c, stride_h, stride_w, CHANNELS: tl.constexpr
):
    """Pixels of bars are replaced by those of the nearest line of the picture."""
    n, y, x, mask = tile(height, width)
    picture += n * 4
    top, bottom = tl.load(picture).to(tl.int32), tl.load(picture + 1).to(tl.int32)
    left, right = tl.load(picture + 2).to(tl.int32), tl.load(picture + 3).to(tl.int32)
    row = tl.minimum(tl.maximum(y, top), bottom - 1)
    column = tl.minimum(tl.maximum(x, left), right - 1)
    image += n * stride_n
    for c in range(CHANNELS):
        value = load(image + c * stride_c, row, column, stride_h, stride_w, mask)
        out_elements = out + ((n * CHANNELS + c) * height + y) * width + x
        tl.store(out_elements, value.to(out.dtype.element_ty), mask=mask)


def fill_bars(images: Tensor, picture: Tensor) -> Tensor:
    """See `rdvfi.content.bars.Bars.fill`."""
    n, c, h, w = images.shape
    out, picture = torch.empty_like(images, memory_format=torch.contiguous_format), picture.contiguous()
    _replicate_into_bars[launch_grid(n, h, w)](images, picture, out, h, w, *images.stride(), CHANNELS=c)
    return out


@jit
def _constant_lines(images, out, pairs, height, width, noise, BLOCK_SIZE: tl.constexpr):
    """For a row or column of both images of a pair: whether it has one colour, and the colour."""
    line, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    area = height * width
    is_row = line < height
    start = tl.where(is_row, line * width, line - height)
    sample_stride, line_length = tl.where(is_row, 1, width), tl.where(is_row, width, height)
    sample = tl.arange(0, BLOCK_SIZE)
    mask, is_constant = sample < line_length, 1.0
    out += n * 4 * (height + width) + line
    for c in tl.static_range(3):
        elements = images + (n * 3 + c) * area + start + sample * sample_stride
        pixel0 = tl.load(elements, mask=mask, other=0.0)
        pixel1 = tl.load(elements + pairs * 3 * area, mask=mask, other=0.0)
        high = tl.reduce(tl.where(mask, tl.maximum(pixel0, pixel1), -1e9), 0, tl.standard._elementwise_max)
        low = -tl.reduce(tl.where(mask, tl.maximum(-pixel0, -pixel1), -1e9), 0, tl.standard._elementwise_max)
        is_constant = tl.where(high - low < noise, is_constant, 0.0)
        tl.store(out + (1 + c) * (height + width), 0.5 * (high + low))
    tl.store(out, is_constant)


@jit
def _constant_depths(lines, out, height, width, noise, BLOCK_SIZE: tl.constexpr):
    """Depth of bars of one colour at each side, in lines."""
    side, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    size = tl.where(side < 2, height, width)
    lines += n * 4 * (height + width) + tl.where(side < 2, 0, height)
    line = tl.arange(0, BLOCK_SIZE)
    mask = line < size
    elements = lines + tl.where(side % 2 == 1, size - 1 - line, line)
    edge_elements = lines + tl.where(side % 2 == 1, size - 1, 0)
    belongs = tl.load(elements, mask=mask, other=0.0) > 0.0
    for c in tl.static_range(1, 4):
        colour = tl.load(elements + c * (height + width), mask=mask, other=0.0)
        belongs = belongs & (tl.abs(colour - tl.load(edge_elements + c * (height + width))) < noise)
    is_end = tl.where(belongs, 0.0, 1.0)
    found_end, depth = tl.reduce((is_end, line), 0, tl.standard._argmax_combine_tie_break_left)
    tl.store(out + n * 4 + side, tl.where(found_end > 0.0, depth, size))


@jit
def _bar_mask(depths, out, height, width):
    n, y, x, mask = tile(height, width)
    depths += n * 4
    bar = (y < tl.load(depths)) | (y >= height - tl.load(depths + 1))
    bar = bar | (x < tl.load(depths + 2)) | (x >= width - tl.load(depths + 3))
    tl.store(out + (n * height + y) * width + x, tl.where(bar, 1.0, 0.0), mask=mask)


def static_bars(images: Tensor, *, noise: float) -> Tensor:
    """See `rdvfi.motion.flow.global_local.static_bars`."""
    images = images.float().contiguous()
    n, _, h, w = images.shape
    lines, depths = images.new_empty((n // 2, 4, h + w)), images.new_empty((n // 2, 4), dtype=torch.int32)
    out, block_size = images.new_empty((n // 2, 1, h, w)), triton.next_power_of_2(max(h, w))
    _constant_lines[h + w, n // 2](images, lines, n // 2, h, w, noise, BLOCK_SIZE=block_size)
    _constant_depths[4, n // 2](lines, depths, h, w, noise, BLOCK_SIZE=block_size)
    _bar_mask[launch_grid(n // 2, h, w)](depths, out, h, w)
    return out
