# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Inputs of a refinement of the coarse flow on CUDA: the kernels of `rdvfi.motion.flow.local_refinement`.

Two launches compute the least-squares windows of a stride. Two more compute the inputs for a flow: one compares the
pictures along the flow, pixel by pixel, and stores sums per cell; one averages the cells around each cell and solves
for the steps.

Per pixel the comparison loads 8 values of the flow, 8 of the target and 4 of the source, about 60
operations; per cell the windows load 49 x 5 + 9 x 2 sums, about 400. Floor in memory, float32: 16 bytes a
pixel for values and gradient, 24 a cell for the matrices, 4 (s^2 + 13 + 8) a cell to write, s the stride:
3.7 MB at 448x256 and s = 4. Loads from the caches decide, about 25 a pixel.
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
    round_trip,
    store_pair,
    tile,
    vector_length,
    zeros,
)


@jit
def _cell_sums(surface, out, samples, height, width, STRIDE: tl.constexpr):
    """Means per cell: products of the gradient, and squared and absolute difference to the partner without motion."""
    rows, columns = height // STRIDE, width // STRIDE
    n, y, x, mask = tile(rows, columns)
    area, cells = height * width, rows * columns
    image = surface + n * 4 * area
    other_image = surface + (n + samples // 2) % samples * 4 * area
    sum_xx = zeros()
    sum_xy, sum_yy, square, absolute = sum_xx, sum_xx, sum_xx, sum_xx
    for k in range(STRIDE * STRIDE):
        row, column = y * STRIDE + k // STRIDE, x * STRIDE + k % STRIDE
        gx = load(image + 2 * area, row, column, width, 1, mask)
        gy = load(image + 3 * area, row, column, width, 1, mask)
        sum_xx, sum_xy, sum_yy = sum_xx + gx * gx, sum_xy + gx * gy, sum_yy + gy * gy
        error = load(other_image, row, column, width, 1, mask) - load(image, row, column, width, 1, mask)
        square += error * error
        absolute += tl.abs(
            load(other_image + area, row, column, width, 1, mask) - load(image + area, row, column, width, 1, mask)
        )
    scale = 1.0 / (STRIDE * STRIDE)
    out += n * 5 * cells + y * columns + x
    tl.store(out, scale * sum_xx, mask=mask)
    tl.store(out + cells, scale * sum_xy, mask=mask)
    tl.store(out + 2 * cells, scale * sum_yy, mask=mask)
    tl.store(out + 3 * cells, scale * square, mask=mask)
    tl.store(out + 4 * cells, scale * absolute, mask=mask)


@jit
def _log_texture(xx, xy, yy):
    """Logarithm of the smaller eigenvalue of a matrix."""
    half = 0.5 * (xx + yy)
    root = tl.sqrt(0.25 * (xx - yy) * (xx - yy) + xy * xy + 1e-12)
    return 0.25 * tl.log(tl.maximum(half - root, 0.0) + 1e-4) + 1.0


@jit
def _window_matrices(sums, matrices, constants, rows, columns, SMALL_WINDOW: tl.constexpr, LARGE_WINDOW: tl.constexpr):
    """The matrices of both windows, the misfit without motion, and the texture of both windows."""
    n, y, x, mask = tile(rows, columns)
    cells = rows * columns
    sums += n * 5 * cells
    zero = zeros()
    sxx, sxy, syy, square, absolute, lxx, lxy, lyy = zero, zero, zero, zero, zero, zero, zero, zero
    for k in range(LARGE_WINDOW * LARGE_WINDOW):
        dy, dx = k // LARGE_WINDOW - LARGE_WINDOW // 2, k % LARGE_WINDOW - LARGE_WINDOW // 2
        xx = load_clamped(sums, y + dy, x + dx, rows, columns, mask)
        xy = load_clamped(sums + cells, y + dy, x + dx, rows, columns, mask)
        yy = load_clamped(sums + 2 * cells, y + dy, x + dx, rows, columns, mask)
        lxx, lxy, lyy = lxx + xx, lxy + xy, lyy + yy
        if (
            (dy >= -(SMALL_WINDOW // 2))
            & (dy <= SMALL_WINDOW // 2)
            & (dx >= -(SMALL_WINDOW // 2))
            & (dx <= SMALL_WINDOW // 2)
        ):
            sxx, sxy, syy = sxx + xx, sxy + xy, syy + yy
            square += load_clamped(sums + 3 * cells, y + dy, x + dx, rows, columns, mask)
            absolute += load_clamped(sums + 4 * cells, y + dy, x + dx, rows, columns, mask)
    small, large = 1.0 / (SMALL_WINDOW * SMALL_WINDOW), 1.0 / (LARGE_WINDOW * LARGE_WINDOW)
    sxx, sxy, syy = small * sxx, small * sxy, small * syy
    lxx, lxy, lyy = large * lxx, large * lxy, large * lyy
    matrices += n * 6 * cells + y * columns + x
    tl.store(matrices, sxx, mask=mask)
    tl.store(matrices + cells, sxy, mask=mask)
    tl.store(matrices + 2 * cells, syy, mask=mask)
    tl.store(matrices + 3 * cells, lxx, mask=mask)
    tl.store(matrices + 4 * cells, lxy, mask=mask)
    tl.store(matrices + 5 * cells, lyy, mask=mask)
    constants += n * 4 * cells + y * columns + x
    tl.store(constants, tl.sqrt(small * square + 1e-6), mask=mask)
    tl.store(constants + cells, 10.0 * small * absolute, mask=mask)
    tl.store(constants + 2 * cells, _log_texture(sxx, sxy, syy), mask=mask)
    tl.store(constants + 3 * cells, _log_texture(lxx, lxy, lyy), mask=mask)


@jit
def _compare_pixels(
    image, other_image, flow, inputs, y, x, height, width, stride_c, stride_h, stride_w, mask, STRIDE: tl.constexpr
):
    """Differences along a flow of cells, stored per pixel; their sums per cell: two with the gradient, square, size."""
    rows, columns = height // STRIDE, width // STRIDE
    area, cells = height * width, rows * columns
    sum_x = zeros()
    sum_y, square, absolute = sum_x, sum_x, sum_x
    for k in range(STRIDE * STRIDE):
        row, column = y * STRIDE + k // STRIDE, x * STRIDE + k % STRIDE
        point = corners((column + 0.5) / STRIDE - 0.5, (row + 0.5) / STRIDE - 0.5, rows, columns)
        dx = STRIDE * bilinear(flow, point, stride_h, stride_w, mask)
        dy = STRIDE * bilinear(flow + stride_c, point, stride_h, stride_w, mask)
        point = corners(column + dx, row + dy, height, width)
        error = bilinear(other_image, point, width, 1, mask) - load(image, row, column, width, 1, mask)
        brightness = bilinear(other_image + area, point, width, 1, mask)
        tl.store(inputs + k * cells, error.to(inputs.dtype.element_ty), mask=mask)
        sum_x += error * load(image + 2 * area, row, column, width, 1, mask)
        sum_y += error * load(image + 3 * area, row, column, width, 1, mask)
        square += error * error
        absolute += tl.abs(brightness - load(image + area, row, column, width, 1, mask))
    return sum_x, sum_y, square, absolute


@jit
def _compare_along_flow(
    surface, flow, sums, inputs, alternatives, samples, height, width, stride_n, stride_c, stride_h, stride_w,
    STRIDE: tl.constexpr,
):  # fmt: skip
    """Differences along a flow, sums of them per cell, and the round-trip error; strides are those of the flow."""
    rows, columns = height // STRIDE, width // STRIDE
    n, y, x, mask = tile(rows, columns)
    area, cells, offsets = height * width, rows * columns, y * columns + x
    partner = (n + samples // 2) % samples
    opposite = flow + partner * stride_n
    flow += n * stride_n
    inputs += n * (STRIDE * STRIDE + 13) * cells + offsets
    sum_x, sum_y, square, absolute = _compare_pixels(
        surface + n * 4 * area, surface + partner * 4 * area, flow, inputs, y, x, height, width,
        stride_c, stride_h, stride_w, mask, STRIDE,
    )  # fmt: skip
    u, v, error_x, error_y = round_trip(flow, opposite, stride_c, y, x, rows, columns, stride_h, stride_w, mask)
    error = vector_length(error_x, error_y)
    trust, scale = tl.exp(-error), 1.0 / (STRIDE * STRIDE)
    sums += n * 7 * cells + offsets
    store_pair(sums, cells, scale * sum_x, scale * sum_y, mask)
    store_pair(sums + 2 * cells, cells, scale * square, scale * absolute, mask)
    store_pair(sums + 4 * cells, cells, trust * u, trust * v, mask)
    tl.store(sums + 6 * cells, trust, mask=mask)
    inputs += (STRIDE * STRIDE + 6) * cells
    store_pair(inputs, cells, error_x / (1.0 + error), error_y / (1.0 + error), mask)
    tl.store(inputs + 2 * cells, tl.log(1.0 + error).to(inputs.dtype.element_ty), mask=mask)
    length = 1.0 + vector_length(u, v)
    store_pair(inputs + 5 * cells, cells, u / length, v / length, mask)
    store_pair(alternatives + (n * 8 + 6) * cells + offsets, cells, -u, -v, mask)


@jit
def _damped_step(matrix, cells, by_x, by_y, damping, max_step, mask, STRIDE: tl.constexpr):
    """The damped step, in cells; long ones are shortened smoothly."""
    xx = tl.load(matrix, mask=mask, other=1.0) + damping
    xy = tl.load(matrix + cells, mask=mask, other=0.0)
    yy = tl.load(matrix + 2 * cells, mask=mask, other=1.0) + damping
    determinant = (xx * yy - xy * xy) * STRIDE
    x, y = (xy * by_y - yy * by_x) / determinant, (xy * by_x - xx * by_y) / determinant
    shortening = 1.0 / tl.sqrt(1.0 + (x * x + y * y) / (max_step * max_step))
    return x * shortening, y * shortening


@jit
def _window_sums(sums, y, x, rows, columns, mask, SMALL_WINDOW: tl.constexpr, LARGE_WINDOW: tl.constexpr):
    """Sums of cells over windows: four over the small one, and the first two over the large one."""
    cells, zero = rows * columns, zeros()
    small_x, small_y, square, absolute, large_x, large_y = zero, zero, zero, zero, zero, zero
    reach: tl.constexpr = SMALL_WINDOW // 2
    for k in range(LARGE_WINDOW * LARGE_WINDOW):
        dy, dx = k // LARGE_WINDOW - LARGE_WINDOW // 2, k % LARGE_WINDOW - LARGE_WINDOW // 2
        sum_x = load_clamped(sums, y + dy, x + dx, rows, columns, mask)
        sum_y = load_clamped(sums + cells, y + dy, x + dx, rows, columns, mask)
        large_x, large_y = large_x + sum_x, large_y + sum_y
        if (dy >= -reach) & (dy <= reach) & (dx >= -reach) & (dx <= reach):
            small_x, small_y = small_x + sum_x, small_y + sum_y
            square += load_clamped(sums + 2 * cells, y + dy, x + dx, rows, columns, mask)
            absolute += load_clamped(sums + 3 * cells, y + dy, x + dx, rows, columns, mask)
    return small_x, small_y, square, absolute, large_x, large_y


@jit
def _trusted_mean_flow(sums, y, x, rows, columns, mask, WINDOW: tl.constexpr):
    """Mean flow of the cells around, weighted by trust."""
    cells, zero = rows * columns, zeros()
    sum_u, sum_v, trust = zero, zero, zero
    for k in range(WINDOW * WINDOW):
        dy, dx = k // WINDOW - WINDOW // 2, k % WINDOW - WINDOW // 2
        sum_u += load_clamped(sums + 4 * cells, y + dy, x + dx, rows, columns, mask)
        sum_v += load_clamped(sums + 5 * cells, y + dy, x + dx, rows, columns, mask)
        trust += load_clamped(sums + 6 * cells, y + dy, x + dx, rows, columns, mask)
    trust = tl.maximum(trust, 1e-6 * WINDOW * WINDOW)
    return sum_u / trust, sum_v / trust


@jit
def _refinement_steps(
    sums, matrices, flow, inputs, alternatives, rows, columns, stride_n, stride_c, stride_h, stride_w, damping,
    max_step, STRIDE: tl.constexpr, SMALL_WINDOW: tl.constexpr, LARGE_WINDOW: tl.constexpr, MEAN_WINDOW: tl.constexpr,
):  # fmt: skip
    """Least-squares steps of both windows, and the mean flow of the surroundings."""
    n, y, x, mask = tile(rows, columns)
    cells = rows * columns
    offsets = y * columns + x
    sums += n * 7 * cells
    matrices += n * 6 * cells + offsets
    inputs += n * (STRIDE * STRIDE + 13) * cells + STRIDE * STRIDE * cells + offsets
    alternatives += n * 8 * cells + offsets
    small_x, small_y, square, absolute, large_x, large_y = _window_sums(
        sums, y, x, rows, columns, mask, SMALL_WINDOW, LARGE_WINDOW
    )
    small, large = 1.0 / (SMALL_WINDOW * SMALL_WINDOW), 1.0 / (LARGE_WINDOW * LARGE_WINDOW)
    store_pair(inputs, cells, tl.sqrt(small * square + 1e-6), 10.0 * small * absolute, mask)
    step_x, step_y = _damped_step(matrices, cells, small * small_x, small * small_y, damping, max_step, mask, STRIDE)
    store_pair(inputs + 2 * cells, cells, step_x, step_y, mask)
    store_pair(alternatives, cells, step_x, step_y, mask)
    matrices += 3 * cells
    step_x, step_y = _damped_step(matrices, cells, large * large_x, large * large_y, damping, max_step, mask, STRIDE)
    store_pair(inputs + 4 * cells, cells, step_x, step_y, mask)
    store_pair(alternatives + 2 * cells, cells, step_x, step_y, mask)
    mean_u, mean_v = _trusted_mean_flow(sums, y, x, rows, columns, mask, MEAN_WINDOW)
    flow += n * stride_n
    step_x = mean_u - load(flow, y, x, stride_h, stride_w, mask)
    step_y = mean_v - load(flow + stride_c, y, x, stride_h, stride_w, mask)
    store_pair(alternatives + 4 * cells, cells, step_x, step_y, mask)
    length = 1.0 + vector_length(step_x, step_y)
    store_pair(inputs + 9 * cells, cells, step_x / length, step_y / length, mask)


def refinement_windows(surface: Tensor, stride: int, *, sides: dict[int, tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """See `rdvfi.motion.flow.local_refinement.RefinementInputs.of`."""
    surface = surface.contiguous()
    n, _, h, w = surface.shape
    rows, columns = h // stride, w // stride
    sums, matrices, constants = (surface.new_empty((n, c, rows, columns)) for c in (5, 6, 4))
    windows = {"SMALL_WINDOW": sides[stride][0], "LARGE_WINDOW": sides[stride][1]}
    _cell_sums[launch_grid(n, rows, columns)](surface, sums, n, h, w, STRIDE=stride)
    _window_matrices[launch_grid(n, rows, columns)](sums, matrices, constants, rows, columns, **windows)
    return matrices, constants


def refinement_inputs(
    surface: Tensor,
    matrices: Tensor,
    flow: Tensor,
    stride: int,
    dtype: torch.dtype,
    *,
    sides: dict[int, tuple[int, int]],
    mean_window: int,
    damping: float,
    max_step: float,
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.motion.flow.local_refinement.RefinementInputs.at`."""
    surface, matrices = surface.contiguous(), matrices.contiguous()
    n, _, h, w = surface.shape
    rows, columns = h // stride, w // stride
    sums = surface.new_empty((n, 7, rows, columns))
    inputs = surface.new_empty((n, stride**2 + 13, rows, columns), dtype=dtype)
    alternatives = surface.new_empty((n, 4, 2, rows, columns))
    grid, windows = launch_grid(n, rows, columns), {"SMALL_WINDOW": sides[stride][0], "LARGE_WINDOW": sides[stride][1]}
    arguments = [surface, flow, sums, inputs, alternatives, n, h, w, *flow.stride()]
    _compare_along_flow[grid](*arguments, STRIDE=stride)
    arguments = [sums, matrices, flow, inputs, alternatives, rows, columns, *flow.stride(), damping, max_step]
    _refinement_steps[grid](*arguments, STRIDE=stride, MEAN_WINDOW=mean_window, **windows)
    return inputs, alternatives
