"""Overlays on CUDA: the kernels of `rdvfi.content.overlay`.

Seventeen launches find the mask. The motion of the surroundings takes a program instance per cell of 16x16
pixels; its median is the value of the right rank among up to 121 cells, 15,000 comparisons. Windows over pixels
are read directly, up to 49 taps, but for the one of 21 by 21, which takes a pass per dimension; wide ones work on
a quarter of the size. Maps are of motion size, 448x256: half a megabyte each, in the caches. Per pixel about 60
loads of pictures and 130 of maps; floor: two pictures and two flows read, mask and motions written, 60 bytes a
pixel.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    coarse_corners,
    corners,
    launch_grid,
    load,
    reduce_sum,
    store_pair,
    tile,
    vector_length,
    zeros,
)


@triton.jit
@no_type_check
def _total(x):
    return reduce_sum(reduce_sum(x, 1), 0)


@triton.jit
@no_type_check
def _difference(image, other, y, x, u, v, height, width, mask):
    """How far a picture is from another one moved by a flow, in its worst channel."""
    area = height * width
    point = corners(x + u, y + v, height, width)
    worst = 0.0
    for c in tl.static_range(3):
        seen = bilinear(other + c * area, point, width, 1, mask)
        worst = tl.maximum(worst, tl.abs(load(image + c * area, y, x, width, 1, mask) - seen))
    return worst


@triton.jit
@no_type_check
def _cells(images, flows, out, samples, height, width, rows, columns, certain, moves, BLOCK: tl.constexpr):
    """Means over a cell: the flow of what moves, its share, and the share that its flow explains."""
    cell, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    area = height * width
    row, column = cell // columns, cell % columns
    top, low = row * height // rows, ((row + 1) * height + rows - 1) // rows
    left, right = column * width // columns, ((column + 1) * width + columns - 1) // columns
    y, x = top + tl.arange(0, BLOCK)[:, None], left + tl.arange(0, BLOCK)[None, :]
    mask = (y < low) & (x < right)
    own, other = images + n * 3 * area, images + (n + samples // 2) % samples * 3 * area
    flows += n * 2 * area
    u, v = load(flows, y, x, width, 1, mask), load(flows + area, y, x, width, 1, mask)
    error = _difference(own, other, y, x, u, v, height, width, mask)
    explained = tl.where(mask & (error < certain), 1.0, 0.0)
    moving = tl.where(vector_length(u, v) > moves, explained, 0.0)
    count, cells = (low - top) * (right - left), rows * columns
    out += n * 4 * cells + cell
    tl.store(out, _total(moving * u) / count)
    tl.store(out + cells, _total(moving * v) / count)
    tl.store(out + 2 * cells, _total(moving) / count)
    tl.store(out + 3 * cells, _total(explained) / count)


@triton.jit
@no_type_check
def _median(value, valid, lane, rank):
    """The value of a rank among valid ones; 0 if there is none."""
    before = (value[None, :] < value[:, None]) | ((value[None, :] == value[:, None]) & (lane[None, :] < lane[:, None]))
    place = reduce_sum(tl.where(before & valid[None, :], 1, 0), 1)
    return reduce_sum(tl.where(valid & (place == rank), value, 0.0), 0)


@triton.jit
@no_type_check
def _tolerance(size):
    return tl.minimum(1.0 + 0.25 * size, 0.6 * size)


@triton.jit
@no_type_check
def _surroundings(sums, out, rows, columns, share, least, seen, SIDE: tl.constexpr, BLOCK: tl.constexpr):
    """The median motion of the moving cells around one, and the share of all cells that move like it."""
    cell, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    cells = rows * columns
    sums += n * 4 * cells
    lane = tl.arange(0, BLOCK)
    row, column = cell // columns + lane // SIDE - SIDE // 2, cell % columns + lane % SIDE - SIDE // 2
    there = (lane < SIDE * SIDE) & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    at = sums + row * columns + column
    moving = tl.load(at + 2 * cells, mask=there, other=0.0)
    explained = tl.load(at + 3 * cells, mask=there, other=0.0)
    valid = there & (moving > share * explained) & (moving > least)
    scale = 1.0 / tl.maximum(moving, 1e-3)
    u, v = scale * tl.load(at, mask=there, other=0.0), scale * tl.load(at + cells, mask=there, other=0.0)
    rank = (reduce_sum(tl.where(valid, 1, 0), 0) - 1) // 2
    median_u, median_v = _median(u, valid, lane, rank), _median(v, valid, lane, rank)
    apart = tl.sqrt((u - median_u) * (u - median_u) + (v - median_v) * (v - median_v))
    like = valid & (apart < _tolerance(vector_length(median_u, median_v)))
    counted = tl.where(there & (explained > seen), 1.0, 0.0)
    agreeing = reduce_sum(tl.where(like, counted, 0.0), 0)
    out += n * 3 * cells + cell
    tl.store(out, median_u)
    tl.store(out + cells, median_v)
    tl.store(out + 2 * cells, agreeing / tl.maximum(reduce_sum(counted, 0), 1.0))


@triton.jit
@no_type_check
def _against(image, other, flow, around, motion, y, x, height, width, rows, columns, moves, agrees, mask):
    """A frame against the motion of its surroundings, which is stored; see `rdvfi.content.overlay._BackgroundTest`."""
    area, cells = height * width, rows * columns
    u, v = load(flow, y, x, width, 1, mask), load(flow + area, y, x, width, 1, mask)
    point = coarse_corners(y, x, height, width, rows, columns)
    to_u = bilinear(around, point, columns, 1, mask)
    to_v = bilinear(around + cells, point, columns, 1, mask)
    agreement = bilinear(around + 2 * cells, point, columns, 1, mask)
    store_pair(motion + y * width + x, area, to_u, to_v, mask)
    size = vector_length(to_u, to_v)
    goes = size > moves
    like = vector_length(u - to_u, v - to_v) < _tolerance(size)
    possible = goes & (agreement > agrees) & (like | (vector_length(u, v) < moves))
    return _difference(image, other, y, x, to_u, to_v, height, width, mask), goes, like & goes, possible


@triton.jit
@no_type_check
def _compare(images, flows, around, motions, maps, pairs, height, width, rows, columns, equal, moves, agrees):
    """Both frames against their surroundings: difference, distance, where an overlay may be, and beside one."""
    n, y, x, mask = tile(height, width)
    area, cells = height * width, rows * columns
    first, last = images + n * 3 * area, images + (pairs + n) * 3 * area
    motions += n * 4 * area
    differs, goes, dragged, possible = _against(
        first, last, flows + n * 2 * area, around + n * 3 * cells, motions,
        y, x, height, width, rows, columns, moves, agrees, mask,
    )  # fmt: skip
    back, back_goes, back_dragged, back_possible = _against(
        last, first, flows + (pairs + n) * 2 * area, around + (pairs + n) * 3 * cells, motions + 2 * area,
        y, x, height, width, rows, columns, moves, agrees, mask,
    )  # fmt: skip
    apart = _difference(first, last, y, x, 0.0, 0.0, height, width, mask)
    same = apart < equal
    maps += n * 5 * area + y * width + x
    tl.store(maps, apart, mask=mask)
    tl.store(maps + area, tl.minimum(differs, back), mask=mask)
    tl.store(maps + 2 * area, tl.where(same & possible & back_possible, 1.0, 0.0), mask=mask)
    tl.store(maps + 3 * area, tl.where(dragged & back_dragged, 1.0, 0.0), mask=mask)
    tl.store(maps + 4 * area, tl.where(same & goes & back_goes, 1.0, 0.0), mask=mask)


@triton.jit
@no_type_check
def _line(maps, y, x, height, width, mask, ROW: tl.constexpr, SIDE: tl.constexpr):
    """Mean over a part of a row or a column, as much of it as is in the picture."""
    total = 0.0 * load(maps, y, x, width, 1, mask)
    count = total
    for k in range(SIDE):
        row, column = y + (0 if ROW else k - SIDE // 2), x + (k - SIDE // 2 if ROW else 0)
        there = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        total += load(maps, row, column, width, 1, there)
        count += tl.where(there, 1.0, 0.0)
    return total / tl.maximum(count, 1.0)


@triton.jit
@no_type_check
def _along_rows(maps, out, height, width, SIDE: tl.constexpr):
    n, y, x, mask = tile(height, width)
    mean = _line(maps + n * 5 * height * width, y, x, height, width, mask, True, SIDE)
    tl.store(out + (n * height + y) * width + x, mean, mask=mask)


@triton.jit
@no_type_check
def _certain(means, maps, out, height, width, solid, certain, SIDE: tl.constexpr):
    """Where an overlay may be that is no solid thing standing still, and where it is certain."""
    n, y, x, mask = tile(height, width)
    area = height * width
    mean = _line(means + n * area, y, x, height, width, mask, False, SIDE)
    maps += n * 5 * area + y * width + x
    dragged = tl.load(maps + 3 * area, mask=mask, other=0.0) > 0.0
    possible = tl.load(maps + 2 * area, mask=mask, other=0.0)
    possible = tl.where(dragged | (mean >= solid), possible, 0.0)
    sure = tl.where(tl.load(maps + area, mask=mask, other=0.0) > certain, possible, 0.0)
    store_pair(out + n * 2 * area + y * width + x, area, possible, sure, mask)


@triton.jit
@no_type_check
def window(
    maps, factor, out, height, width, maps_stride_n, factor_stride_n, share, LARGEST: tl.constexpr, BOTH: tl.constexpr,
    SIDE: tl.constexpr,
):  # fmt: skip
    """The largest of a window times a factor; or the mask itself where a window holds a share of it.

    With a ``share`` below zero the mean itself. ``BOTH``: the larger of that and the factor.
    """
    n, y, x, mask = tile(height, width)
    maps += n * maps_stride_n
    here = load(maps, y, x, width, 1, mask)
    found, count = 0.0 * here, 0.0 * here
    for k in range(SIDE * SIDE):
        row, column = y + k // SIDE - SIDE // 2, x + k % SIDE - SIDE // 2
        there = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        value = load(maps, row, column, width, 1, there)
        if LARGEST:
            found = tl.maximum(found, value)
        else:
            found += value
            count += tl.where(there, 1.0, 0.0)
    own = factor + n * factor_stride_n + y * width + x
    if LARGEST:
        found *= tl.load(own, mask=mask, other=0.0)
    else:
        found = found / tl.maximum(count, 1.0)
        if share >= 0.0:
            found = tl.where(found > share, here, 0.0)
        if BOTH:
            found = tl.maximum(found, tl.load(own, mask=mask, other=0.0))
    tl.store(out + (n * height + y) * width + x, found, mask=mask)


@triton.jit
@no_type_check
def _pool(maps, out, height, width, CELL: tl.constexpr):
    """Means of cells, of as much as is in the picture."""
    rows, columns = (height + CELL - 1) // CELL, (width + CELL - 1) // CELL
    n, y, x, mask = tile(rows, columns)
    total = zeros()
    count = total
    for k in range(CELL * CELL):
        row, column = y * CELL + k // CELL, x * CELL + k % CELL
        there = mask & (row < height) & (column < width)
        total += load(maps + n * height * width, row, column, width, 1, there)
        count += tl.where(there, 1.0, 0.0)
    tl.store(out + (n * rows + y) * columns + x, total / tl.maximum(count, 1.0), mask=mask)


@triton.jit
@no_type_check
def _near(held, maps, beside, out, height, width, rows, columns, share, faint, FAINT: tl.constexpr):
    """A mask where a window within reach holds a share; or, ``FAINT``, what differs faintly, and where it may."""
    n, y, x, mask = tile(height, width)
    area = height * width
    near = load(held + n * rows * columns, y * rows // height, x * columns // width, columns, 1, mask) > share
    here = y * width + x
    if FAINT:
        may = tl.where(near, tl.load(beside + n * 5 * area + 4 * area + here, mask=mask, other=0.0), 0.0)
        differs = tl.load(beside + n * 5 * area + area + here, mask=mask, other=0.0)
        store_pair(out + n * 2 * area + here, area, may, tl.where(differs > faint, may, 0.0), mask)
    else:
        tl.store(
            out + n * area + here,
            tl.where(near, tl.load(maps + n * area + here, mask=mask, other=0.0), 0.0),
            mask=mask,
        )


def overlay(
    img0: Tensor,
    img1: Tensor,
    onward: Tensor,
    back: Tensor,
    *,
    equal: float,
    certain: float,
    faint: float,
    seeds: float,
    group: tuple[int, float],
    solid: float,
    around: int,
    reach: int,
    agrees: float,
    moves: float,
    cell: int,
    cells_around: int,
    moving: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.content.overlay.find_overlay`: the mask, and both motions (b, 2, 2, h, w)."""
    images, flows = torch.cat((img0, img1)).float(), torch.cat((onward, back)).float()
    (n, _, h, w), b = images.shape, len(img0)
    rows, columns = max(2, h // cell), max(2, w // cell)
    small = (-(-h // 4), -(-w // 4))
    sums, median = images.new_empty((n, 4, rows, columns)), images.new_empty((n, 3, rows, columns))
    motions, maps = images.new_empty((b, 2, 2, h, w)), images.new_empty((b, 5, h, w))
    one, two, core, mask = (images.new_empty((b, 1, h, w)) for _ in range(4))
    possible, pooled, held = images.new_empty((b, 2, h, w)), *(images.new_empty((b, 1, *small)) for _ in range(2))
    grid, coarse = launch_grid(b, h, w), launch_grid(b, *small)

    def read(maps: Tensor, factor: Tensor, out: Tensor, side: int, share: float, largest: bool, both: bool) -> None:
        size = (maps.shape[-2], maps.shape[-1])
        arguments = (maps, factor, out, *size, maps.stride(0), factor.stride(0), share)
        window[launch_grid(b, *size)](*arguments, LARGEST=largest, BOTH=both, SIDE=side)

    def widest_held(mask: Tensor, side: int, *, mean: bool) -> Tensor:
        """What the windows within reach of a cell hold of a mask, at most."""
        _pool[coarse](mask, pooled, h, w, CELL=4)
        cells, ones = side // 8 * 2 + 1, images.new_ones((1, 1, *small)).expand(b, 1, *small)
        if mean:
            read(pooled, ones, held, cells, -1.0, False, False)
        read(held if mean else pooled, ones, pooled if mean else held, cells, 0.0, True, False)
        return pooled if mean else held

    _cells[rows * columns, n](images, flows, sums, n, h, w, rows, columns, certain, moves, BLOCK=32)
    block = triton.next_power_of_2(cells_around**2)
    _surroundings[rows * columns, n](sums, median, rows, columns, *moving, SIDE=cells_around, BLOCK=block)
    arguments = (images, flows, median, motions, maps, b, h, w, rows, columns, equal, moves, agrees)
    _compare[grid](*arguments)
    _along_rows[grid](maps, one, h, w, SIDE=around)
    _certain[grid](one, maps, possible, h, w, solid, certain, SIDE=around)
    read(possible[:, 1:], possible, one, 7, seeds, False, False)
    read(one, possible, two, 5, 0.0, True, False)
    read(two, possible, one, 5, 0.2, False, False)
    near = widest_held(one, group[0], mean=True)
    _near[grid](near, one, maps, core, h, w, *small, group[1], faint, FAINT=False)
    near = widest_held(core, reach, mean=False)
    _near[grid](near, one, maps, possible, h, w, *small, 0.0, faint, FAINT=True)
    read(possible[:, 1:], possible, two, 3, 0.0, True, False)
    read(two, core, mask, 5, 0.15, False, True)
    return mask, motions
