"""Motion along paths on CUDA: the kernels of `rdvfi.ops.paths`.

Grids are small (half the motion size), so what counts is the number of launches, not bytes: a fixed
point that takes a dozen passes per iteration in torch is one kernel here, in which every pixel
iterates by itself. Fields are float32; a plane's rows are dense, other strides are free.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    bilinear_pair,
    corners,
    launch_grid,
    load,
    store_pair,
    tile,
    vector_length,
    zeros,
)


@triton.jit
@no_type_check
def _follow(
    here0, here1, there0, there1, start, end, out, times, height, width, here0_stride_b, here0_stride_t,
    here0_stride_c, here1_stride_b, here1_stride_t, here1_stride_c, there0_stride_b, there0_stride_t, there0_stride_c,
    there1_stride_b, there1_stride_t, there1_stride_c, ITERATIONS: tl.constexpr,
):  # fmt: skip
    """The shift of each pixel's point from one time to another; see `rdvfi.ops.paths.follow`."""
    n, y, x, mask = tile(height, width)
    b, t = n // times, n % times
    weight = tl.load(end + t)
    gap = weight - tl.load(start + t)
    here0 += b * here0_stride_b + t * here0_stride_t
    here1 += b * here1_stride_b + t * here1_stride_t
    there0 += b * there0_stride_b + t * there0_stride_t
    there1 += b * there1_stride_b + t * there1_stride_t
    x_first, y_first = load(here0, y, x, width, 1, mask), load(here0 + here0_stride_c, y, x, width, 1, mask)
    x_last, y_last = load(here1, y, x, width, 1, mask), load(here1 + here1_stride_c, y, x, width, 1, mask)
    dx, dy = gap * (x_last - x_first), gap * (y_last - y_first)
    for _ in range(ITERATIONS):
        point = corners(x + dx, y + dy, height, width)
        dx = x_first - bilinear(there0, point, width, 1, mask)
        dy = y_first - bilinear(there0 + there0_stride_c, point, width, 1, mask)
        to_x = x_last - bilinear(there1, point, width, 1, mask)
        to_y = y_last - bilinear(there1 + there1_stride_c, point, width, 1, mask)
        dx, dy = dx + weight * (to_x - dx), dy + weight * (to_y - dy)
    store_pair(out + (n * 2 * height + y) * width + x, height * width, dx, dy, mask)


@triton.jit
@no_type_check
def _straight(
    forward, backward, taus, out, times, height, width, forward_stride_b, forward_stride_c, backward_stride_b,
    backward_stride_c, ITERATIONS: tl.constexpr,
):  # fmt: skip
    """Flows of straight motion to both ends; see `rdvfi.ops.straight_flows`."""
    n, y, x, mask = tile(height, width)
    b, t = n // times, n % times
    tau = tl.load(taus + t)
    forward += b * forward_stride_b
    backward += b * backward_stride_b
    fx_, fy_ = load(forward, y, x, width, 1, mask), load(forward + forward_stride_c, y, x, width, 1, mask)
    bx_, by_ = load(backward, y, x, width, 1, mask), load(backward + backward_stride_c, y, x, width, 1, mask)
    for _ in range(ITERATIONS):
        fx_, fy_ = bilinear_pair(forward, forward_stride_c, x - tau * fx_, y - tau * fy_, height, width, width, 1, mask)
        bx_, by_ = bilinear_pair(
            backward, backward_stride_c, x - (1.0 - tau) * bx_, y - (1.0 - tau) * by_, height, width, width, 1, mask
        )
    rest, area = 1.0 - tau, height * width
    out += (n * 4 * height + y) * width + x
    store_pair(out, area, rest * (-tau * fx_) + tau * (tau * bx_), rest * (-tau * fy_) + tau * (tau * by_), mask)
    out += 2 * area
    store_pair(out, area, rest * (rest * fx_) + tau * (-rest * bx_), rest * (rest * fy_) + tau * (-rest * by_), mask)


@triton.jit
@no_type_check
def _shifts(ahead, behind, knots, moments, weights, out, times, height, width, KNOTS: tl.constexpr):
    """Shift of the points of the knot before each time, and of the one behind it, until that time."""
    n, y, x, mask = tile(height, width)
    b, t = n // times, n % times
    area, step = height * width, 2 * height * width
    moment = tl.load(moments + t)
    left = 0
    for j in tl.static_range(1, KNOTS - 1):
        left += (tl.load(knots + j) <= moment).to(tl.int32)
    weights += t * KNOTS
    ahead += b * (KNOTS - 1) * step
    behind += b * (KNOTS - 1) * step
    own = ahead + left * step
    share = tl.load(weights + left + 1)
    dx, dy = share * load(own, y, x, width, 1, mask), share * load(own + area, y, x, width, 1, mask)
    own = behind + left * step
    share = tl.load(weights + left)
    back_x, back_y = share * load(own, y, x, width, 1, mask), share * load(own + area, y, x, width, 1, mask)
    if KNOTS > 2:
        # Two steps ahead, then one behind, of the points of the left knot.
        first = ahead + tl.minimum(left, KNOTS - 3) * step
        one_x, one_y = load(first, y, x, width, 1, mask), load(first + area, y, x, width, 1, mask)
        two_x, two_y = bilinear_pair(first + step, area, x + one_x, y + one_y, height, width, width, 1, mask)
        share = tl.load(weights + left + 2, mask=left + 2 < KNOTS, other=0.0)
        dx, dy = dx + share * (one_x + two_x), dy + share * (one_y + two_y)
        own = behind + tl.maximum(left - 1, 0) * step
        share = tl.load(weights + left - 1, mask=left > 0, other=0.0)
        dx += share * load(own, y, x, width, 1, mask)
        dy += share * load(own + area, y, x, width, 1, mask)
        # The same of the points of the right knot.
        index = tl.maximum(left, 1)
        first = behind + index * step
        one_x, one_y = load(first, y, x, width, 1, mask), load(first + area, y, x, width, 1, mask)
        two_x, two_y = bilinear_pair(first - step, area, x + one_x, y + one_y, height, width, width, 1, mask)
        share = tl.load(weights + left - 1, mask=left > 0, other=0.0)
        back_x, back_y = back_x + share * (one_x + two_x), back_y + share * (one_y + two_y)
        own = ahead + tl.minimum(left + 1, KNOTS - 2) * step
        share = tl.load(weights + left + 2, mask=left + 2 < KNOTS, other=0.0)
        back_x += share * load(own, y, x, width, 1, mask)
        back_y += share * load(own + area, y, x, width, 1, mask)
    out += (n * 4 * height + y) * width + x
    store_pair(out, area, dx, dy, mask)
    store_pair(out + 2 * area, area, back_x, back_y, mask)


@triton.jit
@no_type_check
def _solution(shift, fields, error, x, y, to_x, to_y, height, width, mask):
    """One solution of the fixed point from the guess ``to``: flows to both ends, and trust in them."""
    area = height * width
    for _ in range(2):
        dx, dy = bilinear_pair(shift, area, x + to_x, y + to_y, height, width, width, 1, mask)
        to_x, to_y = -dx, -dy
    point = corners(x + to_x, y + to_y, height, width)
    dx = bilinear(shift, point, width, 1, mask)
    dy = bilinear(shift + area, point, width, 1, mask)
    trust = tl.exp(-vector_length(to_x + dx, to_y + dy) - bilinear(error, point, width, 1, mask))
    first_x = to_x + bilinear(fields, point, width, 1, mask)
    first_y = to_y + bilinear(fields + area, point, width, 1, mask)
    last_x = to_x + bilinear(fields + 2 * area, point, width, 1, mask)
    last_y = to_y + bilinear(fields + 3 * area, point, width, 1, mask)
    return first_x, first_y, last_x, last_y, trust


@triton.jit
@no_type_check
def _flows(
    fields, ahead, behind, ahead_error, behind_error, shifts, knots, moments, out, times, height, width,
    KNOTS: tl.constexpr,
):  # fmt: skip
    """Flows to both ends at each time, from four solutions of the fixed point."""
    n, y, x, mask = tile(height, width)
    b, t = n // times, n % times
    area = height * width
    moment = tl.load(moments + t)
    left = 0
    for j in tl.static_range(1, KNOTS - 1):
        left += (tl.load(knots + j) <= moment).to(tl.int32)
    before, after = tl.load(knots + left), tl.load(knots + left + 1)
    share = (moment - before) / (after - before)
    step = b * (KNOTS - 1) + left
    fields += (b * KNOTS + left) * 4 * area
    shifts += n * 4 * area
    ahead_error += step * area
    behind_error += step * area
    here = y * width + x
    total = zeros()
    flow0, flow1, flow2, flow3 = total, total, total, total
    for side in tl.static_range(2):
        own = shifts + side * 2 * area
        error = ahead_error if side == 0 else behind_error
        other = (behind if side == 0 else ahead) + step * 2 * area
        near = 1.0 - share if side == 0 else share
        far = 1.0 - near
        own_x = -tl.load(own + here, mask=mask, other=0.0)
        own_y = -tl.load(own + area + here, mask=mask, other=0.0)
        other_x = far * tl.load(other + here, mask=mask, other=0.0)
        other_y = far * tl.load(other + area + here, mask=mask, other=0.0)
        for guess in range(2):  # not unrolled: a solution is two thousand instructions
            to_x, to_y = tl.where(guess == 0, own_x, other_x), tl.where(guess == 0, own_y, other_y)
            a, b_, c, d, trust = _solution(own, fields + side * 4 * area, error, x, y, to_x, to_y, height, width, mask)
            trust = near * (trust + 1e-6)
            total += trust
            flow0, flow1 = flow0 + trust * a, flow1 + trust * b_
            flow2, flow3 = flow2 + trust * c, flow3 + trust * d
    flow0, flow1, flow2, flow3 = flow0 / total, flow1 / total, flow2 / total, flow3 / total
    late = (moment >= after).to(tl.int32)
    on_knot = moment == tl.load(knots + left + late)
    fields += late * 4 * area + here
    flow0 = tl.where(on_knot, tl.load(fields, mask=mask, other=0.0), flow0)
    flow1 = tl.where(on_knot, tl.load(fields + area, mask=mask, other=0.0), flow1)
    flow2 = tl.where(on_knot, tl.load(fields + 2 * area, mask=mask, other=0.0), flow2)
    flow3 = tl.where(on_knot, tl.load(fields + 3 * area, mask=mask, other=0.0), flow3)
    out += n * 4 * area + here
    store_pair(out, area, flow0, flow1, mask)
    store_pair(out + 2 * area, area, flow2, flow3, mask)


@triton.jit
@no_type_check
def _trust(near, near_stride_c, across, across_stride_c, far, far_stride_c, x, y, height, width, mask):
    """exp(-e/2), with e the error of the way by the near end, and what of it is out of the picture."""
    dx, dy = load(near, y, x, width, 1, mask), load(near + near_stride_c, y, x, width, 1, mask)
    on_x, on_y = bilinear_pair(across, across_stride_c, x + dx, y + dy, height, width, width, 1, mask)
    miss_x = dx + on_x - load(far, y, x, width, 1, mask)
    miss_y = dy + on_y - load(far + far_stride_c, y, x, width, 1, mask)
    to_x, to_y = dx + x, dy + y
    beyond = tl.abs(to_x - tl.minimum(tl.maximum(to_x, 0.0), width - 1.0))
    beyond += tl.abs(to_y - tl.minimum(tl.maximum(to_y, 0.0), height - 1.0))
    return tl.exp(-0.5 * (vector_length(miss_x, miss_y) + beyond))


@triton.jit
@no_type_check
def _confidence(
    first, last, onward, back, out, times, height, width, first_stride_b, first_stride_t, first_stride_c,
    last_stride_b, last_stride_t, last_stride_c, onward_stride_b, onward_stride_c, back_stride_b, back_stride_c,
):  # fmt: skip
    """Trust in the flows to both ends; see `rdvfi.ops.paths.confidence`."""
    n, y, x, mask = tile(height, width)
    b, t = n // times, n % times
    first += b * first_stride_b + t * first_stride_t
    last += b * last_stride_b + t * last_stride_t
    onward += b * onward_stride_b
    back += b * back_stride_b
    out += (n * 2 * height + y) * width + x
    to_first = _trust(first, first_stride_c, onward, onward_stride_c, last, last_stride_c, x, y, height, width, mask)
    to_last = _trust(last, last_stride_c, back, back_stride_c, first, first_stride_c, x, y, height, width, mask)
    store_pair(out, height * width, to_first, to_last, mask)


def _dense(field: Tensor) -> Tensor:
    """Float32, with rows that lie one behind the other."""
    field = field.float()
    rows = field.stride()[-2:] == (field.shape[-1], 1)
    return field if rows else field.contiguous()


def follow(
    here0: Tensor, here1: Tensor, there0: Tensor, there1: Tensor, start: Tensor, end: Tensor, iterations: int
) -> Tensor:
    """See `rdvfi.ops.paths.follow`."""
    b, t, _, h, w = here0.shape
    out = torch.empty((b, t, 2, h, w), dtype=torch.float32, device=here0.device)
    fields = [_dense(x) for x in (here0, here1, there0, there1)]
    strides = [stride for x in fields for stride in x.stride()[:3]]
    moments = [x.float().contiguous() for x in (start, end)]
    arguments = [*fields, *moments, out, t, h, w, *strides]
    _follow[launch_grid(b * t, h, w)](*arguments, ITERATIONS=iterations)
    return out


def straight_flows(forward: Tensor, backward: Tensor, times: Tensor, iterations: int) -> Tensor:
    """See `rdvfi.ops.straight_flows`: both flows in one."""
    (b, _, h, w), t = forward.shape, len(times)
    out = torch.empty((b, t, 4, h, w), dtype=torch.float32, device=forward.device)
    fields = [_dense(x) for x in (forward, backward)]
    strides = [stride for x in fields for stride in x.stride()[:2]]
    moments = times.float().contiguous()
    arguments = [*fields, moments, out, t, h, w, *strides]
    _straight[launch_grid(b * t, h, w)](*arguments, ITERATIONS=iterations)
    return out


def flows_at(
    fields: Tensor,
    ahead: Tensor,
    behind: Tensor,
    ahead_error: Tensor,
    behind_error: Tensor,
    knots: Tensor,
    times: Tensor,
    weights: Tensor,
) -> Tensor:
    """See `rdvfi.ops.paths.flows_at`."""
    (b, k, _, h, w), t = fields.shape, len(times)
    out = torch.empty((b, t, 4, h, w), dtype=torch.float32, device=fields.device)
    maps = [x.float().contiguous() for x in (fields, ahead, behind, ahead_error, behind_error)]
    knots, times, weights = (x.float().contiguous() for x in (knots, times, weights))
    shifts, grid = torch.empty_like(out), launch_grid(b * t, h, w)
    arguments = [*maps[1:3], knots, times, weights, shifts, t, h, w]
    _shifts[grid](*arguments, KNOTS=k)
    arguments = [*maps, shifts, knots, times, out, t, h, w]
    _flows[grid](*arguments, KNOTS=k)
    return out


def confidence(first: Tensor, last: Tensor, onward: Tensor, back: Tensor) -> Tensor:
    """See `rdvfi.ops.paths.confidence`."""
    b, t, _, h, w = first.shape
    out = torch.empty((b, t, 2, h, w), dtype=torch.float32, device=first.device)
    flows, across = [_dense(x) for x in (first, last)], [_dense(x) for x in (onward, back)]
    strides = [s for x in flows for s in x.stride()[:3]] + [s for x in across for s in x.stride()[:2]]
    arguments = [*flows, *across, out, t, h, w, *strides]
    _confidence[launch_grid(b * t, h, w)](*arguments)
    return out
