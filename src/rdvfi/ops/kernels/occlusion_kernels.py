"""Maps continued where they do not hold, on CUDA: the kernels of `rdvfi.ops.occlusion`.

The pyramid takes a launch per level, down and up: 12, the larger half of them on a few hundred cells. The
check of a flow is one more. Floor in memory at c channels of float32: maps and validity are read twice and
the result is written, ``4 (3 c + 2)`` bytes a pixel, and a third of that for the other levels; about 10
operations per value.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import (
    TILE,
    bilinear,
    corners,
    length,
    load,
    programs,
    tile,
)


@triton.jit
@no_type_check
def _check(flow, out, samples, height, width, tolerance, relative, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """Whether each flow is consistent with the other way's, and whether it stays in the picture."""
    n, y, x, inside = tile(height, width, BLOCK_Y, BLOCK_X)
    area = height * width
    other = flow + (n + samples // 2) % samples * 2 * area
    flow += n * 2 * area
    u, v = load(flow, y, x, width, 1, inside), load(flow + area, y, x, width, 1, inside)
    to_x, to_y = x + u, y + v
    x0, y0, x1, y1, fx, fy = corners(to_x, to_y, height, width)
    miss_x = u + bilinear(other, x0, y0, x1, y1, fx, fy, width, 1, inside)
    miss_y = v + bilinear(other + area, x0, y0, x1, y1, fx, fy, width, 1, inside)
    passes = length(miss_x, miss_y) / (tolerance + relative * length(u, v)) < 1.0
    stays = (to_x >= 0.0) & (to_x <= width - 1.0) & (to_y >= 0.0) & (to_y <= height - 1.0)
    out += n * 2 * area + y * width + x
    tl.store(out, tl.where(stays & passes, 1.0, 0.0), mask=inside)
    tl.store(out + area, tl.where(stays, 1.0, 0.0), mask=inside)


@triton.jit
@no_type_check
def _return(there, back, out, height, width, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """Pixels by which the way there and back misses."""
    n, y, x, inside = tile(height, width, BLOCK_Y, BLOCK_X)
    area = height * width
    there, back = there + n * 2 * area, back + n * 2 * area
    u, v = load(there, y, x, width, 1, inside), load(there + area, y, x, width, 1, inside)
    x0, y0, x1, y1, fx, fy = corners(x + u, y + v, height, width)
    u += bilinear(back, x0, y0, x1, y1, fx, fy, width, 1, inside)
    v += bilinear(back + area, x0, y0, x1, y1, fx, fy, width, 1, inside)
    tl.store(out + n * area + y * width + x, length(u, v), mask=inside)


def return_error(there: Tensor, back: Tensor) -> Tensor:
    """See `rdvfi.ops.occlusion.return_error`."""
    there, back = there.float().contiguous(), back.float().contiguous()
    n, _, h, w = there.shape
    out = there.new_empty((n, 1, h, w))
    if out.numel():
        with torch.cuda.device_of(out):
            _return[programs(n, h, w)](there, back, out, h, w, **TILE)
    return out


@triton.jit
@no_type_check
def _shrink(
    maps,
    valid,
    out,
    height,
    width,
    valid_n,
    FIRST: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    """Means of 2x2 cells, of those that are there; the last channel is the share that is valid."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    n, y, x, inside = tile(rows, columns, BLOCK_Y, BLOCK_X)
    area = height * width
    count = tl.where(2 * y + 1 < height, 2.0, 1.0) * tl.where(2 * x + 1 < width, 2.0, 1.0)
    out += n * (CHANNELS + 1) * rows * columns + y * columns + x
    for c in tl.static_range(CHANNELS + 1):
        total = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
        for k in tl.static_range(4):
            row, column = 2 * y + k // 2, 2 * x + k % 2
            there = inside & (row < height) & (column < width)
            if FIRST:
                value = load(valid + n * valid_n, row, column, width, 1, there)
                if c < CHANNELS:
                    value *= load(maps + (n * CHANNELS + c) * area, row, column, width, 1, there)
            else:
                value = load(maps + (n * (CHANNELS + 1) + c) * area, row, column, width, 1, there)
            total += value
        tl.store(out + c * rows * columns, total / count, mask=inside)


@triton.jit
@no_type_check
def _grow(
    coarse,
    maps,
    valid,
    checked,
    out,
    rows,
    columns,
    height,
    width,
    valid_n,
    enough,
    same_scene,
    TOP: tl.constexpr,
    LAST: tl.constexpr,
    OCCLUDED: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    """Means where enough of a cell is valid, those of the coarser level elsewhere."""
    n, y, x, inside = tile(height, width, BLOCK_Y, BLOCK_X)
    area, cells = height * width, rows * columns
    x0, y0, x1, y1, fx, fy = corners((x + 0.5) * columns / width - 0.5, (y + 0.5) * rows / height - 0.5, rows, columns)
    if LAST:
        share = load(valid + n * valid_n, y, x, width, 1, inside)
    else:
        maps += n * (CHANNELS + 1) * area
        share = load(maps + CHANNELS * area, y, x, width, 1, inside)
    if TOP:
        coarse += n * (CHANNELS + 1) * cells
        shares = coarse + CHANNELS * cells
        s00, s01 = load(shares, y0, x0, columns, 1, inside), load(shares, y0, x1, columns, 1, inside)
        s10, s11 = load(shares, y1, x0, columns, 1, inside), load(shares, y1, x1, columns, 1, inside)
    else:
        coarse += n * CHANNELS * cells
    if OCCLUDED:
        stays = load(valid + n * valid_n + area, y, x, width, 1, inside)
        consistent = tl.load(checked + n * 2) >= same_scene * tl.load(checked + n * 2 + 1)
    for c in tl.static_range(CHANNELS):
        plane = coarse + c * cells
        if TOP:
            top = load(plane, y0, x0, columns, 1, inside) / tl.maximum(s00, 1e-6)
            low = load(plane, y1, x0, columns, 1, inside) / tl.maximum(s10, 1e-6)
            top += fx * (load(plane, y0, x1, columns, 1, inside) / tl.maximum(s01, 1e-6) - top)
            low += fx * (load(plane, y1, x1, columns, 1, inside) / tl.maximum(s11, 1e-6) - low)
            wide = top + fy * (low - top)
        else:
            wide = bilinear(plane, x0, y0, x1, y1, fx, fy, columns, 1, inside)
        if LAST:
            own = load(maps + (n * CHANNELS + c) * area, y, x, width, 1, inside)
            total = own * share
        else:
            total = load(maps + c * area, y, x, width, 1, inside)
        filled = tl.where(share > enough, total / tl.maximum(share, 1e-6), wide)
        if OCCLUDED:
            filled = tl.where(stays > share, tl.where(consistent, filled, own), own)
        tl.store(out + (n * CHANNELS + c) * area + y * width + x, filled, mask=inside)


def _filled(
    maps: Tensor, valid: Tensor, checked: Tensor | None, levels: int, enough: float, same_scene: float
) -> Tensor:
    """Maps continued where they do not hold; with ``checked`` only where they are occluded."""
    n, c, h, w = maps.shape
    sizes, pyramid = [(h, w)], [maps]
    for _ in range(levels):
        h, w = sizes[-1]
        sizes.append((-(-h // 2), -(-w // 2)))
        small = maps.new_empty((n, c + 1, *sizes[-1]))
        first = len(sizes) == 2
        arguments = (pyramid[-1], valid, small, h, w, valid.stride(0))
        _shrink[programs(n, *sizes[-1])](*arguments, FIRST=first, CHANNELS=c, **TILE)
        pyramid.append(small)
    filled = pyramid[-1]
    for level in range(levels - 1, -1, -1):
        out = maps.new_empty((n, c, *sizes[level]))
        kinds = {"TOP": level == levels - 1, "LAST": level == 0, "OCCLUDED": level == 0 and checked is not None}
        sums = valid if checked is None else checked
        arguments = (filled, pyramid[level], valid, sums, out, *sizes[level + 1], *sizes[level], valid.stride(0))
        _grow[programs(n, *sizes[level])](*arguments, enough, same_scene, CHANNELS=c, **kinds, **TILE)
        filled = out
    return filled


def pull_push(maps: Tensor, valid: Tensor, *, levels: int, enough: float) -> Tensor:
    """See `rdvfi.ops.occlusion.pull_push`."""
    with torch.cuda.device_of(maps):
        return _filled(maps.float().contiguous(), valid.float().contiguous(), None, levels, enough, 0.0)


def fill_occluded(
    onward: Tensor, back: Tensor, *, levels: int, enough: float, tolerance: float, relative: float, same_scene: float
) -> Tensor:
    """See `rdvfi.ops.occlusion.fill_occluded`: both flows as one batch."""
    both = torch.cat((onward, back)).float()
    n, _, h, w = both.shape
    valid = both.new_empty((n, 2, h, w))
    with torch.cuda.device_of(both):
        _check[programs(n, h, w)](both, valid, n, h, w, tolerance, relative, **TILE)
        return _filled(both, valid, valid.sum((2, 3)), levels, enough, same_scene)
