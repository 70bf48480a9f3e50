# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Motion along paths on CUDA: the kernels of `rdvfi.ops.paths`.

Grids are small (half the motion size), so what counts is the number of launches, not bytes: a fixed
point that takes a dozen passes per iteration in torch is one kernel here, in which every pixel
iterates by itself. Fields are float32; a plane's rows are dense, other strides are free.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    bilinear_pair,
    corners,
    launch_grid,
    load,
    load_four,
    load_pair,
    store_pair,
    tile,
    vector_length,
    zeros,
)


@jit
def _follow(
    start0, start1, end0, end1, start_times, end_times, out, num_times, height, width, start0_stride_b,
    start0_stride_t, start0_stride_c, start1_stride_b, start1_stride_t, start1_stride_c, end0_stride_b, end0_stride_t,
    end0_stride_c, end1_stride_b, end1_stride_t, end1_stride_c, ITERATIONS: tl.constexpr,
):  # fmt: skip
    """The shift of each pixel's point from one time to another; see `rdvfi.ops.paths.follow`."""
    n, y, x, mask = tile(height, width)
    b, t = n // num_times, n % num_times
    weight = tl.load(end_times + t)
    gap = weight - tl.load(start_times + t)
    start0 += b * start0_stride_b + t * start0_stride_t
    start1 += b * start1_stride_b + t * start1_stride_t
    end0 += b * end0_stride_b + t * end0_stride_t
    end1 += b * end1_stride_b + t * end1_stride_t
    to_first_x, to_first_y = load(start0, y, x, width, 1, mask), load(start0 + start0_stride_c, y, x, width, 1, mask)
    to_last_x, to_last_y = load(start1, y, x, width, 1, mask), load(start1 + start1_stride_c, y, x, width, 1, mask)
    dx, dy = gap * (to_last_x - to_first_x), gap * (to_last_y - to_first_y)
    for _ in range(ITERATIONS):
        point = corners(x + dx, y + dy, height, width)
        dx = to_first_x - bilinear(end0, point, width, 1, mask)
        dy = to_first_y - bilinear(end0 + end0_stride_c, point, width, 1, mask)
        shift_x = to_last_x - bilinear(end1, point, width, 1, mask)
        shift_y = to_last_y - bilinear(end1 + end1_stride_c, point, width, 1, mask)
        dx, dy = dx + weight * (shift_x - dx), dy + weight * (shift_y - dy)
    store_pair(out + (n * 2 * height + y) * width + x, height * width, dx, dy, mask)


@jit
def _straight_flows(
    forward, backward, times, out, num_times, height, width, forward_stride_b, forward_stride_c, backward_stride_b,
    backward_stride_c, ITERATIONS: tl.constexpr,
):  # fmt: skip
    """Flows of straight motion to both ends; see `rdvfi.ops.straight_flows`."""
    n, y, x, mask = tile(height, width)
    b, t = n // num_times, n % num_times
    tau = tl.load(times + t)
    rest = 1.0 - tau
    forward += b * forward_stride_b
    backward += b * backward_stride_b
    forward_x, forward_y = load(forward, y, x, width, 1, mask), load(forward + forward_stride_c, y, x, width, 1, mask)
    backward_x = load(backward, y, x, width, 1, mask)
    backward_y = load(backward + backward_stride_c, y, x, width, 1, mask)
    for _ in range(ITERATIONS):
        from_x, from_y = x - tau * forward_x, y - tau * forward_y
        forward_x, forward_y = bilinear_pair(forward, forward_stride_c, from_x, from_y, height, width, width, 1, mask)
        to_x, to_y = x - rest * backward_x, y - rest * backward_y
        backward_x, backward_y = bilinear_pair(backward, backward_stride_c, to_x, to_y, height, width, width, 1, mask)
    area = height * width
    out += (n * 4 * height + y) * width + x
    to_first_x = rest * (-tau * forward_x) + tau * (tau * backward_x)
    to_first_y = rest * (-tau * forward_y) + tau * (tau * backward_y)
    store_pair(out, area, to_first_x, to_first_y, mask)
    to_last_x = rest * (rest * forward_x) + tau * (-rest * backward_x)
    to_last_y = rest * (rest * forward_y) + tau * (-rest * backward_y)
    store_pair(out + 2 * area, area, to_last_x, to_last_y, mask)


@jit
def _knot_before(knots, time, KNOTS: tl.constexpr):
    """Index of the last knot at or before a time, at most that of the last but one."""
    knot = 0
    for j in tl.static_range(1, KNOTS - 1):
        knot += (tl.load(knots + j) <= time).to(tl.int32)
    return knot


@jit
def _weighted_shift(shift, weight, y, x, height, width, mask):
    dx, dy = load(shift, y, x, width, 1, mask), load(shift + height * width, y, x, width, 1, mask)
    return weight * dx, weight * dy


@jit
def _two_step_shift(first, second, weight, y, x, height, width, mask):
    """Shift over two intervals, the second taken at the target of the first, times a weight."""
    area = height * width
    one_x, one_y = load(first, y, x, width, 1, mask), load(first + area, y, x, width, 1, mask)
    two_x, two_y = bilinear_pair(second, area, x + one_x, y + one_y, height, width, width, 1, mask)
    return weight * (one_x + two_x), weight * (one_y + two_y)


@jit
def _knot_shifts(ahead, behind, knots, times, weights, out, num_times, height, width, KNOTS: tl.constexpr):
    """Shift of the points of the knot before each time, and of the one behind it, until that time."""
    n, y, x, mask = tile(height, width)
    b, t = n // num_times, n % num_times
    area, step = height * width, 2 * height * width
    left = _knot_before(knots, tl.load(times + t), KNOTS)
    weights += t * KNOTS
    ahead += b * (KNOTS - 1) * step
    behind += b * (KNOTS - 1) * step
    dx, dy = _weighted_shift(ahead + left * step, tl.load(weights + left + 1), y, x, height, width, mask)
    back_x, back_y = _weighted_shift(behind + left * step, tl.load(weights + left), y, x, height, width, mask)
    if KNOTS > 2:
        weight_after = tl.load(weights + left + 2, mask=left + 2 < KNOTS, other=0.0)
        weight_before = tl.load(weights + left - 1, mask=left > 0, other=0.0)
        # Two steps ahead, then one behind, of the points of the left knot.
        first = ahead + tl.minimum(left, KNOTS - 3) * step
        more_x, more_y = _two_step_shift(first, first + step, weight_after, y, x, height, width, mask)
        dx, dy = dx + more_x, dy + more_y
        single = behind + tl.maximum(left - 1, 0) * step
        more_x, more_y = _weighted_shift(single, weight_before, y, x, height, width, mask)
        dx, dy = dx + more_x, dy + more_y
        # The same of the points of the right knot.
        first = behind + tl.maximum(left, 1) * step
        more_x, more_y = _two_step_shift(first, first - step, weight_before, y, x, height, width, mask)
        back_x, back_y = back_x + more_x, back_y + more_y
        single = ahead + tl.minimum(left + 1, KNOTS - 2) * step
        more_x, more_y = _weighted_shift(single, weight_after, y, x, height, width, mask)
        back_x, back_y = back_x + more_x, back_y + more_y
    out += (n * 4 * height + y) * width + x
    store_pair(out, area, dx, dy, mask)
    store_pair(out + 2 * area, area, back_x, back_y, mask)


@jit
def _solve_fixed_point(shift, fields, error, x, y, back_x, back_y, height, width, mask):
    """One solution of the fixed-point equation from a guess: flows to both ends, and their confidence."""
    area = height * width
    for _ in range(2):
        dx, dy = bilinear_pair(shift, area, x + back_x, y + back_y, height, width, width, 1, mask)
        back_x, back_y = -dx, -dy
    point = corners(x + back_x, y + back_y, height, width)
    dx = bilinear(shift, point, width, 1, mask)
    dy = bilinear(shift + area, point, width, 1, mask)
    trust = tl.exp(-vector_length(back_x + dx, back_y + dy) - bilinear(error, point, width, 1, mask))
    first_x = back_x + bilinear(fields, point, width, 1, mask)
    first_y = back_y + bilinear(fields + area, point, width, 1, mask)
    last_x = back_x + bilinear(fields + 2 * area, point, width, 1, mask)
    last_y = back_y + bilinear(fields + 3 * area, point, width, 1, mask)
    return first_x, first_y, last_x, last_y, trust


@jit
def _add_solutions(sums, shift, opposite, fields, error, near, y, x, height, width, mask):
    """Add the flows of the two solutions from one knot, by their trust, to five sums, the weights' first.

    They start from the knot's own shift and from that of the opposite knot, as far as the time is from the knot.
    """
    total, flow0, flow1, flow2, flow3 = sums
    area, offsets, far = height * width, y * width + x, 1.0 - near
    own_x, own_y = load_pair(shift + offsets, area, mask)
    opposite_x, opposite_y = load_pair(opposite + offsets, area, mask)
    own_x, own_y, opposite_x, opposite_y = -own_x, -own_y, far * opposite_x, far * opposite_y
    for guess in range(2):  # not unrolled: a solution is two thousand instructions
        guess_x, guess_y = tl.where(guess == 0, own_x, opposite_x), tl.where(guess == 0, own_y, opposite_y)
        first_x, first_y, last_x, last_y, trust = _solve_fixed_point(
            shift, fields, error, x, y, guess_x, guess_y, height, width, mask
        )
        weight = near * (trust + 1e-6)
        total += weight
        flow0, flow1 = flow0 + weight * first_x, flow1 + weight * first_y
        flow2, flow3 = flow2 + weight * last_x, flow3 + weight * last_y
    return total, flow0, flow1, flow2, flow3


@jit
def _flows_at_times(
    fields, ahead, behind, ahead_error, behind_error, shifts, knots, times, out, num_times, height, width,
    KNOTS: tl.constexpr,
):  # fmt: skip
    """Flows to both ends at each time, from four solutions of the fixed point."""
    n, y, x, mask = tile(height, width)
    b, t = n // num_times, n % num_times
    area, offsets = height * width, y * width + x
    time = tl.load(times + t)
    left = _knot_before(knots, time, KNOTS)
    before, after = tl.load(knots + left), tl.load(knots + left + 1)
    share = (time - before) / (after - before)
    step = b * (KNOTS - 1) + left
    fields += (b * KNOTS + left) * 4 * area
    shifts += n * 4 * area
    ahead, behind = ahead + step * 2 * area, behind + step * 2 * area
    total = zeros()
    sums = total, total, total, total, total
    error = ahead_error + step * area
    sums = _add_solutions(sums, shifts, behind, fields, error, 1.0 - share, y, x, height, width, mask)
    shifts, fields_right, error = shifts + 2 * area, fields + 4 * area, behind_error + step * area
    sums = _add_solutions(sums, shifts, ahead, fields_right, error, share, y, x, height, width, mask)
    total, flow0, flow1, flow2, flow3 = sums
    # At a knot its own flows.
    late = (time >= after).to(tl.int32)
    on_knot = time == tl.load(knots + left + late)
    own0, own1, own2, own3 = load_four(fields + late * 4 * area + offsets, area, mask)
    out += n * 4 * area + offsets
    store_pair(out, area, tl.where(on_knot, own0, flow0 / total), tl.where(on_knot, own1, flow1 / total), mask)
    out += 2 * area
    store_pair(out, area, tl.where(on_knot, own2, flow2 / total), tl.where(on_knot, own3, flow3 / total), mask)


@jit
def _end_confidence(near, near_stride_c, across, across_stride_c, far, far_stride_c, x, y, height, width, mask):
    """exp(-e / 2), with e the error of the path by the near end plus its distance beyond the border."""
    dx, dy = load(near, y, x, width, 1, mask), load(near + near_stride_c, y, x, width, 1, mask)
    across_x, across_y = bilinear_pair(across, across_stride_c, x + dx, y + dy, height, width, width, 1, mask)
    error_x = dx + across_x - load(far, y, x, width, 1, mask)
    error_y = dy + across_y - load(far + far_stride_c, y, x, width, 1, mask)
    target_x, target_y = dx + x, dy + y
    beyond = tl.abs(target_x - tl.minimum(tl.maximum(target_x, 0.0), width - 1.0))
    beyond += tl.abs(target_y - tl.minimum(tl.maximum(target_y, 0.0), height - 1.0))
    return tl.exp(-0.5 * (vector_length(error_x, error_y) + beyond))


@jit
def _confidence(
    first, last, onward, back, out, num_times, height, width, first_stride_b, first_stride_t, first_stride_c,
    last_stride_b, last_stride_t, last_stride_c, onward_stride_b, onward_stride_c, back_stride_b, back_stride_c,
):  # fmt: skip
    """Confidence in the flows to both ends; see `rdvfi.ops.paths.confidence`."""
    n, y, x, mask = tile(height, width)
    b, t = n // num_times, n % num_times
    first += b * first_stride_b + t * first_stride_t
    last += b * last_stride_b + t * last_stride_t
    onward += b * onward_stride_b
    back += b * back_stride_b
    out += (n * 2 * height + y) * width + x
    to_first = _end_confidence(
        first, first_stride_c, onward, onward_stride_c, last, last_stride_c, x, y, height, width, mask
    )
    to_last = _end_confidence(
        last, last_stride_c, back, back_stride_c, first, first_stride_c, x, y, height, width, mask
    )
    store_pair(out, height * width, to_first, to_last, mask)


def _dense(field: Tensor) -> Tensor:
    """The field in float32 with contiguous rows."""
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
    times = [x.float().contiguous() for x in (start, end)]
    arguments = [*fields, *times, out, t, h, w, *strides]
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
    _straight_flows[launch_grid(b * t, h, w)](*arguments, ITERATIONS=iterations)
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
    _knot_shifts[grid](*arguments, KNOTS=k)
    arguments = [*maps, shifts, knots, times, out, t, h, w]
    _flows_at_times[grid](*arguments, KNOTS=k)
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
