# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Normalised pictures on CUDA: the kernels of `rdvfi.motion.flow.gauss_newton.NormalisedImages`.

Three launches: moments of cells, their means over 3x3 cells, and per pixel both values and the gradient, for
which five pixels are normalised: 8 moments and 3 colours each, 55 loads and about 150 operations. Floor in
memory: ``3 s`` bytes read and 16 written a pixel.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    corners,
    launch_grid,
    load,
    load_clamped,
    store_pair,
    tile,
    zeros,
)


@jit
def _luma(image, y, x, strides, weights, mask):
    """Brightness: the colours weighted by ``weights``; ``strides`` are those of channels, rows and columns."""
    stride_c, stride_h, stride_w = strides
    red, green, blue = weights
    r = load(image, y, x, stride_h, stride_w, mask)
    g = load(image + stride_c, y, x, stride_h, stride_w, mask)
    return red * r + green * g + blue * load(image + 2 * stride_c, y, x, stride_h, stride_w, mask)


@jit
def _cell_moments(
    image, out, height, width, stride_n, stride_c, stride_h, stride_w, red, green, blue, CELL: tl.constexpr
):
    """Mean brightness of cells, and mean of its square."""
    n, y, x, mask = tile(height // CELL, width // CELL)
    image += n * stride_n
    strides, weights = (stride_c, stride_h, stride_w), (red, green, blue)
    mean = zeros()
    square = mean
    for k in range(CELL * CELL):
        luma = _luma(image, y * CELL + k // CELL, x * CELL + k % CELL, strides, weights, mask)
        mean += luma
        square += luma * luma
    area = (height // CELL) * (width // CELL)
    out += n * 2 * area + y * (width // CELL) + x
    store_pair(out, area, mean / (CELL * CELL), square / (CELL * CELL), mask)


@jit
def _window_mean(maps, out, height, width, WINDOW: tl.constexpr):
    """Means of windows of contiguous planes; borders are replicated."""
    n, y, x, mask = tile(height, width)
    maps += n * height * width
    total = zeros()
    for k in range(WINDOW * WINDOW):
        total += load_clamped(maps, y + k // WINDOW - WINDOW // 2, x + k % WINDOW - WINDOW // 2, height, width, mask)
    tl.store(out + (n * height + y) * width + x, total / (WINDOW * WINDOW), mask=mask)


@jit
def _normalise(image, moments, y, x, height, width, strides, weights, floor, mask, CELL: tl.constexpr):
    """Normalised brightness (local mean subtracted, divided by local deviation), and brightness; replicated borders."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    luma = _luma(image, y, x, strides, weights, mask)
    rows, columns = height // CELL, width // CELL
    point = corners((x + 0.5) / CELL - 0.5, (y + 0.5) / CELL - 0.5, rows, columns)
    mean = bilinear(moments, point, columns, 1, mask)
    square = bilinear(moments + rows * columns, point, columns, 1, mask)
    variance = tl.maximum(square - mean * mean, 0.0) + floor * floor
    return (luma - mean) / tl.sqrt(variance), luma


@jit
def _normalised_images(
    image, moments, out, height, width, stride_n, stride_c, stride_h, stride_w, red, green, blue, floor,
    CELL: tl.constexpr,
):  # fmt: skip
    """Normalised brightness, brightness, and the gradient of the first."""
    n, y, x, mask = tile(height, width)
    image += n * stride_n
    moments += n * 2 * (height // CELL) * (width // CELL)
    area = height * width
    out += n * 4 * area + y * width + x
    strides, weights = (stride_c, stride_h, stride_w), (red, green, blue)
    value, luma = _normalise(image, moments, y, x, height, width, strides, weights, floor, mask, CELL)
    left, _ = _normalise(image, moments, y, x - 1, height, width, strides, weights, floor, mask, CELL)
    right, _ = _normalise(image, moments, y, x + 1, height, width, strides, weights, floor, mask, CELL)
    above, _ = _normalise(image, moments, y - 1, x, height, width, strides, weights, floor, mask, CELL)
    below, _ = _normalise(image, moments, y + 1, x, height, width, strides, weights, floor, mask, CELL)
    store_pair(out, area, value, luma, mask)
    store_pair(out + 2 * area, area, 0.5 * (right - left), 0.5 * (below - above), mask)


def surface(images: Tensor, *, cell: int, luma: tuple[float, float, float], floor: float) -> Tensor:
    """See `rdvfi.motion.flow.gauss_newton.NormalisedImages.of`."""
    n, _, h, w = images.shape
    moments = images.new_empty((2, n, 2, h // cell, w // cell), dtype=torch.float32)
    out = images.new_empty((n, 4, h, w), dtype=torch.float32)
    grid, size = launch_grid(n, h // cell, w // cell), (h, w, *images.stride())
    small = (h // cell, w // cell)
    arguments = [images, moments[0], *size, *luma]
    _cell_moments[grid](*arguments, CELL=cell)
    _window_mean[launch_grid(2 * n, *small)](moments[0], moments[1], *small, WINDOW=3)
    arguments = [images, moments[1], out, *size, *luma, floor]
    _normalised_images[launch_grid(n, h, w)](*arguments, CELL=cell)
    return out


@jit
def _grey_levels(image, out, height, width, stride_n, stride_c, stride_h, stride_w, red, green, blue):
    n, y, x, mask = tile(height, width)
    luma = _luma(image + n * stride_n, y, x, (stride_c, stride_h, stride_w), (red, green, blue), mask)
    tl.store(out + (n * height + y) * width + x, luma, mask=mask)


def grey_levels(images: Tensor, *, luma: tuple[float, float, float]) -> Tensor:
    """See `rdvfi.motion.flow.patch_search.grey_levels`."""
    n, _, h, w = images.shape
    out = images.new_empty((n, 1, h, w), dtype=torch.float32)
    arguments = [images, out, h, w, *images.stride(), *luma]
    _grey_levels[launch_grid(n, h, w)](*arguments)
    return out
