# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""The dominant shift on CUDA: the kernels of `rdvfi.motion.flow.dominant_shift`.

Two launches even the pictures out; the correlation is one Fourier transform each way, and what the
overlap of a shift holds comes from summed squares (an integral image), where the reference correlates with
ones. One program instance per pair walks twice over all shifts: 2h x 2w cells with 9 loads and about 40
operations each, 29,000 cells at 112x64. That is a few microseconds on one multiprocessor, and no launch
in between. Floor: 4 bytes a cell for the products, 4 a pixel for each sum.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import launch_grid, load_clamped, reduce_sum, tile, zeros


@jit
def _normalise_contrast(image, out, samples, height, width, noise, WINDOW: tl.constexpr, BY_DEVIATION: tl.constexpr):
    """Subtract the local mean; or, ``BY_DEVIATION``, divide by the local deviation, and store the square too."""
    n, y, x, mask = tile(height, width)
    area = height * width
    image += n * area
    total = zeros()
    for k in range(WINDOW * WINDOW):
        value = load_clamped(image, y + k // WINDOW - WINDOW // 2, x + k % WINDOW - WINDOW // 2, height, width, mask)
        total += value * value if BY_DEVIATION else value
    centre = load_clamped(image, y, x, height, width, mask)
    out += n * area + y * width + x
    if BY_DEVIATION:
        centre = centre / tl.sqrt(total / (WINDOW * WINDOW) + noise * noise)
        tl.store(out, centre, mask=mask)
        tl.store(out + samples * area, centre * centre, mask=mask)
    else:
        tl.store(out, centre - total / (WINDOW * WINDOW), mask=mask)


@jit
def _box_sum(sums, top, bottom, left, right, width):
    """Sum over rows [top, low) and columns [left, right), from an integral image."""
    has_rows_above, has_columns_before = top > 0, left > 0
    total = tl.load(sums + (bottom - 1) * width + right - 1, mask=(bottom > top) & (right > left), other=0.0)
    total -= tl.load(sums + (top - 1) * width + right - 1, mask=has_rows_above & (right > left), other=0.0)
    total -= tl.load(sums + (bottom - 1) * width + left - 1, mask=has_columns_before & (bottom > top), other=0.0)
    return total + tl.load(sums + (top - 1) * width + left - 1, mask=has_rows_above & has_columns_before, other=0.0)


@jit
def _score(products, squares0, squares1, y, x, height, width, min_overlap):
    """Normalised correlation at the cells (y, x), whose shifts wrap around; -1 with too little overlap."""
    dy, dx = tl.where(y >= height, y - 2 * height, y), tl.where(x >= width, x - 2 * width, x)
    rows, columns = height - tl.abs(dy), width - tl.abs(dx)
    overlap_share = rows * columns * (1.0 / (height * width))
    in_view = overlap_share > min_overlap
    top, left = tl.where(in_view, tl.maximum(-dy, 0), 0), tl.where(in_view, tl.maximum(-dx, 0), 0)
    rows, columns = tl.where(in_view, rows, 0), tl.where(in_view, columns, 0)
    energy0 = _box_sum(squares0, top, top + rows, left, left + columns, width)
    top, left = tl.where(in_view, tl.maximum(dy, 0), 0), tl.where(in_view, tl.maximum(dx, 0), 0)
    energy1 = _box_sum(squares1, top, top + rows, left, left + columns, width)
    product = tl.load(products + y * 2 * width + x)
    score = product / tl.sqrt(tl.maximum(energy0, 1e-3) * tl.maximum(energy1, 1e-3))
    return tl.where(in_view, score * (0.9 + 0.1 * overlap_share), -1.0)


@jit
def _subpixel_peak(left, centre, right):
    curvature = tl.maximum(2.0 * centre - left - right, 1e-4)
    return tl.minimum(tl.maximum(0.5 * (right - left) / curvature, -0.5), 0.5)


@jit
def _highest_score(products, first, second, height, width, min_overlap, BLOCK_SIZE: tl.constexpr):
    """The highest score of all cells, and the row and column of its cell."""
    cells, lane = 4 * height * width, tl.arange(0, BLOCK_SIZE)
    highest, at = tl.full((BLOCK_SIZE,), -2.0, tl.float32), tl.full((BLOCK_SIZE,), 0, tl.int32)
    for start in range(0, cells, BLOCK_SIZE):
        cell = tl.minimum(start + lane, cells - 1)
        score = _score(products, first, second, cell // (2 * width), cell % (2 * width), height, width, min_overlap)
        at = tl.where(score > highest, cell, at)
        highest = tl.maximum(score, highest)
    best, best_lane = tl.reduce((highest, lane), 0, tl.standard._argmax_combine_tie_break_left)
    cell = reduce_sum(tl.where(lane == best_lane, at, 0), 0)
    return best, cell // (2 * width), cell % (2 * width)


@jit
def _highest_score_elsewhere(
    products, first, second, y, x, height, width, min_overlap, min_distance, BLOCK_SIZE: tl.constexpr
):
    """The highest score of cells further than ``min_distance`` from the cell (y, x)."""
    cells, lane = 4 * height * width, tl.arange(0, BLOCK_SIZE)
    highest = tl.full((BLOCK_SIZE,), -1.0, tl.float32)
    for start in range(0, cells, BLOCK_SIZE):
        cell = tl.minimum(start + lane, cells - 1)
        row, column = cell // (2 * width), cell % (2 * width)
        score = _score(products, first, second, row, column, height, width, min_overlap)
        dy, dx = tl.abs(row - y), tl.abs(column - x)
        distance = tl.maximum(tl.minimum(dy, 2 * height - dy), tl.minimum(dx, 2 * width - dx))
        highest = tl.maximum(highest, tl.where(distance <= min_distance, -1.0, score))
    best, _ = tl.reduce((highest, lane), 0, tl.standard._argmax_combine_tie_break_left)
    return best


@jit
def _best_shift(
    products, sums, out, pairs, height, width, min_overlap, min_distance, zero_penalty, bonus, BLOCK_SIZE: tl.constexpr
):
    """The best shift, between cells, both ways, and its penalty."""
    n = tl.program_id(0).to(tl.int64)
    area = height * width
    products += n * 4 * area
    first, second = sums + n * area, sums + (pairs + n) * area
    best, y, x = _highest_score(products, first, second, height, width, min_overlap, BLOCK_SIZE)
    up, down = (y + 2 * height - 1) % (2 * height), (y + 1) % (2 * height)
    left, right = (x + 2 * width - 1) % (2 * width), (x + 1) % (2 * width)
    shift_x = tl.where(x >= width, x - 2 * width, x) + _subpixel_peak(
        _score(products, first, second, y, left, height, width, min_overlap),
        best,
        _score(products, first, second, y, right, height, width, min_overlap),
    )
    shift_y = tl.where(y >= height, y - 2 * height, y) + _subpixel_peak(
        _score(products, first, second, up, x, height, width, min_overlap),
        best,
        _score(products, first, second, down, x, height, width, min_overlap),
    )
    second_best = _highest_score_elsewhere(
        products, first, second, y, x, height, width, min_overlap, min_distance, BLOCK_SIZE
    )
    repetition = tl.minimum(tl.maximum((second_best / tl.maximum(best, 1e-3) - 0.5) / 0.2, 0.0), 1.0)
    repetition *= tl.minimum(tl.maximum((best - 0.5) / 0.2, 0.0), 1.0)
    penalty = zero_penalty - (zero_penalty + bonus) * repetition
    _store_shift(out + n * 3, shift_x, shift_y, penalty)
    _store_shift(out + (pairs + n) * 3, -shift_x, -shift_y, penalty)


@jit
def _store_shift(out, x, y, penalty):
    tl.store(out, x)
    tl.store(out + 1, y)
    tl.store(out + 2, penalty)


def dominant_shift(
    luma: Tensor, *, window: int, noise: float, min_overlap: float, min_distance: int, zero_penalty: float, bonus: float
) -> Tensor:
    """See `rdvfi.motion.flow.dominant_shift.dominant_shift`."""
    luma = luma.float().contiguous()
    n, _, h, w = luma.shape
    plain, maps, out = torch.empty_like(luma), luma.new_empty((2, n, h, w)), luma.new_empty((n, 3))
    grid, arguments = launch_grid(n, h, w), (n, h, w, noise)
    _normalise_contrast[grid](luma, plain, *arguments, WINDOW=window, BY_DEVIATION=False)
    _normalise_contrast[grid](plain, maps, *arguments, WINDOW=window, BY_DEVIATION=True)
    first, second = torch.fft.rfft2(maps[0], s=(2 * h, 2 * w)).chunk(2)
    products = torch.fft.irfft2(first.conj_physical() * second, s=(2 * h, 2 * w)).contiguous()
    sums = maps[1].cumsum(-1).cumsum(-2)
    arguments = (products, sums, out, n // 2, h, w, min_overlap, min_distance, zero_penalty, bonus)
    _best_shift[n // 2,](*arguments, BLOCK_SIZE=1024)
    return out
