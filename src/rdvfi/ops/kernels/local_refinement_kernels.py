"""What a refinement of the coarse flow reads, on CUDA: the kernels of `rdvfi.motion.flow.local_refinement`.

Two launches make the least-squares windows of a stride, and two all that is read at a flow: one compares the
pictures along it, pixel by pixel, and leaves sums per cell; one takes the means of cells around each and solves
for the steps.

Per pixel the comparison loads 8 values of the flow, 8 of the target and 4 of the source, about 60
operations; per cell the windows load 49 x 5 + 9 x 2 sums, about 400. Floor in memory, float32: 16 bytes a
pixel for values and gradient, 24 a cell for the matrices, 4 (s^2 + 13 + 8) a cell to write, s the stride:
3.7 MB at 448x256 and s = 4. Loads from the caches decide, about 25 a pixel.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    corners,
    launch_grid,
    load,
    load_clamped,
    round_trip,
    store_pair,
    tile,
    vector_length,
    zeros,
)


@triton.jit
@no_type_check
def _products(surface, out, samples, height, width, STRIDE: tl.constexpr):
    """Sums per cell: products of the gradient, and the difference to the partner without motion."""
    rows, columns = height // STRIDE, width // STRIDE
    n, y, x, mask = tile(rows, columns)
    area, cells = height * width, rows * columns
    own = surface + n * 4 * area
    other = surface + (n + samples // 2) % samples * 4 * area
    xx = zeros()
    xy, yy, square, absolute = xx, xx, xx, xx
    for k in range(STRIDE * STRIDE):
        row, column = y * STRIDE + k // STRIDE, x * STRIDE + k % STRIDE
        gx = load(own + 2 * area, row, column, width, 1, mask)
        gy = load(own + 3 * area, row, column, width, 1, mask)
        xx, xy, yy = xx + gx * gx, xy + gx * gy, yy + gy * gy
        error = load(other, row, column, width, 1, mask) - load(own, row, column, width, 1, mask)
        square += error * error
        absolute += tl.abs(
            load(other + area, row, column, width, 1, mask) - load(own + area, row, column, width, 1, mask)
        )
    scale = 1.0 / (STRIDE * STRIDE)
    out += n * 5 * cells + y * columns + x
    tl.store(out, scale * xx, mask=mask)
    tl.store(out + cells, scale * xy, mask=mask)
    tl.store(out + 2 * cells, scale * yy, mask=mask)
    tl.store(out + 3 * cells, scale * square, mask=mask)
    tl.store(out + 4 * cells, scale * absolute, mask=mask)


@triton.jit
@no_type_check
def _texture(xx, xy, yy):
    """Logarithm of the smaller eigenvalue of a matrix."""
    half = 0.5 * (xx + yy)
    root = tl.sqrt(0.25 * (xx - yy) * (xx - yy) + xy * xy + 1e-12)
    return 0.25 * tl.log(tl.maximum(half - root, 0.0) + 1e-4) + 1.0


@triton.jit
@no_type_check
def _matrices(sums, matrices, fixed, rows, columns, SMALL: tl.constexpr, LARGE: tl.constexpr):
    """The matrices of both windows, the misfit without motion, and how well steps are determined."""
    n, y, x, mask = tile(rows, columns)
    cells = rows * columns
    sums += n * 5 * cells
    zero = zeros()
    sxx, sxy, syy, square, absolute, lxx, lxy, lyy = zero, zero, zero, zero, zero, zero, zero, zero
    for k in range(LARGE * LARGE):
        dy, dx = k // LARGE - LARGE // 2, k % LARGE - LARGE // 2
        xx = load_clamped(sums, y + dy, x + dx, rows, columns, mask)
        xy = load_clamped(sums + cells, y + dy, x + dx, rows, columns, mask)
        yy = load_clamped(sums + 2 * cells, y + dy, x + dx, rows, columns, mask)
        lxx, lxy, lyy = lxx + xx, lxy + xy, lyy + yy
        if (dy >= -(SMALL // 2)) & (dy <= SMALL // 2) & (dx >= -(SMALL // 2)) & (dx <= SMALL // 2):
            sxx, sxy, syy = sxx + xx, sxy + xy, syy + yy
            square += load_clamped(sums + 3 * cells, y + dy, x + dx, rows, columns, mask)
            absolute += load_clamped(sums + 4 * cells, y + dy, x + dx, rows, columns, mask)
    small, large = 1.0 / (SMALL * SMALL), 1.0 / (LARGE * LARGE)
    sxx, sxy, syy = small * sxx, small * sxy, small * syy
    lxx, lxy, lyy = large * lxx, large * lxy, large * lyy
    matrices += n * 6 * cells + y * columns + x
    tl.store(matrices, sxx, mask=mask)
    tl.store(matrices + cells, sxy, mask=mask)
    tl.store(matrices + 2 * cells, syy, mask=mask)
    tl.store(matrices + 3 * cells, lxx, mask=mask)
    tl.store(matrices + 4 * cells, lxy, mask=mask)
    tl.store(matrices + 5 * cells, lyy, mask=mask)
    fixed += n * 4 * cells + y * columns + x
    tl.store(fixed, tl.sqrt(small * square + 1e-6), mask=mask)
    tl.store(fixed + cells, 10.0 * small * absolute, mask=mask)
    tl.store(fixed + 2 * cells, _texture(sxx, sxy, syy), mask=mask)
    tl.store(fixed + 3 * cells, _texture(lxx, lxy, lyy), mask=mask)


@triton.jit
@no_type_check
def _compare(
    surface, flow, sums, inputs, alternatives, samples, height, width, flow_stride_n, flow_stride_c, flow_stride_h,
    flow_stride_w, STRIDE: tl.constexpr,
):  # fmt: skip
    """Differences along a flow, sums of them per cell, and the error of the way there and back."""
    rows, columns = height // STRIDE, width // STRIDE
    n, y, x, mask = tile(rows, columns)
    area, cells = height * width, rows * columns
    partner = (n + samples // 2) % samples
    own, other = surface + n * 4 * area, surface + partner * 4 * area
    back = flow + partner * flow_stride_n
    flow += n * flow_stride_n
    inputs += n * (STRIDE * STRIDE + 13) * cells + y * columns + x
    by_x = zeros()
    by_y, square, absolute = by_x, by_x, by_x
    for k in range(STRIDE * STRIDE):
        row, column = y * STRIDE + k // STRIDE, x * STRIDE + k % STRIDE
        point = corners((column + 0.5) / STRIDE - 0.5, (row + 0.5) / STRIDE - 0.5, rows, columns)
        dx = STRIDE * bilinear(flow, point, flow_stride_h, flow_stride_w, mask)
        dy = STRIDE * bilinear(flow + flow_stride_c, point, flow_stride_h, flow_stride_w, mask)
        point = corners(column + dx, row + dy, height, width)
        error = bilinear(other, point, width, 1, mask) - load(own, row, column, width, 1, mask)
        light = bilinear(other + area, point, width, 1, mask)
        tl.store(inputs + k * cells, error.to(inputs.dtype.element_ty), mask=mask)
        by_x += error * load(own + 2 * area, row, column, width, 1, mask)
        by_y += error * load(own + 3 * area, row, column, width, 1, mask)
        square += error * error
        absolute += tl.abs(light - load(own + area, row, column, width, 1, mask))
    u, v, miss_x, miss_y = round_trip(
        flow, back, flow_stride_c, y, x, rows, columns, flow_stride_h, flow_stride_w, mask
    )
    missed = vector_length(miss_x, miss_y)
    trust, scale = tl.exp(-missed), 1.0 / (STRIDE * STRIDE)
    sums += n * 7 * cells + y * columns + x
    store_pair(sums, cells, scale * by_x, scale * by_y, mask)
    store_pair(sums + 2 * cells, cells, scale * square, scale * absolute, mask)
    store_pair(sums + 4 * cells, cells, trust * u, trust * v, mask)
    tl.store(sums + 6 * cells, trust, mask=mask)
    inputs += (STRIDE * STRIDE + 6) * cells
    store_pair(inputs, cells, miss_x / (1.0 + missed), miss_y / (1.0 + missed), mask)
    tl.store(inputs + 2 * cells, tl.log(1.0 + missed).to(inputs.dtype.element_ty), mask=mask)
    size = 1.0 + vector_length(u, v)
    store_pair(inputs + 5 * cells, cells, u / size, v / size, mask)
    store_pair(alternatives + (n * 8 + 6) * cells + y * columns + x, cells, -u, -v, mask)


@triton.jit
@no_type_check
def _solved(matrix, cells, by_x, by_y, damping, longest, mask, STRIDE: tl.constexpr):
    """The damped step, in cells; long ones are shortened smoothly."""
    xx = tl.load(matrix, mask=mask, other=1.0) + damping
    xy = tl.load(matrix + cells, mask=mask, other=0.0)
    yy = tl.load(matrix + 2 * cells, mask=mask, other=1.0) + damping
    area = (xx * yy - xy * xy) * STRIDE
    x, y = (xy * by_y - yy * by_x) / area, (xy * by_x - xx * by_y) / area
    shorter = 1.0 / tl.sqrt(1.0 + (x * x + y * y) / (longest * longest))
    return x * shorter, y * shorter


@triton.jit
@no_type_check
def _steps(
    sums, matrices, flow, inputs, alternatives, rows, columns, flow_stride_n, flow_stride_c, flow_stride_h,
    flow_stride_w, damping, longest, STRIDE: tl.constexpr, SMALL: tl.constexpr, LARGE: tl.constexpr,
    AROUND: tl.constexpr,
):  # fmt: skip
    """Least-squares steps of both windows, and the mean flow of the surroundings."""
    n, y, x, mask = tile(rows, columns)
    cells = rows * columns
    here = y * columns + x
    sums += n * 7 * cells
    matrices += n * 6 * cells + here
    zero = zeros()
    sx, sy, square, absolute, lx, ly, au, av, trust = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for k in range(LARGE * LARGE):
        dy, dx = k // LARGE - LARGE // 2, k % LARGE - LARGE // 2
        by_x = load_clamped(sums, y + dy, x + dx, rows, columns, mask)
        by_y = load_clamped(sums + cells, y + dy, x + dx, rows, columns, mask)
        lx, ly = lx + by_x, ly + by_y
        if (dy >= -(SMALL // 2)) & (dy <= SMALL // 2) & (dx >= -(SMALL // 2)) & (dx <= SMALL // 2):
            sx, sy = sx + by_x, sy + by_y
            square += load_clamped(sums + 2 * cells, y + dy, x + dx, rows, columns, mask)
            absolute += load_clamped(sums + 3 * cells, y + dy, x + dx, rows, columns, mask)
    for k in range(AROUND * AROUND):
        dy, dx = k // AROUND - AROUND // 2, k % AROUND - AROUND // 2
        au += load_clamped(sums + 4 * cells, y + dy, x + dx, rows, columns, mask)
        av += load_clamped(sums + 5 * cells, y + dy, x + dx, rows, columns, mask)
        trust += load_clamped(sums + 6 * cells, y + dy, x + dx, rows, columns, mask)
    small, large = 1.0 / (SMALL * SMALL), 1.0 / (LARGE * LARGE)
    inputs += n * (STRIDE * STRIDE + 13) * cells + STRIDE * STRIDE * cells + here
    store_pair(inputs, cells, tl.sqrt(small * square + 1e-6), 10.0 * small * absolute, mask)
    alternatives += n * 8 * cells + here
    sx, sy = _solved(matrices, cells, small * sx, small * sy, damping, longest, mask, STRIDE)
    store_pair(inputs + 2 * cells, cells, sx, sy, mask)
    store_pair(alternatives, cells, sx, sy, mask)
    lx, ly = _solved(matrices + 3 * cells, cells, large * lx, large * ly, damping, longest, mask, STRIDE)
    store_pair(inputs + 4 * cells, cells, lx, ly, mask)
    store_pair(alternatives + 2 * cells, cells, lx, ly, mask)
    flow += n * flow_stride_n
    trust = tl.maximum(trust, 1e-6 * AROUND * AROUND)
    au = au / trust - load(flow, y, x, flow_stride_h, flow_stride_w, mask)
    av = av / trust - load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask)
    store_pair(alternatives + 4 * cells, cells, au, av, mask)
    near = 1.0 + vector_length(au, av)
    store_pair(inputs + 9 * cells, cells, au / near, av / near, mask)


def refinement_windows(surface: Tensor, stride: int, *, sides: dict[int, tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """See `rdvfi.motion.flow.local_refinement.RefinementInputs.of`."""
    surface = surface.contiguous()
    n, _, h, w = surface.shape
    rows, columns = h // stride, w // stride
    sums, matrices, fixed = (surface.new_empty((n, c, rows, columns)) for c in (5, 6, 4))
    windows = {"SMALL": sides[stride][0], "LARGE": sides[stride][1]}
    _products[launch_grid(n, rows, columns)](surface, sums, n, h, w, STRIDE=stride)
    _matrices[launch_grid(n, rows, columns)](sums, matrices, fixed, rows, columns, **windows)
    return matrices, fixed


def refinement_inputs(
    surface: Tensor,
    matrices: Tensor,
    flow: Tensor,
    stride: int,
    dtype: torch.dtype,
    *,
    sides: dict[int, tuple[int, int]],
    around: int,
    damping: float,
    longest: float,
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.motion.flow.local_refinement.RefinementInputs.at`."""
    surface, matrices = surface.contiguous(), matrices.contiguous()
    n, _, h, w = surface.shape
    rows, columns = h // stride, w // stride
    sums = surface.new_empty((n, 7, rows, columns))
    inputs = surface.new_empty((n, stride**2 + 13, rows, columns), dtype=dtype)
    alternatives = surface.new_empty((n, 4, 2, rows, columns))
    grid, windows = launch_grid(n, rows, columns), {"SMALL": sides[stride][0], "LARGE": sides[stride][1]}
    arguments = [surface, flow, sums, inputs, alternatives, n, h, w, *flow.stride()]
    _compare[grid](*arguments, STRIDE=stride)
    arguments = [sums, matrices, flow, inputs, alternatives, rows, columns, *flow.stride(), damping, longest]
    _steps[grid](*arguments, STRIDE=stride, AROUND=around, **windows)
    return inputs, alternatives
