# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Similarity paths on CUDA: the kernels of `rdvfi.ops.similarity_path_flows`.

Both ends are one batch, and a complex number is a pair of floats. One launch fits the similarity around each
pixel, one computes the maps of every time, one splats them (`rdvfi.ops.kernels.splat_kernels`), and one searches
from the first guess and from the splatted flow. A similarity is stored as the logarithm of its scale and as its
angle, because only powers of it are needed.

Per pixel the fit loads 2 x 49 values, about 1,500 operations; the maps write 13 values an instant, about
80; the searches load 8 x 24 values and write 16, about 400. Grids are those of latents, 56x32 with 7
instants of 2 ends: 25,000 pixels, 1.3 MB of maps, all of it in the caches. Floor: maps written and read,
4 * (13 + 13 + 16) bytes per pixel, instant and end.
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
    load_pair,
    store_pair,
    tile,
    vector_length,
    zeros,
)
from rdvfi.ops.kernels.splat_kernels import splat_with_units


@jit
def _angle(x, y, limit):
    """Angle of a complex number, clamped to ``limit``, in radians."""
    size = tl.sqrt(x * x + y * y)
    safe_y = tl.where(y < 0.0, tl.minimum(y, -1e-20), tl.maximum(y, 1e-20))
    # The tangent of its half, and then of its sixteenth part.
    half = tl.where(x > 0.0, y / tl.maximum(size + x, 1e-20), (size - x) / safe_y)
    half = tl.minimum(tl.maximum(half, -1e3), 1e3)
    for _ in tl.static_range(3):
        half = half / (1.0 + tl.sqrt(1.0 + half * half))
    square = half * half
    series = half * (1.0 + square * (-1.0 / 3.0 + square * (0.2 + square * (-1.0 / 7.0 + square / 9.0))))
    return tl.minimum(tl.maximum(16.0 * series, -limit), limit)


@jit
def _fit_similarities(flow, out, samples, height, width, min_scale, max_scale, max_angle, RADIUS: tl.constexpr):
    """The similarity around each pixel (log scale and angle), and the forward-backward error."""
    n, y, x, mask = tile(height, width)
    area = height * width
    opposite = flow + (n + samples // 2) % samples * 2 * area
    flow += n * 2 * area
    offsets = y * width + x
    u, v = load_pair(flow + offsets, area, mask)
    total = zeros()
    mean_value_x, mean_value_y, mean_place_x, mean_place_y = total, total, total, total
    spread, joint_x, joint_y = total, total, total
    for k in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        dy, dx = k // (2 * RADIUS + 1) - RADIUS, k % (2 * RADIUS + 1) - RADIUS
        tap_mask = mask & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        rise_x = load(flow, y + dy, x + dx, width, 1, tap_mask) - u
        rise_y = load(flow + area, y + dy, x + dx, width, 1, tap_mask) - v
        distance = tl.sqrt(dx * dx + dy * dy + 0.0 * total)
        steepness = tl.sqrt(rise_x * rise_x + rise_y * rise_y + 1e-12) / (1.4 * distance + 0.3)
        weight = tl.where(tap_mask, tl.exp(-steepness * steepness * steepness * steepness), 0.0)
        total += weight
        mean_value_x += weight * rise_x
        mean_value_y += weight * rise_y
        mean_place_x += weight * dx
        mean_place_y += weight * dy
        spread += weight * distance * distance
        joint_x += weight * (dx * rise_x + dy * rise_y)
        joint_y += weight * (dx * rise_y - dy * rise_x)
    total = tl.maximum(total, 1e-30)
    mean_value_x, mean_value_y = mean_value_x / total, mean_value_y / total
    mean_place_x, mean_place_y = mean_place_x / total, mean_place_y / total
    spread = spread / total - (mean_place_x * mean_place_x + mean_place_y * mean_place_y) + 0.05
    alpha_x = (joint_x / total - (mean_place_x * mean_value_x + mean_place_y * mean_value_y)) / spread
    alpha_y = (joint_y / total - (mean_place_x * mean_value_y - mean_place_y * mean_value_x)) / spread
    size = tl.sqrt((1.0 + alpha_x) * (1.0 + alpha_x) + alpha_y * alpha_y)
    out += n * 3 * area + offsets
    tl.store(out, tl.log(tl.minimum(tl.maximum(size, min_scale), max_scale)), mask=mask)
    tl.store(out + area, _angle(1.0 + alpha_x, alpha_y, max_angle), mask=mask)
    point = corners(x + u, y + v, height, width)
    miss_x = u + bilinear(opposite, point, width, 1, mask)
    miss_y = v + bilinear(opposite + area, point, width, 1, mask)
    tl.store(out + 2 * area, vector_length(miss_x, miss_y), mask=mask)


@jit
def _path_maps(
    flow, similarities, sorted_flow, times, maps, splat_values, samples, num_times, height, width, max_length,
    error_exponent, small_gradient,
):  # fmt: skip
    """Shift, power and end-to-end flow at each time, and the values to splat: flows to both ends, trust, weight."""
    row, y, x, mask = tile(height, width)
    n, t = row // num_times, row % num_times
    area = height * width
    offsets = y * width + x
    share = tl.load(times + t)
    share = tl.where(n < samples // 2, share, 1.0 - share)
    u, v = load(flow + n * 2 * area, y, x, width, 1, mask), load(flow + (n * 2 + 1) * area, y, x, width, 1, mask)
    similarities += n * 3 * area + offsets
    log_size, angle = load_pair(similarities, area, mask)
    size = tl.exp(log_size)
    alpha_x, alpha_y = size * tl.cos(angle) - 1.0, size * tl.sin(angle)
    size = tl.exp(share * log_size)
    power_x, power_y = size * tl.cos(share * angle), size * tl.sin(share * angle)
    square = alpha_x * alpha_x + alpha_y * alpha_y
    is_small = square < small_gradient * small_gradient
    denominator = tl.where(is_small, 1.0, square)
    ratio_x = ((power_x - 1.0) * alpha_x + power_y * alpha_y) / denominator
    ratio_y = (power_y * alpha_x - (power_x - 1.0) * alpha_y) / denominator
    slope = 0.5 * share * (share - 1.0)
    ratio_x = tl.where(is_small, share + slope * alpha_x, ratio_x)
    ratio_y = tl.where(is_small, slope * alpha_y, ratio_y)
    shift_x, shift_y = ratio_x * u - ratio_y * v, ratio_x * v + ratio_y * u
    maps += row * 6 * area + offsets
    store_pair(maps, area, shift_x, shift_y, mask)
    store_pair(maps + 2 * area, area, power_x, power_y, mask)
    store_pair(maps + 4 * area, area, u, v, mask)
    median = sorted_flow + n * 2 * area + area // 2
    difference = vector_length(u - tl.load(median), v - tl.load(median + area))
    difference_from_median = tl.minimum(difference, max_length)
    round_trip_error = tl.minimum(tl.load(similarities + 2 * area, mask=mask, other=0.0), max_length)
    # No weight is above 1, and none vanishes: both lengths are bounded.
    weight = tl.exp(difference_from_median - error_exponent * round_trip_error - max_length)
    trust = tl.exp(-round_trip_error)
    splat_values += row * 6 * area + offsets
    store_pair(splat_values, area, -shift_x, -shift_y, mask)
    store_pair(splat_values + 2 * area, area, u - shift_x, v - shift_y, mask)
    store_pair(splat_values + 4 * area, area, trust / weight, weight, mask)


@jit
def _newton_search(maps, x, y, flow_x, flow_y, height, width, mask):
    """Flows to this end and to the other one, by Newton's iteration."""
    area = height * width
    for _ in range(3):
        point = corners(x + flow_x, y + flow_y, height, width)
        error_x = flow_x + bilinear(maps, point, width, 1, mask)
        error_y = flow_y + bilinear(maps + area, point, width, 1, mask)
        slope_x = bilinear(maps + 2 * area, point, width, 1, mask)
        slope_y = bilinear(maps + 3 * area, point, width, 1, mask)
        square = tl.maximum(slope_x * slope_x + slope_y * slope_y, 0.0625)
        flow_x -= (error_x * slope_x + error_y * slope_y) / square
        flow_y -= (error_y * slope_x - error_x * slope_y) / square
    point = corners(x + flow_x, y + flow_y, height, width)
    far_x = flow_x + bilinear(maps + 4 * area, point, width, 1, mask)
    far_y = flow_y + bilinear(maps + 5 * area, point, width, 1, mask)
    return flow_x, flow_y, far_x, far_y


@jit
def _store_candidate(out, area, is_last, near_x, near_y, far_x, far_y, limit, mask):
    """Store flows to this end and to the other one, the flow to the first end first."""
    near_x, near_y = tl.minimum(tl.maximum(near_x, -limit), limit), tl.minimum(tl.maximum(near_y, -limit), limit)
    far_x, far_y = tl.minimum(tl.maximum(far_x, -limit), limit), tl.minimum(tl.maximum(far_y, -limit), limit)
    store_pair(out + 2 * is_last * area, area, near_x, near_y, mask)
    store_pair(out + 2 * (1 - is_last) * area, area, far_x, far_y, mask)


@jit
def _solve_candidates(maps, arrived, flows, shares, pairs, num_times, height, width, max_correction, limit):
    """Two candidates from each end: by search from the first guess, and the splatted flow, corrected by search."""
    row, y, x, mask = tile(height, width)
    area = height * width
    offsets = y * width + x
    maps += row * 6 * area
    is_last = row // (pairs * num_times)
    pair_row = row % (pairs * num_times)
    shift_x, shift_y = load(maps, y, x, width, 1, mask), load(maps + area, y, x, width, 1, mask)
    power_x = tl.load(maps + 2 * area + offsets, mask=mask, other=1.0)
    power_y = tl.load(maps + 3 * area + offsets, mask=mask, other=0.0)
    square = power_x * power_x + power_y * power_y
    guess_x = -(shift_x * power_x + shift_y * power_y) / square
    guess_y = -(shift_y * power_x - shift_x * power_y) / square
    flow_x, flow_y, far_x, far_y = _newton_search(maps, x, y, guess_x, guess_y, height, width, mask)
    flows += pair_row * 16 * area + offsets
    _store_candidate(flows + is_last * 4 * area, area, is_last, flow_x, flow_y, far_x, far_y, limit, mask)
    arrived += row * 6 * area + offsets
    total = tl.load(arrived + 5 * area, mask=mask, other=0.0)
    is_hit = total > 1.2e-38
    total = tl.where(is_hit, total, 1.0)
    near_x = tl.where(is_hit, tl.load(arrived, mask=mask, other=0.0) / total, 0.0)
    near_y = tl.where(is_hit, tl.load(arrived + area, mask=mask, other=0.0) / total, 0.0)
    arrived_far_x = tl.load(arrived + 2 * area, mask=mask, other=0.0) / total
    arrived_far_y = tl.load(arrived + 3 * area, mask=mask, other=0.0) / total
    start_x, start_y = tl.where(is_hit, near_x, guess_x), tl.where(is_hit, near_y, guess_y)
    flow_x, flow_y, far_x, far_y = _newton_search(maps, x, y, start_x, start_y, height, width, mask)
    exact = (
        (flow_x - near_x) * (flow_x - near_x) + (flow_y - near_y) * (flow_y - near_y) < max_correction * max_correction
    ) | (is_hit == 0)
    near_x, near_y = tl.where(exact, flow_x, near_x), tl.where(exact, flow_y, near_y)
    arrived_far_x, arrived_far_y = tl.where(exact, far_x, arrived_far_x), tl.where(exact, far_y, arrived_far_y)
    _store_candidate(
        flows + (2 + is_last) * 4 * area, area, is_last, near_x, near_y, arrived_far_x, arrived_far_y, limit, mask
    )
    share = tl.load(arrived + 4 * area, mask=mask, other=0.0)
    tl.store(shares + (pair_row * 2 + is_last) * area + offsets, tl.minimum(share, 1.0), mask=mask)


def similarity_paths(
    forward: Tensor,
    backward: Tensor,
    times: Tensor,
    *,
    radius: int,
    sizes: tuple[float, float],
    turn: float,
    tiny: float,
    most: float,
    contradicted: float,
    near: float,
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.ops.similarity_path_flows`."""
    both, times = torch.cat((forward, backward)).float(), times.float().contiguous()
    (n, _, h, w), t = both.shape, len(times)
    sorted_flow = both.flatten(2).sort(-1).values
    similarities, maps, splat_values = (both.new_empty((m, c, h, w)) for m, c in ((n, 3), (n * t, 6), (n * t, 6)))
    flows, shares = both.new_empty((n // 2, t, 4, 4, h, w)), both.new_empty((n // 2, t, 2, h, w))
    _fit_similarities[launch_grid(n, h, w)](both, similarities, n, h, w, *sizes, turn, RADIUS=radius)
    arguments = (both, similarities, sorted_flow, times, maps, splat_values, n, t, h, w, most, contradicted, tiny)
    _path_maps[launch_grid(n * t, h, w)](*arguments)
    arrived = splat_with_units(splat_values[:, :5], maps[:, :2], splat_values[:, 5:], None)
    limit = 2.0 * (h + w)
    _solve_candidates[launch_grid(n * t, h, w)](maps, arrived, flows, shares, n // 2, t, h, w, near, limit)
    return flows, shares
