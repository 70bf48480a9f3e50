"""Similarity paths on CUDA: the kernels of `rdvfi.ops.similarity_path_flows`.

Both ends are one batch, and what is complex is two numbers. One launch fits the similarity around each
pixel, one makes the maps of every instant, one pushes them (`rdvfi.ops.kernels.splat_kernels`), and one
searches both from the first guess and from what arrives. The fit is kept as logarithm of its size and as
angle, for only powers of it are needed.

Per pixel the fit loads 2 x 49 values, about 1,500 operations; the maps write 13 values an instant, about
80; the searches load 8 x 24 values and write 16, about 400. Grids are those of latents, 56x32 with 7
instants of 2 ends: 25,000 pixels, 1.3 MB of maps, all of it in the caches. Floor: maps written and read,
4 * (13 + 13 + 16) bytes per pixel, instant and end.
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
    store_pair,
    tile,
    vector_length,
    zeros,
)
from rdvfi.ops.kernels.splat_kernels import added


@triton.jit
@no_type_check
def _angle(x, y, most):
    """Of a complex number, in radians; at most ``most``, below pi, either way."""
    size = tl.sqrt(x * x + y * y)
    across = tl.where(y < 0.0, tl.minimum(y, -1e-20), tl.maximum(y, 1e-20))
    # The tangent of its half, and then of its sixteenth part.
    half = tl.where(x > 0.0, y / tl.maximum(size + x, 1e-20), (size - x) / across)
    half = tl.minimum(tl.maximum(half, -1e3), 1e3)
    for _ in tl.static_range(3):
        half = half / (1.0 + tl.sqrt(1.0 + half * half))
    square = half * half
    series = half * (1.0 + square * (-1.0 / 3.0 + square * (0.2 + square * (-1.0 / 7.0 + square / 9.0))))
    return tl.minimum(tl.maximum(16.0 * series, -most), most)


@triton.jit
@no_type_check
def _fit(flow, out, samples, height, width, small, large, turn, RADIUS: tl.constexpr):
    """The similarity around each pixel, as logarithm of its size and as angle, and what the other end misses."""
    n, y, x, mask = tile(height, width)
    area = height * width
    other = flow + (n + samples // 2) % samples * 2 * area
    flow += n * 2 * area
    here = y * width + x
    u, v = tl.load(flow + here, mask=mask, other=0.0), tl.load(flow + area + here, mask=mask, other=0.0)
    total = zeros()
    value_x, value_y, place_x, place_y, spread, joint_x, joint_y = total, total, total, total, total, total, total
    for k in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        dy, dx = k // (2 * RADIUS + 1) - RADIUS, k % (2 * RADIUS + 1) - RADIUS
        there = mask & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        rise_x = load(flow, y + dy, x + dx, width, 1, there) - u
        rise_y = load(flow + area, y + dy, x + dx, width, 1, there) - v
        run = tl.sqrt(dx * dx + dy * dy + 0.0 * total)
        steep = tl.sqrt(rise_x * rise_x + rise_y * rise_y + 1e-12) / (1.4 * run + 0.3)
        weight = tl.where(there, tl.exp(-steep * steep * steep * steep), 0.0)
        total += weight
        value_x += weight * rise_x
        value_y += weight * rise_y
        place_x += weight * dx
        place_y += weight * dy
        spread += weight * run * run
        joint_x += weight * (dx * rise_x + dy * rise_y)
        joint_y += weight * (dx * rise_y - dy * rise_x)
    total = tl.maximum(total, 1e-30)
    value_x, value_y, place_x, place_y = value_x / total, value_y / total, place_x / total, place_y / total
    spread = spread / total - (place_x * place_x + place_y * place_y) + 0.05
    alpha_x = (joint_x / total - (place_x * value_x + place_y * value_y)) / spread
    alpha_y = (joint_y / total - (place_x * value_y - place_y * value_x)) / spread
    size = tl.sqrt((1.0 + alpha_x) * (1.0 + alpha_x) + alpha_y * alpha_y)
    out += n * 3 * area + here
    tl.store(out, tl.log(tl.minimum(tl.maximum(size, small), large)), mask=mask)
    tl.store(out + area, _angle(1.0 + alpha_x, alpha_y, turn), mask=mask)
    point = corners(x + u, y + v, height, width)
    miss_x = u + bilinear(other, point, width, 1, mask)
    miss_y = v + bilinear(other + area, point, width, 1, mask)
    tl.store(out + 2 * area, vector_length(miss_x, miss_y), mask=mask)


@triton.jit
@no_type_check
def _maps(flow, fitted, ordered, moments, maps, pushed, samples, times, height, width, most, contradicted, tiny):
    """Shift, power and travel of every instant, and what is pushed: flows to both ends, trust, and a weight."""
    m, y, x, mask = tile(height, width)
    n, t = m // times, m % times
    area = height * width
    here = y * width + x
    share = tl.load(moments + t)
    share = tl.where(n < samples // 2, share, 1.0 - share)
    u, v = load(flow + n * 2 * area, y, x, width, 1, mask), load(flow + (n * 2 + 1) * area, y, x, width, 1, mask)
    fitted += n * 3 * area + here
    log_size, turn = tl.load(fitted, mask=mask, other=0.0), tl.load(fitted + area, mask=mask, other=0.0)
    size = tl.exp(log_size)
    alpha_x, alpha_y = size * tl.cos(turn) - 1.0, size * tl.sin(turn)
    size = tl.exp(share * log_size)
    power_x, power_y = size * tl.cos(share * turn), size * tl.sin(share * turn)
    square = alpha_x * alpha_x + alpha_y * alpha_y
    flat = square < tiny * tiny
    safe = tl.where(flat, 1.0, square)
    ratio_x = ((power_x - 1.0) * alpha_x + power_y * alpha_y) / safe
    ratio_y = (power_y * alpha_x - (power_x - 1.0) * alpha_y) / safe
    slope = 0.5 * share * (share - 1.0)
    ratio_x = tl.where(flat, share + slope * alpha_x, ratio_x)
    ratio_y = tl.where(flat, slope * alpha_y, ratio_y)
    shift_x, shift_y = ratio_x * u - ratio_y * v, ratio_x * v + ratio_y * u
    maps += m * 6 * area + here
    store_pair(maps, area, shift_x, shift_y, mask)
    store_pair(maps + 2 * area, area, power_x, power_y, mask)
    store_pair(maps + 4 * area, area, u, v, mask)
    middle = n * 2 * area + area // 2
    apart = tl.minimum(vector_length(u - tl.load(ordered + middle), v - tl.load(ordered + middle + area)), most)
    missed = tl.minimum(tl.load(fitted + 2 * area, mask=mask, other=0.0), most)
    # No weight is above 1, and none vanishes: both lengths are bounded.
    weight, trust = tl.exp(apart - contradicted * missed - most), tl.exp(-missed)
    pushed += m * 6 * area + here
    store_pair(pushed, area, -shift_x, -shift_y, mask)
    store_pair(pushed + 2 * area, area, u - shift_x, v - shift_y, mask)
    store_pair(pushed + 4 * area, area, trust / weight, weight, mask)


@triton.jit
@no_type_check
def _search(maps, x, y, at_x, at_y, height, width, mask):
    """Flows to this end and to the other one, by Newton's iteration."""
    area = height * width
    for _ in range(3):
        point = corners(x + at_x, y + at_y, height, width)
        error_x = at_x + bilinear(maps, point, width, 1, mask)
        error_y = at_y + bilinear(maps + area, point, width, 1, mask)
        slope_x = bilinear(maps + 2 * area, point, width, 1, mask)
        slope_y = bilinear(maps + 3 * area, point, width, 1, mask)
        square = tl.maximum(slope_x * slope_x + slope_y * slope_y, 0.0625)
        at_x -= (error_x * slope_x + error_y * slope_y) / square
        at_y -= (error_y * slope_x - error_x * slope_y) / square
    point = corners(x + at_x, y + at_y, height, width)
    beyond_x = at_x + bilinear(maps + 4 * area, point, width, 1, mask)
    beyond_y = at_y + bilinear(maps + 5 * area, point, width, 1, mask)
    return at_x, at_y, beyond_x, beyond_y


@triton.jit
@no_type_check
def _candidate(out, area, last, here_x, here_y, there_x, there_y, limit, mask):
    """Store flows to this end and to the other one, the flow to the first end first."""
    here_x, here_y = tl.minimum(tl.maximum(here_x, -limit), limit), tl.minimum(tl.maximum(here_y, -limit), limit)
    there_x, there_y = tl.minimum(tl.maximum(there_x, -limit), limit), tl.minimum(tl.maximum(there_y, -limit), limit)
    store_pair(out + 2 * last * area, area, here_x, here_y, mask)
    store_pair(out + 2 * (1 - last) * area, area, there_x, there_y, mask)


@triton.jit
@no_type_check
def _solve(maps, arrived, flows, shares, pairs, times, height, width, near, limit):
    """Two candidates of each end: by search from the first guess, and what arrives, made exact."""
    m, y, x, mask = tile(height, width)
    area = height * width
    here = y * width + x
    maps += m * 6 * area
    last = m // (pairs * times)
    out = m % (pairs * times)
    shift_x, shift_y = load(maps, y, x, width, 1, mask), load(maps + area, y, x, width, 1, mask)
    power_x = tl.load(maps + 2 * area + here, mask=mask, other=1.0)
    power_y = tl.load(maps + 3 * area + here, mask=mask, other=0.0)
    square = power_x * power_x + power_y * power_y
    guess_x = -(shift_x * power_x + shift_y * power_y) / square
    guess_y = -(shift_y * power_x - shift_x * power_y) / square
    at_x, at_y, beyond_x, beyond_y = _search(maps, x, y, guess_x, guess_y, height, width, mask)
    flows += out * 16 * area + here
    _candidate(flows + last * 4 * area, area, last, at_x, at_y, beyond_x, beyond_y, limit, mask)
    arrived += m * 6 * area + here
    total = tl.load(arrived + 5 * area, mask=mask, other=0.0)
    hit = total > 1.2e-38
    total = tl.where(hit, total, 1.0)
    here_x = tl.where(hit, tl.load(arrived, mask=mask, other=0.0) / total, 0.0)
    here_y = tl.where(hit, tl.load(arrived + area, mask=mask, other=0.0) / total, 0.0)
    there_x = tl.load(arrived + 2 * area, mask=mask, other=0.0) / total
    there_y = tl.load(arrived + 3 * area, mask=mask, other=0.0) / total
    start_x, start_y = tl.where(hit, here_x, guess_x), tl.where(hit, here_y, guess_y)
    at_x, at_y, beyond_x, beyond_y = _search(maps, x, y, start_x, start_y, height, width, mask)
    exact = ((at_x - here_x) * (at_x - here_x) + (at_y - here_y) * (at_y - here_y) < near * near) | (hit == 0)
    here_x, here_y = tl.where(exact, at_x, here_x), tl.where(exact, at_y, here_y)
    there_x, there_y = tl.where(exact, beyond_x, there_x), tl.where(exact, beyond_y, there_y)
    _candidate(flows + (2 + last) * 4 * area, area, last, here_x, here_y, there_x, there_y, limit, mask)
    share = tl.load(arrived + 4 * area, mask=mask, other=0.0)
    tl.store(shares + (out * 2 + last) * area + here, tl.minimum(share, 1.0), mask=mask)


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
    ordered = both.flatten(2).sort(-1).values
    fitted, maps, pushed = (both.new_empty((m, c, h, w)) for m, c in ((n, 3), (n * t, 6), (n * t, 6)))
    flows, shares = both.new_empty((n // 2, t, 4, 4, h, w)), both.new_empty((n // 2, t, 2, h, w))
    _fit[launch_grid(n, h, w)](both, fitted, n, h, w, *sizes, turn, RADIUS=radius)
    arguments = (both, fitted, ordered, times, maps, pushed, n, t, h, w, most, contradicted, tiny)
    _maps[launch_grid(n * t, h, w)](*arguments)
    arrived = added(pushed[:, :5], maps[:, :2], pushed[:, 5:], None)
    limit = 2.0 * (h + w)
    _solve[launch_grid(n * t, h, w)](maps, arrived, flows, shares, n // 2, t, h, w, near, limit)
    return flows, shares
