"""Forward warping on CUDA: the kernels of `rdvfi.ops.splat_sum`.

Floor of the forward pass, per pixel of the source with C channels of s bytes: flow and weight are
read (12 bytes), the values once (C s), and four shares of C + 1 masses are added to the sums by
atomic additions, which meet in the caches when neighbours move alike: at best each sum is cleared,
read and written once, hence ``12 + C s + 12 (C + 1)`` bytes with float32 sums and twice as much
for the sums with 64-bit integers. About 25 operations for the coordinates, 9 per channel, and four
atomic additions per channel, which decide the time.

The backward pass looks four gradients up for every mass and adds nothing across pixels, so it
repeats exactly: ``24 + C (2 s + 4) + 4`` bytes.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import atomic_add, launch_grid, load, tile


def splat_sum(values: Tensor, flow: Tensor, weights: Tensor, deterministic: bool) -> Tensor:
    """See `rdvfi.ops.splat_sum`; the total weight is the last channel."""
    from rdvfi.ops.splatting import integer_units, masses

    if not (deterministic or torch.are_deterministic_algorithms_enabled()) or not values.numel():
        return added(values, flow, weights, None)
    # Products in float32, as the kernel forms them.
    return added(values, flow, weights, integer_units(masses(values.float(), weights.float())))


def added(values: Tensor, flow: Tensor, weights: Tensor, units: Tensor | None) -> Tensor:
    """Sums of weighted values and, in the last channel, of weights.

    Args:
        values: (n, c, h, w), any strides.
        flow: (n, 2, h, w), any strides.
        weights: (n, 1, h, w), any strides.
        units: Integer units that make one, (n, c + 1, 1): the sums are then taken in 64-bit
            integers. None for float32.
    """
    n, c, h, w = values.shape
    kind = torch.float32 if units is None else torch.int64
    sums = torch.zeros((n, c + 1, h, w), dtype=kind, device=values.device)
    strides = [stride for x in (values, flow, weights) for stride in x.stride()]
    arguments = [values, flow, weights, sums if units is None else units.contiguous(), sums, h, w, *strides]
    _forward[launch_grid(n, h, w)](*arguments, WHOLE=units is not None, CHANNELS=c)
    return sums if units is None else sums.float() / units[..., None]


def splat_sum_backward(grad: Tensor, values: Tensor, flow: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by values, flow and weights."""
    n, c, h, w = values.shape
    by_values, by_flow, by_weights = (x.new_empty(x.shape) for x in (values, flow, weights))
    strides = [stride for x in (grad, values, flow, weights) for stride in x.stride()]
    arguments = [grad, values, flow, weights, by_values, by_flow, by_weights, h, w, *strides]
    _backward[launch_grid(n, h, w)](*arguments, CHANNELS=c)
    return by_values, by_flow, by_weights


@triton.jit
@no_type_check
def _arrival(position, size):
    """The first of the two pixels around a position, and how far it lies towards the second.

    Positions far outside, or none at all, are moved to just outside, where whole numbers hold them.
    """
    position = tl.where(position > -2.0, tl.minimum(position, size + 1.0), -2.0)
    first = tl.floor(position)
    return first.to(tl.int32), position - first


@triton.jit
@no_type_check
def _give(sums, y, x, height, width, part, unit, mask, WHOLE: tl.constexpr):
    """Add a share to one pixel, if it is in the picture."""
    if WHOLE:
        part = tl.floor(part * unit + 0.5).to(tl.int64)
    atomic_add(sums, y, x, width, part, mask & (x >= 0) & (x < width) & (y >= 0) & (y < height))


@triton.jit
@no_type_check
def _give_four(sums, x, y, fx, fy, height, width, mass, unit, mask, WHOLE: tl.constexpr):
    left, right = mass * (1.0 - fx), mass * fx
    _give(sums, y, x, height, width, left * (1.0 - fy), unit, mask, WHOLE)
    _give(sums, y, x + 1, height, width, right * (1.0 - fy), unit, mask, WHOLE)
    _give(sums, y + 1, x, height, width, left * fy, unit, mask, WHOLE)
    _give(sums, y + 1, x + 1, height, width, right * fy, unit, mask, WHOLE)


@triton.jit
@no_type_check
def _forward(
    values, flow, weights, units, sums, height, width, values_stride_n, values_stride_c, values_stride_h,
    values_stride_w, flow_stride_n, flow_stride_c, flow_stride_h, flow_stride_w, weights_stride_n, weights_stride_c,
    weights_stride_h, weights_stride_w, WHOLE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, y, x, mask = tile(height, width)
    flow += n * flow_stride_n
    to_x, fx = _arrival(x + load(flow, y, x, flow_stride_h, flow_stride_w, mask), width)
    to_y, fy = _arrival(y + load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask), height)
    weight = load(weights + n * weights_stride_n, y, x, weights_stride_h, weights_stride_w, mask)
    values += n * values_stride_n
    sums += n * (CHANNELS + 1) * height * width
    units += n * (CHANNELS + 1)
    unit = 1.0
    for _ in range(CHANNELS):
        mass = load(values, y, x, values_stride_h, values_stride_w, mask) * weight
        if WHOLE:
            unit = tl.load(units)
        _give_four(sums, to_x, to_y, fx, fy, height, width, mass, unit, mask, WHOLE)
        values += values_stride_c
        sums += height * width
        units += 1
    if WHOLE:
        unit = tl.load(units)
    _give_four(sums, to_x, to_y, fx, fy, height, width, weight, unit, mask, WHOLE)


@triton.jit
@no_type_check
def _look_up(grad, x, y, height, width, stride_h, stride_w, mask):
    """The four gradients around an arrival, zero beyond the picture."""
    left, right = mask & (x >= 0) & (x < width), mask & (x >= -1) & (x + 1 < width)
    top, bottom = (y >= 0) & (y < height), (y >= -1) & (y + 1 < height)
    return (
        load(grad, y, x, stride_h, stride_w, left & top),
        load(grad, y, x + 1, stride_h, stride_w, right & top),
        load(grad, y + 1, x, stride_h, stride_w, left & bottom),
        load(grad, y + 1, x + 1, stride_h, stride_w, right & bottom),
    )


@triton.jit
@no_type_check
def _backward(
    grad, values, flow, weights, by_values, by_flow, by_weights, height, width, grad_stride_n, grad_stride_c,
    grad_stride_h, grad_stride_w, values_stride_n, values_stride_c, values_stride_h, values_stride_w, flow_stride_n,
    flow_stride_c, flow_stride_h, flow_stride_w, weights_stride_n, weights_stride_c, weights_stride_h,
    weights_stride_w, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, y, x, mask = tile(height, width)
    flow += n * flow_stride_n
    to_x, fx = _arrival(x + load(flow, y, x, flow_stride_h, flow_stride_w, mask), width)
    to_y, fy = _arrival(y + load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask), height)
    weight = load(weights + n * weights_stride_n, y, x, weights_stride_h, weights_stride_w, mask)
    grad += n * grad_stride_n
    values += n * values_stride_n
    place = y * width + x
    by_values += n * CHANNELS * height * width + place

    # The weight is a mass of its own, in the last channel.
    a, b, c, d = _look_up(
        grad + CHANNELS * grad_stride_c, to_x, to_y, height, width, grad_stride_h, grad_stride_w, mask
    )
    top, bottom = a + fx * (b - a), c + fx * (d - c)
    by_weight = top + fy * (bottom - top)
    by_x = (b - a) + fy * ((d - c) - (b - a))
    by_y = bottom - top
    for _ in range(CHANNELS):
        a, b, c, d = _look_up(grad, to_x, to_y, height, width, grad_stride_h, grad_stride_w, mask)
        top, bottom = a + fx * (b - a), c + fx * (d - c)
        seen = top + fy * (bottom - top)
        tl.store(by_values, (weight * seen).to(by_values.dtype.element_ty), mask=mask)
        value = load(values, y, x, values_stride_h, values_stride_w, mask)
        by_weight += value * seen
        by_x += value * ((b - a) + fy * ((d - c) - (b - a)))
        by_y += value * (bottom - top)
        grad += grad_stride_c
        values += values_stride_c
        by_values += height * width
    kind = by_flow.dtype.element_ty
    by_flow += n * 2 * height * width + place
    tl.store(by_flow, (weight * by_x).to(kind), mask=mask)
    tl.store(by_flow + height * width, (weight * by_y).to(kind), mask=mask)
    by_weights += n * height * width + place
    tl.store(by_weights, by_weight.to(by_weights.dtype.element_ty), mask=mask)
