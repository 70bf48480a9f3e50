"""Forward warping on CUDA: the kernels of `rdvfi.ops.splat_sum`.

Floor of the forward pass, per pixel of the source with C channels of s bytes: flow and weight are read (12 bytes), the
values once (C s), and four shares of C + 1 masses are added to the sums by atomic additions, which meet in the caches
when neighbours move alike: at best each sum is cleared, read and written once, hence ``12 + C s + 12 (C + 1)`` bytes
with float32 sums and twice as much for the sums with 64-bit integers. About 25 operations for the coordinates, 9 per
channel, and four atomic additions per channel, which decide the time.

The backward pass looks four gradients up for every mass and adds nothing across pixels, so it
repeats exactly: ``24 + C (2 s + 4) + 4`` bytes.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import atomic_add, launch_grid, load, store_pair, tile


def splat_sum(values: Tensor, flow: Tensor, weights: Tensor, deterministic: bool) -> Tensor:
    """See `rdvfi.ops.splat_sum`; the total weight is the last channel."""
    from rdvfi.ops.splatting import integer_units, weighted_values

    if not (deterministic or torch.are_deterministic_algorithms_enabled()) or not values.numel():
        return splat_with_units(values, flow, weights, None)
    # Products in float32, as the kernel forms them.
    return splat_with_units(values, flow, weights, integer_units(weighted_values(values.float(), weights.float())))


def splat_with_units(values: Tensor, flow: Tensor, weights: Tensor, units: Tensor | None) -> Tensor:
    """Sums of weighted values and, in the last channel, of weights.

    Args:
        values: (n, c, h, w), any strides.
        flow: (n, 2, h, w), any strides.
        weights: (n, 1, h, w), any strides.
        units: Integer units that make one, (n, c + 1, 1): the sums are then taken in 64-bit
            integers. None for float32.
    """
    n, c, h, w = values.shape
    dtype = torch.float32 if units is None else torch.int64
    sums = torch.zeros((n, c + 1, h, w), dtype=dtype, device=values.device)
    strides = [stride for x in (values, flow, weights) for stride in x.stride()]
    arguments = [values, flow, weights, sums if units is None else units.contiguous(), sums, h, w, *strides]
    _splat_forward[launch_grid(n, h, w)](*arguments, USE_INTEGERS=units is not None, CHANNELS=c)
    return sums if units is None else sums.float() / units[..., None]


def splat_sum_backward(grad: Tensor, values: Tensor, flow: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by values, flow and weights."""
    n, c, h, w = values.shape
    grad_values, grad_flow, grad_weights = (x.new_empty(x.shape) for x in (values, flow, weights))
    strides = [stride for x in (grad, values, flow, weights) for stride in x.stride()]
    arguments = [grad, values, flow, weights, grad_values, grad_flow, grad_weights, h, w, *strides]
    _splat_backward[launch_grid(n, h, w)](*arguments, CHANNELS=c)
    return grad_values, grad_flow, grad_weights


@jit
def _split_arrival(position, size):
    """The first of the two pixels around a position, and the fraction towards the second.

    Positions far outside, or none at all, are moved to just outside, where whole numbers hold them.
    """
    position = tl.where(position > -2.0, tl.minimum(position, size + 1.0), -2.0)
    first = tl.floor(position)
    return first.to(tl.int32), position - first


@jit
def _add_to_pixel(sums, y, x, height, width, value, unit, mask, USE_INTEGERS: tl.constexpr):
    """Add a value to one pixel, if it is in the image."""
    if USE_INTEGERS:
        value = tl.floor(value * unit + 0.5).to(tl.int64)
    atomic_add(sums, y, x, width, value, mask & (x >= 0) & (x < width) & (y >= 0) & (y < height))


@jit
def _add_to_corners(sums, x, y, fx, fy, height, width, mass, unit, mask, USE_INTEGERS: tl.constexpr):
    left_mass, right_mass = mass * (1.0 - fx), mass * fx
    _add_to_pixel(sums, y, x, height, width, left_mass * (1.0 - fy), unit, mask, USE_INTEGERS)
    _add_to_pixel(sums, y, x + 1, height, width, right_mass * (1.0 - fy), unit, mask, USE_INTEGERS)
    _add_to_pixel(sums, y + 1, x, height, width, left_mass * fy, unit, mask, USE_INTEGERS)
    _add_to_pixel(sums, y + 1, x + 1, height, width, right_mass * fy, unit, mask, USE_INTEGERS)


@jit
def _splat_forward(
    values, flow, weights, units, sums, height, width, values_stride_n, values_stride_c, values_stride_h,
    values_stride_w, flow_stride_n, flow_stride_c, flow_stride_h, flow_stride_w, weights_stride_n, weights_stride_c,
    weights_stride_h, weights_stride_w, USE_INTEGERS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, y, x, mask = tile(height, width)
    flow += n * flow_stride_n
    target_x, fx = _split_arrival(x + load(flow, y, x, flow_stride_h, flow_stride_w, mask), width)
    target_y, fy = _split_arrival(y + load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask), height)
    weight = load(weights + n * weights_stride_n, y, x, weights_stride_h, weights_stride_w, mask)
    values += n * values_stride_n
    sums += n * (CHANNELS + 1) * height * width
    units += n * (CHANNELS + 1)
    unit = 1.0
    for _ in range(CHANNELS):
        mass = load(values, y, x, values_stride_h, values_stride_w, mask) * weight
        if USE_INTEGERS:
            unit = tl.load(units)
        _add_to_corners(sums, target_x, target_y, fx, fy, height, width, mass, unit, mask, USE_INTEGERS)
        values += values_stride_c
        sums += height * width
        units += 1
    if USE_INTEGERS:
        unit = tl.load(units)
    _add_to_corners(sums, target_x, target_y, fx, fy, height, width, weight, unit, mask, USE_INTEGERS)


@jit
def _load_corners(grad, x, y, height, width, stride_h, stride_w, mask):
    """The four gradients around an arrival, zero beyond the picture."""
    left, right = mask & (x >= 0) & (x < width), mask & (x >= -1) & (x + 1 < width)
    top, bottom = (y >= 0) & (y < height), (y >= -1) & (y + 1 < height)
    return (
        load(grad, y, x, stride_h, stride_w, left & top),
        load(grad, y, x + 1, stride_h, stride_w, right & top),
        load(grad, y + 1, x, stride_h, stride_w, left & bottom),
        load(grad, y + 1, x + 1, stride_h, stride_w, right & bottom),
    )


@jit
def _interpolate_with_slopes(grad, x, y, fx, fy, height, width, stride_h, stride_w, mask):
    """The gradient between four pixels, and its derivatives by x and y."""
    top_left, top_right, bottom_left, bottom_right = _load_corners(grad, x, y, height, width, stride_h, stride_w, mask)
    top_slope, bottom_slope = top_right - top_left, bottom_right - bottom_left
    top, bottom = top_left + fx * top_slope, bottom_left + fx * bottom_slope
    return top + fy * (bottom - top), top_slope + fy * (bottom_slope - top_slope), bottom - top


@jit
def _splat_backward(
    grad, values, flow, weights, grad_values, grad_flow, grad_weights, height, width, grad_stride_n, grad_stride_c,
    grad_stride_h, grad_stride_w, values_stride_n, values_stride_c, values_stride_h, values_stride_w, flow_stride_n,
    flow_stride_c, flow_stride_h, flow_stride_w, weights_stride_n, weights_stride_c, weights_stride_h,
    weights_stride_w, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, y, x, mask = tile(height, width)
    area, offsets = height * width, y * width + x
    flow += n * flow_stride_n
    target_x, fx = _split_arrival(x + load(flow, y, x, flow_stride_h, flow_stride_w, mask), width)
    target_y, fy = _split_arrival(y + load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask), height)
    weight = load(weights + n * weights_stride_n, y, x, weights_stride_h, weights_stride_w, mask)
    grad += n * grad_stride_n
    values += n * values_stride_n
    grad_values += n * CHANNELS * area + offsets

    # The weight is a value of its own, in the last channel.
    last = grad + CHANNELS * grad_stride_c
    grad_weight, grad_x, grad_y = _interpolate_with_slopes(
        last, target_x, target_y, fx, fy, height, width, grad_stride_h, grad_stride_w, mask
    )
    for _ in range(CHANNELS):
        grad_value, slope_x, slope_y = _interpolate_with_slopes(
            grad, target_x, target_y, fx, fy, height, width, grad_stride_h, grad_stride_w, mask
        )
        tl.store(grad_values, (weight * grad_value).to(grad_values.dtype.element_ty), mask=mask)
        value = load(values, y, x, values_stride_h, values_stride_w, mask)
        grad_weight += value * grad_value
        grad_x += value * slope_x
        grad_y += value * slope_y
        grad += grad_stride_c
        values += values_stride_c
        grad_values += area
    store_pair(grad_flow + n * 2 * area + offsets, area, weight * grad_x, weight * grad_y, mask)
    tl.store(grad_weights + n * area + offsets, grad_weight.to(grad_weights.dtype.element_ty), mask=mask)
