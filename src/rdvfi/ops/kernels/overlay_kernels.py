# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Overlays on CUDA: the kernels of `rdvfi.content.overlay`.

Seventeen launches find the mask. The motion of the surroundings takes a program instance per cell of 16x16 pixels; its
median is the value of the right rank among up to 121 cells, 15,000 comparisons. Windows over pixels are read directly,
up to 49 taps, but for the one of 21 by 21, which takes a pass per dimension; wide ones work on a quarter of the size.
Maps are of motion size, 448x256: half a megabyte each, in the caches. Per pixel about 60 loads of pictures and 130 of
maps; floor: two pictures and two flows read, mask and motions written, 60 bytes a pixel.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
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


@jit
def _reduce_tile(x):
    return reduce_sum(reduce_sum(x, 1), 0)


@jit
def _warped_difference(image, other, y, x, u, v, height, width, mask):
    """Largest absolute difference over the channels of an image and another one, warped by a flow."""
    area = height * width
    point = corners(x + u, y + v, height, width)
    largest = 0.0
    for c in tl.static_range(3):
        warped = bilinear(other + c * area, point, width, 1, mask)
        largest = tl.maximum(largest, tl.abs(load(image + c * area, y, x, width, 1, mask) - warped))
    return largest


@jit
def _cell_motion(images, flows, out, samples, height, width, rows, columns, certain, moves, BLOCK_SIZE: tl.constexpr):
    """Means over a cell: flow of moving pixels, their share, and the share of pixels that the flow explains."""
    cell, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    area = height * width
    row, column = cell // columns, cell % columns
    top, bottom = row * height // rows, ((row + 1) * height + rows - 1) // rows
    left, right = column * width // columns, ((column + 1) * width + columns - 1) // columns
    y, x = top + tl.arange(0, BLOCK_SIZE)[:, None], left + tl.arange(0, BLOCK_SIZE)[None, :]
    mask = (y < bottom) & (x < right)
    image, other_image = images + n * 3 * area, images + (n + samples // 2) % samples * 3 * area
    flows += n * 2 * area
    u, v = load(flows, y, x, width, 1, mask), load(flows + area, y, x, width, 1, mask)
    error = _warped_difference(image, other_image, y, x, u, v, height, width, mask)
    explained = tl.where(mask & (error < certain), 1.0, 0.0)
    moving = tl.where(vector_length(u, v) > moves, explained, 0.0)
    count, cells = (bottom - top) * (right - left), rows * columns
    out += n * 4 * cells + cell
    tl.store(out, _reduce_tile(moving * u) / count)
    tl.store(out + cells, _reduce_tile(moving * v) / count)
    tl.store(out + 2 * cells, _reduce_tile(moving) / count)
    tl.store(out + 3 * cells, _reduce_tile(explained) / count)


@jit
def _median(value, valid, index, rank):
    """The value of a rank among valid ones; 0 if there is none."""
    precedes = (value[None, :] < value[:, None]) | (
        (value[None, :] == value[:, None]) & (index[None, :] < index[:, None])
    )
    position = reduce_sum(tl.where(precedes & valid[None, :], 1, 0), 1)
    return reduce_sum(tl.where(valid & (position == rank), value, 0.0), 0)


@jit
def _motion_tolerance(length):
    return tl.minimum(1.0 + 0.25 * length, 0.6 * length)


@jit
def _surrounding_motion(
    sums, out, rows, columns, min_moving_share, min_moving, min_explained, WINDOW: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """The median motion of the moving cells around one, and the share of all cells that move like it."""
    cell, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    cells = rows * columns
    sums += n * 4 * cells
    neighbour = tl.arange(0, BLOCK_SIZE)
    row, column = cell // columns + neighbour // WINDOW - WINDOW // 2, cell % columns + neighbour % WINDOW - WINDOW // 2
    mask = (neighbour < WINDOW * WINDOW) & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    elements = sums + row * columns + column
    moving = tl.load(elements + 2 * cells, mask=mask, other=0.0)
    explained = tl.load(elements + 3 * cells, mask=mask, other=0.0)
    valid = mask & (moving > min_moving_share * explained) & (moving > min_moving)
    scale = 1.0 / tl.maximum(moving, 1e-3)
    u, v = scale * tl.load(elements, mask=mask, other=0.0), scale * tl.load(elements + cells, mask=mask, other=0.0)
    rank = (reduce_sum(tl.where(valid, 1, 0), 0) - 1) // 2
    median_u, median_v = _median(u, valid, neighbour, rank), _median(v, valid, neighbour, rank)
    distance = tl.sqrt((u - median_u) * (u - median_u) + (v - median_v) * (v - median_v))
    agrees = valid & (distance < _motion_tolerance(vector_length(median_u, median_v)))
    counted = tl.where(mask & (explained > min_explained), 1.0, 0.0)
    agreeing = reduce_sum(tl.where(agrees, counted, 0.0), 0)
    out += n * 3 * cells + cell
    tl.store(out, median_u)
    tl.store(out + cells, median_v)
    tl.store(out + 2 * cells, agreeing / tl.maximum(reduce_sum(counted, 0), 1.0))


@jit
def _compare_with_surroundings(
    image, other, flow, surroundings, motion, y, x, height, width, rows, columns, min_motion, min_agreement, mask
):
    """Comparison of a frame with the motion of its surroundings, which is stored; see `rdvfi.content.overlay`."""
    area, cells = height * width, rows * columns
    u, v = load(flow, y, x, width, 1, mask), load(flow + area, y, x, width, 1, mask)
    point = coarse_corners(y, x, height, width, rows, columns)
    around_u = bilinear(surroundings, point, columns, 1, mask)
    around_v = bilinear(surroundings + cells, point, columns, 1, mask)
    agreement = bilinear(surroundings + 2 * cells, point, columns, 1, mask)
    store_pair(motion + y * width + x, area, around_u, around_v, mask)
    length = vector_length(around_u, around_v)
    moves_around = length > min_motion
    like_around = vector_length(u - around_u, v - around_v) < _motion_tolerance(length)
    possible = moves_around & (agreement > min_agreement) & (like_around | (vector_length(u, v) < min_motion))
    difference = _warped_difference(image, other, y, x, around_u, around_v, height, width, mask)
    return difference, moves_around, like_around & moves_around, possible


@jit
def _compare_frames(
    images, flows, surroundings, motions, maps, pairs, height, width, rows, columns, max_static_difference, min_motion,
    min_agreement,
):  # fmt: skip
    """Both frames compared with the motion of their surroundings: five maps of evidence for an overlay."""
    n, y, x, mask = tile(height, width)
    area, cells = height * width, rows * columns
    first, last = images + n * 3 * area, images + (pairs + n) * 3 * area
    motions += n * 4 * area
    difference0, moves0, dragged0, possible0 = _compare_with_surroundings(
        first, last, flows + n * 2 * area, surroundings + n * 3 * cells, motions,
        y, x, height, width, rows, columns, min_motion, min_agreement, mask,
    )  # fmt: skip
    difference1, moves1, dragged1, possible1 = _compare_with_surroundings(
        last, first, flows + (pairs + n) * 2 * area, surroundings + (pairs + n) * 3 * cells, motions + 2 * area,
        y, x, height, width, rows, columns, min_motion, min_agreement, mask,
    )  # fmt: skip
    static_difference = _warped_difference(first, last, y, x, 0.0, 0.0, height, width, mask)
    is_static = static_difference < max_static_difference
    maps += n * 5 * area + y * width + x
    tl.store(maps, static_difference, mask=mask)
    tl.store(maps + area, tl.minimum(difference0, difference1), mask=mask)
    tl.store(maps + 2 * area, tl.where(is_static & possible0 & possible1, 1.0, 0.0), mask=mask)
    tl.store(maps + 3 * area, tl.where(dragged0 & dragged1, 1.0, 0.0), mask=mask)
    tl.store(maps + 4 * area, tl.where(is_static & moves0 & moves1, 1.0, 0.0), mask=mask)


@jit
def _line_mean(maps, y, x, height, width, mask, ROW: tl.constexpr, WINDOW: tl.constexpr):
    """Mean over a window of a row or a column, within the image."""
    total = 0.0 * load(maps, y, x, width, 1, mask)
    count = total
    for k in range(WINDOW):
        row, column = y + (0 if ROW else k - WINDOW // 2), x + (k - WINDOW // 2 if ROW else 0)
        tap_mask = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        total += load(maps, row, column, width, 1, tap_mask)
        count += tl.where(tap_mask, 1.0, 0.0)
    return total / tl.maximum(count, 1.0)


@jit
def _row_means(maps, out, height, width, WINDOW: tl.constexpr):
    n, y, x, mask = tile(height, width)
    mean = _line_mean(maps + n * 5 * height * width, y, x, height, width, mask, True, WINDOW)
    tl.store(out + (n * height + y) * width + x, mean, mask=mask)


@jit
def _certain_overlay(means, maps, out, height, width, min_texture, min_difference, WINDOW: tl.constexpr):
    """Where an overlay is possible, without uniform static objects, and where it is certain."""
    n, y, x, mask = tile(height, width)
    area = height * width
    mean = _line_mean(means + n * area, y, x, height, width, mask, False, WINDOW)
    maps += n * 5 * area + y * width + x
    is_dragged = tl.load(maps + 3 * area, mask=mask, other=0.0) > 0.0
    possible = tl.load(maps + 2 * area, mask=mask, other=0.0)
    possible = tl.where(is_dragged | (mean >= min_texture), possible, 0.0)
    certain_mask = tl.where(tl.load(maps + area, mask=mask, other=0.0) > min_difference, possible, 0.0)
    store_pair(out + n * 2 * area + y * width + x, area, possible, certain_mask, mask)


@jit
def window_filter(
    maps, factor, out, height, width, maps_stride_n, factor_stride_n, min_share, MAXIMUM: tl.constexpr,
    OR_FACTOR: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    """``MAXIMUM``: the maximum of a window times a factor; else the mask where its mean exceeds ``min_share``.

    With a negative ``min_share`` the mean itself. ``OR_FACTOR``: the maximum of the result and the factor.
    """
    n, y, x, mask = tile(height, width)
    maps += n * maps_stride_n
    centre = load(maps, y, x, width, 1, mask)
    result, count = 0.0 * centre, 0.0 * centre
    for k in range(WINDOW * WINDOW):
        row, column = y + k // WINDOW - WINDOW // 2, x + k % WINDOW - WINDOW // 2
        tap_mask = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        value = load(maps, row, column, width, 1, tap_mask)
        if MAXIMUM:
            result = tl.maximum(result, value)
        else:
            result += value
            count += tl.where(tap_mask, 1.0, 0.0)
    factor_elements = factor + n * factor_stride_n + y * width + x
    if MAXIMUM:
        result *= tl.load(factor_elements, mask=mask, other=0.0)
    else:
        result = result / tl.maximum(count, 1.0)
        if min_share >= 0.0:
            result = tl.where(result > min_share, centre, 0.0)
        if OR_FACTOR:
            result = tl.maximum(result, tl.load(factor_elements, mask=mask, other=0.0))
    tl.store(out + (n * height + y) * width + x, result, mask=mask)


@jit
def _pool_cells(maps, out, height, width, CELL: tl.constexpr):
    """Means of cells, within the image."""
    rows, columns = (height + CELL - 1) // CELL, (width + CELL - 1) // CELL
    n, y, x, mask = tile(rows, columns)
    total = zeros()
    count = total
    for k in range(CELL * CELL):
        row, column = y * CELL + k // CELL, x * CELL + k % CELL
        tap_mask = mask & (row < height) & (column < width)
        total += load(maps + n * height * width, row, column, width, 1, tap_mask)
        count += tl.where(tap_mask, 1.0, 0.0)
    tl.store(out + (n * rows + y) * columns + x, total / tl.maximum(count, 1.0), mask=mask)


@jit
def _within_reach(
    pooled, maps, evidence, out, height, width, rows, columns, min_share, min_faint_difference, FAINT: tl.constexpr
):
    """The mask near enough evidence; or, ``FAINT``, where faint differences are possible, and where they are."""
    n, y, x, mask = tile(height, width)
    area = height * width
    in_reach = load(pooled + n * rows * columns, y * rows // height, x * columns // width, columns, 1, mask) > min_share
    offsets = y * width + x
    if FAINT:
        possible = tl.where(in_reach, tl.load(evidence + n * 5 * area + 4 * area + offsets, mask=mask, other=0.0), 0.0)
        difference = tl.load(evidence + n * 5 * area + area + offsets, mask=mask, other=0.0)
        faint = tl.where(difference > min_faint_difference, possible, 0.0)
        store_pair(out + n * 2 * area + offsets, area, possible, faint, mask)
    else:
        value = tl.load(maps + n * area + offsets, mask=mask, other=0.0)
        tl.store(out + n * area + offsets, tl.where(in_reach, value, 0.0), mask=mask)


def _filter(maps: Tensor, factor: Tensor, out: Tensor, window: int, min_share: float, *, maximum: bool = False) -> None:
    """`window_filter` of maps (b, 1, h, w), with the same factor for all samples or one each."""
    b, _, h, w = maps.shape
    arguments = (maps, factor, out, h, w, maps.stride(0), factor.stride(0), min_share)
    window_filter[launch_grid(b, h, w)](*arguments, MAXIMUM=maximum, OR_FACTOR=False, WINDOW=window)


def _pooled_maximum(mask: Tensor, reach: int, *, mean: bool) -> Tensor:
    """At a quarter of the size: the maximum of a mask within reach, or of its means over windows as wide."""
    b, _, h, w = mask.shape
    size = (-(-h // 4), -(-w // 4))
    pooled, out = mask.new_empty((b, 1, *size)), mask.new_empty((b, 1, *size))
    _pool_cells[launch_grid(b, *size)](mask, pooled, h, w, CELL=4)
    window, ones = reach // 8 * 2 + 1, mask.new_ones((1, 1, *size)).expand(b, 1, *size)
    if mean:
        _filter(pooled, ones, out, window, -1.0)
        pooled, out = out, pooled
    _filter(pooled, ones, out, window, 0.0, maximum=True)
    return out


def _compare_with_background(
    images: Tensor, flows: Tensor, cell: int, cells_around: int, moving: tuple[float, float, float], *,
    max_difference: float, min_difference: float, min_motion: float, min_agreement: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Motion of the surroundings (b, 2, 2, h, w), and five maps of how both frames compare with it."""
    (n, _, h, w), b = images.shape, len(images) // 2
    rows, columns = max(2, h // cell), max(2, w // cell)
    sums, surroundings = images.new_empty((n, 4, rows, columns)), images.new_empty((n, 3, rows, columns))
    motions, maps = images.new_empty((b, 2, 2, h, w)), images.new_empty((b, 5, h, w))
    arguments = (images, flows, sums, n, h, w, rows, columns, min_difference, min_motion)
    _cell_motion[rows * columns, n](*arguments, BLOCK_SIZE=32)
    blocks = {"WINDOW": cells_around, "BLOCK_SIZE": triton.next_power_of_2(cells_around**2)}
    _surrounding_motion[rows * columns, n](sums, surroundings, rows, columns, *moving, **blocks)
    arguments = (images, flows, surroundings, motions, maps, b, h, w, rows, columns)
    _compare_frames[launch_grid(b, h, w)](*arguments, max_difference, min_motion, min_agreement)
    return motions, maps


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
    motions, maps = _compare_with_background(
        images, flows, cell, cells_around, moving,
        max_difference=equal, min_difference=certain, min_motion=moves, min_agreement=agrees,
    )  # fmt: skip
    b, _, h, w = img0.shape
    grid = launch_grid(b, h, w)
    first, second, core, mask = (images.new_empty((b, 1, h, w)) for _ in range(4))
    possible = images.new_empty((b, 2, h, w))
    _row_means[grid](maps, first, h, w, WINDOW=around)
    _certain_overlay[grid](first, maps, possible, h, w, solid, certain, WINDOW=around)
    # Seeds where enough pixels around are certain, grown into the possible pixels beside them.
    _filter(possible[:, 1:], possible, first, 7, seeds)
    _filter(first, possible, second, 5, 0.0, maximum=True)
    _filter(second, possible, first, 5, 0.2)
    pooled = _pooled_maximum(first, group[0], mean=True)
    size = (pooled.shape[-2], pooled.shape[-1])
    _within_reach[grid](pooled, first, maps, core, h, w, *size, group[1], faint, FAINT=False)
    # Fainter differences within reach of what was found.
    pooled = _pooled_maximum(core, reach, mean=False)
    _within_reach[grid](pooled, first, maps, possible, h, w, *size, 0.0, faint, FAINT=True)
    _filter(possible[:, 1:], possible, second, 3, 0.0, maximum=True)
    arguments = (second, core, mask, h, w, second.stride(0), core.stride(0), 0.15)
    window_filter[grid](*arguments, MAXIMUM=False, OR_FACTOR=True, WINDOW=5)
    return mask, motions
