"""The dominant shift on CUDA: the kernels of `rdvfi.motion.flow.dominant_shift`.

Two launches even the pictures out; the correlation is one Fourier transform each way, and what the
overlap of a shift holds comes from summed squares (an integral image), where the reference correlates with
ones. One program instance per pair walks twice over all shifts: 2h x 2w cells with 9 loads and about 40
operations each, 29,000 cells at 112x64. That is a few microseconds on one multiprocessor, and no launch
in between. Floor: 4 bytes a cell for the products, 4 a pixel for each sum.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import launch_grid, load_clamped, reduce_sum, tile, zeros


@triton.jit
@no_type_check
def _even(image, out, samples, height, width, noise, SIDE: tl.constexpr, LAST: tl.constexpr):
    """Without the local mean; or, ``LAST``, over the local deviation, and the square of that."""
    n, y, x, mask = tile(height, width)
    area = height * width
    image += n * area
    total = zeros()
    for k in range(SIDE * SIDE):
        value = load_clamped(image, y + k // SIDE - SIDE // 2, x + k % SIDE - SIDE // 2, height, width, mask)
        total += value * value if LAST else value
    here = load_clamped(image, y, x, height, width, mask)
    out += n * area + y * width + x
    if LAST:
        here = here / tl.sqrt(total / (SIDE * SIDE) + noise * noise)
        tl.store(out, here, mask=mask)
        tl.store(out + samples * area, here * here, mask=mask)
    else:
        tl.store(out, here - total / (SIDE * SIDE), mask=mask)


@triton.jit
@no_type_check
def _held(sums, top, low, left, right, width):
    """Sum over rows [top, low) and columns [left, right), from an integral image."""
    above, before = top > 0, left > 0
    total = tl.load(sums + (low - 1) * width + right - 1, mask=(low > top) & (right > left), other=0.0)
    total -= tl.load(sums + (top - 1) * width + right - 1, mask=above & (right > left), other=0.0)
    total -= tl.load(sums + (low - 1) * width + left - 1, mask=before & (low > top), other=0.0)
    return total + tl.load(sums + (top - 1) * width + left - 1, mask=above & before, other=0.0)


@triton.jit
@no_type_check
def _score(products, first, second, y, x, height, width, overlap):
    """Normalised correlation at shifts of numbers (y, x), which wrap round; -1 where too little is in view."""
    dy, dx = tl.where(y >= height, y - 2 * height, y), tl.where(x >= width, x - 2 * width, x)
    rows, columns = height - tl.abs(dy), width - tl.abs(dx)
    share = rows * columns * (1.0 / (height * width))
    seen = share > overlap
    top, left = tl.where(seen, tl.maximum(-dy, 0), 0), tl.where(seen, tl.maximum(-dx, 0), 0)
    rows, columns = tl.where(seen, rows, 0), tl.where(seen, columns, 0)
    leaves = _held(first, top, top + rows, left, left + columns, width)
    top, left = tl.where(seen, tl.maximum(dy, 0), 0), tl.where(seen, tl.maximum(dx, 0), 0)
    enters = _held(second, top, top + rows, left, left + columns, width)
    product = tl.load(products + y * 2 * width + x)
    score = product / tl.sqrt(tl.maximum(leaves, 1e-3) * tl.maximum(enters, 1e-3))
    return tl.where(seen, score * (0.9 + 0.1 * share), -1.0)


@triton.jit
@no_type_check
def _between(before, here, after):
    curvature = tl.maximum(2.0 * here - before - after, 1e-4)
    return tl.minimum(tl.maximum(0.5 * (after - before) / curvature, -0.5), 0.5)


@triton.jit
@no_type_check
def _peak(products, sums, out, pairs, height, width, overlap, apart, zero_penalty, bonus, BLOCK: tl.constexpr):
    """The best shift, between cells, both ways, and its penalty."""
    n = tl.program_id(0).to(tl.int64)
    cells, area = 4 * height * width, height * width
    products += n * cells
    first, second = sums + n * area, sums + (pairs + n) * area
    lane = tl.arange(0, BLOCK)
    most, at = tl.full((BLOCK,), -2.0, tl.float32), tl.full((BLOCK,), 0, tl.int32)
    for start in range(0, cells, BLOCK):
        cell = tl.minimum(start + lane, cells - 1)
        score = _score(products, first, second, cell // (2 * width), cell % (2 * width), height, width, overlap)
        at = tl.where(score > most, cell, at)
        most = tl.maximum(score, most)
    best, winner = tl.reduce((most, lane), 0, tl.standard._argmax_combine_tie_break_left)
    place = reduce_sum(tl.where(lane == winner, at, 0), 0)
    y, x = place // (2 * width), place % (2 * width)
    up, down = (y + 2 * height - 1) % (2 * height), (y + 1) % (2 * height)
    left, right = (x + 2 * width - 1) % (2 * width), (x + 1) % (2 * width)
    move_x = tl.where(x >= width, x - 2 * width, x) + _between(
        _score(products, first, second, y, left, height, width, overlap),
        best,
        _score(products, first, second, y, right, height, width, overlap),
    )
    move_y = tl.where(y >= height, y - 2 * height, y) + _between(
        _score(products, first, second, up, x, height, width, overlap),
        best,
        _score(products, first, second, down, x, height, width, overlap),
    )
    most = tl.full((BLOCK,), -1.0, tl.float32)
    for start in range(0, cells, BLOCK):
        cell = tl.minimum(start + lane, cells - 1)
        row, column = cell // (2 * width), cell % (2 * width)
        score = _score(products, first, second, row, column, height, width, overlap)
        away_y, away_x = tl.abs(row - y), tl.abs(column - x)
        away = tl.maximum(tl.minimum(away_y, 2 * height - away_y), tl.minimum(away_x, 2 * width - away_x))
        most = tl.maximum(most, tl.where(away <= apart, -1.0, score))
    other, _ = tl.reduce((most, lane), 0, tl.standard._argmax_combine_tie_break_left)
    repeats = tl.minimum(tl.maximum((other / tl.maximum(best, 1e-3) - 0.5) / 0.2, 0.0), 1.0)
    repeats *= tl.minimum(tl.maximum((best - 0.5) / 0.2, 0.0), 1.0)
    penalty = zero_penalty - (zero_penalty + bonus) * repeats
    tl.store(out + n * 3, move_x)
    tl.store(out + n * 3 + 1, move_y)
    tl.store(out + n * 3 + 2, penalty)
    out += (pairs + n) * 3
    tl.store(out, -move_x)
    tl.store(out + 1, -move_y)
    tl.store(out + 2, penalty)


def dominant_shift(
    luma: Tensor, *, side: int, noise: float, overlap: float, apart: int, zero_penalty: float, bonus: float
) -> Tensor:
    """See `rdvfi.motion.flow.dominant_shift.dominant_shift`."""
    luma = luma.float().contiguous()
    n, _, h, w = luma.shape
    plain, maps, out = torch.empty_like(luma), luma.new_empty((2, n, h, w)), luma.new_empty((n, 3))
    grid, arguments = launch_grid(n, h, w), (n, h, w, noise)
    _even[grid](luma, plain, *arguments, SIDE=side, LAST=False)
    _even[grid](plain, maps, *arguments, SIDE=side, LAST=True)
    first, second = torch.fft.rfft2(maps[0], s=(2 * h, 2 * w)).chunk(2)
    products = torch.fft.irfft2(first.conj_physical() * second, s=(2 * h, 2 * w)).contiguous()
    sums = maps[1].cumsum(-1).cumsum(-2)
    arguments = (products, sums, out, n // 2, h, w, overlap, apart, zero_penalty, bonus)
    _peak[n // 2,](*arguments, BLOCK=1024)
    return out
