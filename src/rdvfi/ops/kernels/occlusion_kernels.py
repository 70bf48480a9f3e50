# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Maps continued where they do not hold, on CUDA: the kernels of `rdvfi.ops.occlusion`.

One launch goes down: an instance holds a tile of the finest level, as wide as the widest cell, in registers, and
halves it level by level. Four go up, the coarse ones two levels each: what a cell lacks it takes from four cells of
the level above, each of which takes what it lacks from the level above that. The check of a flow is one more. Floor in
memory at c channels of float32: maps and validity are read twice and the result is written, ``4 (3 c + 2)`` bytes a
pixel, and a third of that for the other levels; about 10 operations per value.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    coarse_corners,
    launch_grid,
    load,
    round_trip,
    sized_tile,
    tile,
    vector_length,
)


@jit
def _forward_backward_check(flow, out, samples, height, width, tolerance, relative):
    """Whether each flow is consistent with the opposite one, and whether it stays in the image."""
    n, y, x, mask = tile(height, width)
    area = height * width
    opposite = flow + (n + samples // 2) % samples * 2 * area
    flow += n * 2 * area
    u, v, miss_x, miss_y = round_trip(flow, opposite, area, y, x, height, width, width, 1, mask)
    target_x, target_y = x + u, y + v
    passes = vector_length(miss_x, miss_y) / (tolerance + relative * vector_length(u, v)) < 1.0
    stays = (target_x >= 0.0) & (target_x <= width - 1.0) & (target_y >= 0.0) & (target_y <= height - 1.0)
    out += n * 2 * area + y * width + x
    tl.store(out, tl.where(stays & passes, 1.0, 0.0), mask=mask)
    tl.store(out + area, tl.where(stays, 1.0, 0.0), mask=mask)


@jit
def _return_error(onward, back, out, height, width):
    """Forward-backward error, in pixels."""
    n, y, x, mask = tile(height, width)
    area = height * width
    onward, back = onward + n * 2 * area, back + n * 2 * area
    _u, _v, miss_x, miss_y = round_trip(onward, back, area, y, x, height, width, width, 1, mask)
    tl.store(out + n * area + y * width + x, vector_length(miss_x, miss_y), mask=mask)


def return_error(onward: Tensor, back: Tensor) -> Tensor:
    """See `rdvfi.ops.occlusion.return_error`."""
    onward, back = onward.float().contiguous(), back.float().contiguous()
    n, _, h, w = onward.shape
    out = onward.new_empty((n, 1, h, w))
    _return_error[launch_grid(n, h, w)](onward, back, out, h, w)
    return out


@jit
def _halve(x, SIDE: tl.constexpr):
    """Sums of two by two values of a square."""
    left, right = tl.split(tl.reshape(x, (SIDE, SIDE // 2, 2)))
    upper, lower = tl.split(tl.reshape(tl.trans(left + right), (SIDE // 2, SIDE // 2, 2)))
    return tl.trans(upper + lower)


@jit
def _pull(maps, valid, sums, channels, height, width, planes, valid_stride_n, LEVELS: tl.constexpr):
    """Means of valid values over cells of every level, and the valid share (the last channel)."""
    SIDE: tl.constexpr = 1 << LEVELS
    n, y, x, mask = sized_tile(height, width, SIDE, SIDE)
    batch, c = n // (channels + 1), n % (channels + 1)
    offsets = y * width + x
    value = tl.load(valid + batch * valid_stride_n + offsets, mask=mask, other=0.0)
    if c < channels:
        value = value * tl.load(maps + (batch * channels + c) * height * width + offsets, mask=mask, other=0.0)
    top = tl.program_id(0) // ((width + SIDE - 1) // SIDE) % ((height + SIDE - 1) // SIDE)
    left = tl.program_id(0) % ((width + SIDE - 1) // SIDE)
    rows, columns = height, width
    for level in tl.static_range(1, LEVELS + 1):
        value = _halve(value, SIDE >> (level - 1))
        y = (top * (SIDE >> level) + tl.arange(0, SIDE >> level))[:, None]
        x = (left * (SIDE >> level) + tl.arange(0, SIDE >> level))[None, :]
        # Cells at the lower and right border may hold one row or column only.
        cell_size = tl.minimum(rows - 2 * y, 2) * tl.minimum(columns - 2 * x, 2)
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
        cell_mask = (y < rows) & (x < columns)
        value = tl.where(cell_mask, value / tl.where(cell_mask, cell_size, 1).to(tl.float32), 0.0)
        tl.store(sums + n * rows * columns + y * columns + x, value, mask=cell_mask)
        sums += planes.to(tl.int64) * rows * columns


@jit
def _bilinear_cells(y, x, rows, columns, parent_rows, parent_columns):
    """Position of a pixel among the cells of the coarser level: corners, and weights of the far ones."""
    cell_y = tl.maximum((y + 0.5) * (parent_rows * 1.0 / rows) - 0.5, 0.0)
    cell_x = tl.maximum((x + 0.5) * (parent_columns * 1.0 / columns) - 0.5, 0.0)
    y0, x0 = tl.minimum(cell_y.to(tl.int32), parent_rows - 1), tl.minimum(cell_x.to(tl.int32), parent_columns - 1)
    y1, x1 = tl.minimum(y0 + 1, parent_rows - 1), tl.minimum(x0 + 1, parent_columns - 1)
    return y0, x0, y1, x1, cell_y - y0, cell_x - x0


@jit
def _valid_mean(total, share, offsets, mask):
    """The mean of valid values at an offset, and the share that is valid."""
    valid = tl.load(share + offsets, mask=mask, other=0.0)
    return tl.load(total + offsets, mask=mask, other=0.0) / tl.maximum(valid, 1e-6), valid


@jit
def _filled_parent(
    total, share, top, top_share, y, x, rows, columns, top_rows, top_columns, mask, min_share, IS_LAST: tl.constexpr
):
    """A cell of the coarser level, filled from the level above it if its valid share is too small."""
    own, valid = _valid_mean(total, share, y * columns + x, mask)
    y0, x0, y1, x1, fy, fx = _bilinear_cells(y, x, rows, columns, top_rows, top_columns)
    if IS_LAST:
        a, _a = _valid_mean(top, top_share, y0 * top_columns + x0, mask)
        b, _b = _valid_mean(top, top_share, y0 * top_columns + x1, mask)
        c, _c = _valid_mean(top, top_share, y1 * top_columns + x0, mask)
        d, _d = _valid_mean(top, top_share, y1 * top_columns + x1, mask)
    else:
        a = tl.load(top + y0 * top_columns + x0, mask=mask, other=0.0)
        b = tl.load(top + y0 * top_columns + x1, mask=mask, other=0.0)
        c = tl.load(top + y1 * top_columns + x0, mask=mask, other=0.0)
        d = tl.load(top + y1 * top_columns + x1, mask=mask, other=0.0)
    a, c = a + fx * (b - a), c + fx * (d - c)
    return tl.where(valid > min_share, own, a + fy * (c - a))


@jit
def _push(fine, middle, top, out, channels, rows, columns, min_share, IS_LAST: tl.constexpr):
    """Fill one level from the two coarser ones; ``top`` is filled already, unless it is the coarsest (``IS_LAST``)."""
    n, y, x, mask = tile(rows, columns)
    b, c = n // channels, n % channels
    mid_rows, mid_columns = (rows + 1) // 2, (columns + 1) // 2
    top_rows, top_columns = (mid_rows + 1) // 2, (mid_columns + 1) // 2
    here, plane, last = y * columns + x, b * (channels + 1) + c, b * (channels + 1) + channels
    own, valid = _valid_mean(fine + plane * rows * columns, fine + last * rows * columns, here, mask)
    share = middle + last * mid_rows * mid_columns
    middle += plane * mid_rows * mid_columns
    top_share = top + last * top_rows * top_columns
    top += (plane if IS_LAST else n) * top_rows * top_columns
    y0, x0, y1, x1, fy, fx = _bilinear_cells(y, x, rows, columns, mid_rows, mid_columns)
    p = _filled_parent(
        middle, share, top, top_share, y0, x0, mid_rows, mid_columns, top_rows, top_columns, mask, min_share, IS_LAST
    )
    q = _filled_parent(
        middle, share, top, top_share, y0, x1, mid_rows, mid_columns, top_rows, top_columns, mask, min_share, IS_LAST
    )
    r = _filled_parent(
        middle, share, top, top_share, y1, x0, mid_rows, mid_columns, top_rows, top_columns, mask, min_share, IS_LAST
    )
    s = _filled_parent(
        middle, share, top, top_share, y1, x1, mid_rows, mid_columns, top_rows, top_columns, mask, min_share, IS_LAST
    )
    p, r = p + fx * (q - p), r + fx * (s - r)
    tl.store(out + n * rows * columns + here, tl.where(valid > min_share, own, p + fy * (r - p)), mask=mask)


@jit
def _fill_level(
    coarser, maps, valid, checked, out, rows, columns, height, width, valid_stride_n, min_share, same_scene,
    IS_LAST: tl.constexpr, ONLY_OCCLUDED: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Means of cells with enough valid pixels; elsewhere the upsampled coarser level."""
    n, y, x, mask = tile(height, width)
    area, cells = height * width, rows * columns
    point = coarse_corners(y, x, height, width, rows, columns)
    if IS_LAST:
        share = load(valid + n * valid_stride_n, y, x, width, 1, mask)
    else:
        maps += n * (CHANNELS + 1) * area
        share = load(maps + CHANNELS * area, y, x, width, 1, mask)
    coarser += n * CHANNELS * cells
    if ONLY_OCCLUDED:
        inside = load(valid + n * valid_stride_n + area, y, x, width, 1, mask)
        same_scene_mask = tl.load(checked + n * 2) >= same_scene * tl.load(checked + n * 2 + 1)
    for c in tl.static_range(CHANNELS):
        plane = coarser + c * cells
        upsampled = bilinear(plane, point, columns, 1, mask)
        if IS_LAST:
            value = load(maps + (n * CHANNELS + c) * area, y, x, width, 1, mask)
            total = value * share
        else:
            total = load(maps + c * area, y, x, width, 1, mask)
        filled = tl.where(share > min_share, total / tl.maximum(share, 1e-6), upsampled)
        if ONLY_OCCLUDED:
            filled = tl.where(inside > share, tl.where(same_scene_mask, filled, value), value)
        tl.store(out + (n * CHANNELS + c) * area + y * width + x, filled, mask=mask)


def _pull_push(
    maps: Tensor, valid: Tensor, checked: Tensor | None, levels: int, min_share: float, same_scene: float
) -> Tensor:
    """Maps, continued where they are invalid; with ``checked`` only where they are occluded."""
    n, c, h, w = maps.shape
    sizes = [(h, w)]
    for _ in range(levels):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    planes, areas = n * (c + 1), [rows * columns for rows, columns in sizes[1:]]
    sums = maps.new_empty(planes * sum(areas))
    pyramid = [maps, *sums.split([planes * area for area in areas])]
    tiles = -(-h // 2**levels) * -(-w // 2**levels)
    _pull[(planes * tiles,)](maps, valid, sums, c, h, w, planes, valid.stride(0), LEVELS=levels)
    filled = pyramid[-1]
    for level in range(levels - 2, 0, -2):
        out = maps.new_empty((n, c, *sizes[level]))
        arguments = [*pyramid[level : level + 2], filled, out, c, *sizes[level], min_share]
        _push[launch_grid(n * c, *sizes[level])](*arguments, IS_LAST=level == levels - 2)
        filled = out
    for level in (1, 0):
        out = maps.new_empty((n, c, *sizes[level]))
        kinds = {"IS_LAST": level == 0, "ONLY_OCCLUDED": level == 0 and checked is not None}
        sums = valid if checked is None else checked
        arguments = (filled, pyramid[level], valid, sums, out, *sizes[level + 1], *sizes[level], valid.stride(0))
        _fill_level[launch_grid(n, *sizes[level])](*arguments, min_share, same_scene, CHANNELS=c, **kinds)
        filled = out
    return filled


def pull_push(maps: Tensor, valid: Tensor, *, levels: int, min_share: float) -> Tensor:
    """See `rdvfi.ops.occlusion.pull_push`."""
    return _pull_push(maps.float().contiguous(), valid.float().contiguous(), None, levels, min_share, 0.0)


def fill_occluded(
    onward: Tensor, back: Tensor, *, levels: int, min_share: float, tolerance: float, relative: float, same_scene: float
) -> Tensor:
    """See `rdvfi.ops.occlusion.fill_occluded`: both flows as one batch."""
    both = torch.cat((onward, back)).float()
    n, _, h, w = both.shape
    valid = both.new_empty((n, 2, h, w))
    _forward_backward_check[launch_grid(n, h, w)](both, valid, n, h, w, tolerance, relative)
    return _pull_push(both, valid, valid.sum((2, 3)), levels, min_share, same_scene)
