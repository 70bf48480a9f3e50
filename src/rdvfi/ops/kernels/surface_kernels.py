"""Normalised pictures on CUDA: the kernels of `rdvfi.motion.flow.gauss_newton.NormalisedImages`.

Three launches: moments of cells, their means over 3x3 cells, and per pixel both values and the gradient, for
which five pixels are normalised: 8 moments and 3 colours each, 55 loads and about 150 operations. Floor in
memory: ``3 s`` bytes read and 16 written a pixel.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load, load_clamped, tile, zeros


@triton.jit
@no_type_check
def _light(image, y, x, height, width, image_stride_c, image_stride_h, image_stride_w, red, green, blue, mask):
    r = load(image, y, x, image_stride_h, image_stride_w, mask)
    g = load(image + image_stride_c, y, x, image_stride_h, image_stride_w, mask)
    return red * r + green * g + blue * load(image + 2 * image_stride_c, y, x, image_stride_h, image_stride_w, mask)


@triton.jit
@no_type_check
def _moments(
    image, out, height, width, image_stride_n, image_stride_c, image_stride_h, image_stride_w, red, green, blue,
    CELL: tl.constexpr,
):  # fmt: skip
    """Mean brightness of cells, and mean of its square."""
    n, y, x, mask = tile(height // CELL, width // CELL)
    image += n * image_stride_n
    mean = zeros()
    square = mean
    for k in range(CELL * CELL):
        light = _light(
            image, y * CELL + k // CELL, x * CELL + k % CELL, height, width,
            image_stride_c, image_stride_h, image_stride_w, red, green, blue, mask,
        )  # fmt: skip
        mean += light
        square += light * light
    area = (height // CELL) * (width // CELL)
    out += n * 2 * area + y * (width // CELL) + x
    tl.store(out, mean / (CELL * CELL), mask=mask)
    tl.store(out + area, square / (CELL * CELL), mask=mask)


@triton.jit
@no_type_check
def _window(maps, out, height, width, SIDE: tl.constexpr):
    """Means of windows of contiguous planes; borders are replicated."""
    n, y, x, mask = tile(height, width)
    maps += n * height * width
    total = zeros()
    for k in range(SIDE * SIDE):
        total += load_clamped(maps, y + k // SIDE - SIDE // 2, x + k % SIDE - SIDE // 2, height, width, mask)
    tl.store(out + (n * height + y) * width + x, total / (SIDE * SIDE), mask=mask)


@triton.jit
@no_type_check
def _normalised(
    image, moments, y, x, height, width, image_stride_c, image_stride_h, image_stride_w, red, green, blue, floor, mask,
    CELL: tl.constexpr,
):  # fmt: skip
    """Brightness without its local mean, over its local deviation; and as it is. Borders are replicated."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    light = _light(image, y, x, height, width, image_stride_c, image_stride_h, image_stride_w, red, green, blue, mask)
    rows, columns = height // CELL, width // CELL
    point = corners((x + 0.5) / CELL - 0.5, (y + 0.5) / CELL - 0.5, rows, columns)
    mean = bilinear(moments, point, columns, 1, mask)
    square = bilinear(moments + rows * columns, point, columns, 1, mask)
    variance = tl.maximum(square - mean * mean, 0.0) + floor * floor
    return (light - mean) / tl.sqrt(variance), light


@triton.jit
@no_type_check
def _surface(
    image, moments, out, height, width, image_stride_n, image_stride_c, image_stride_h, image_stride_w, red, green,
    blue, floor, CELL: tl.constexpr,
):  # fmt: skip
    """Normalised brightness, brightness, and the gradient of the first."""
    n, y, x, mask = tile(height, width)
    image += n * image_stride_n
    moments += n * 2 * (height // CELL) * (width // CELL)
    area = height * width
    out += n * 4 * area + y * width + x
    value, light = _normalised(
        image,
        moments,
        y,
        x,
        height,
        width,
        image_stride_c,
        image_stride_h,
        image_stride_w,
        red,
        green,
        blue,
        floor,
        mask,
        CELL,
    )
    left, _ = _normalised(
        image,
        moments,
        y,
        x - 1,
        height,
        width,
        image_stride_c,
        image_stride_h,
        image_stride_w,
        red,
        green,
        blue,
        floor,
        mask,
        CELL,
    )
    right, _ = _normalised(
        image,
        moments,
        y,
        x + 1,
        height,
        width,
        image_stride_c,
        image_stride_h,
        image_stride_w,
        red,
        green,
        blue,
        floor,
        mask,
        CELL,
    )
    above, _ = _normalised(
        image,
        moments,
        y - 1,
        x,
        height,
        width,
        image_stride_c,
        image_stride_h,
        image_stride_w,
        red,
        green,
        blue,
        floor,
        mask,
        CELL,
    )
    below, _ = _normalised(
        image,
        moments,
        y + 1,
        x,
        height,
        width,
        image_stride_c,
        image_stride_h,
        image_stride_w,
        red,
        green,
        blue,
        floor,
        mask,
        CELL,
    )
    tl.store(out, value, mask=mask)
    tl.store(out + area, light, mask=mask)
    tl.store(out + 2 * area, 0.5 * (right - left), mask=mask)
    tl.store(out + 3 * area, 0.5 * (below - above), mask=mask)


def surface(images: Tensor, *, cell: int, luma: tuple[float, float, float], floor: float) -> Tensor:
    """See `rdvfi.motion.flow.gauss_newton.NormalisedImages.of`."""
    n, _, h, w = images.shape
    moments = images.new_empty((2, n, 2, h // cell, w // cell), dtype=torch.float32)
    out = images.new_empty((n, 4, h, w), dtype=torch.float32)
    grid, size = launch_grid(n, h // cell, w // cell), (h, w, *images.stride())
    small = (h // cell, w // cell)
    arguments = [images, moments[0], *size, *luma]
    _moments[grid](*arguments, CELL=cell)
    _window[launch_grid(2 * n, *small)](moments[0], moments[1], *small, SIDE=3)
    arguments = [images, moments[1], out, *size, *luma, floor]
    _surface[launch_grid(n, h, w)](*arguments, CELL=cell)
    return out


@triton.jit
@no_type_check
def _grey(image, out, height, width, image_stride_n, image_stride_c, image_stride_h, image_stride_w, red, green, blue):
    n, y, x, mask = tile(height, width)
    light = _light(
        image + n * image_stride_n,
        y,
        x,
        height,
        width,
        image_stride_c,
        image_stride_h,
        image_stride_w,
        red,
        green,
        blue,
        mask,
    )
    tl.store(out + (n * height + y) * width + x, light, mask=mask)


def grey_levels(images: Tensor, *, luma: tuple[float, float, float]) -> Tensor:
    """See `rdvfi.motion.flow.patch_search.grey_levels`."""
    n, _, h, w = images.shape
    out = images.new_empty((n, 1, h, w), dtype=torch.float32)
    arguments = [images, out, h, w, *images.stride(), *luma]
    _grey[launch_grid(n, h, w)](*arguments)
    return out
