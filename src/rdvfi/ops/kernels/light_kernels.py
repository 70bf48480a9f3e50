"""Changes of light, and what changed at all, on CUDA: the kernels of `rdvfi.content.illumination` and `partial_cuts`.

Four launches each, where 45 and 50 small ones were. Wide windows, a sixth of the width, take a pass per
dimension: 37 taps of 7 values, then of 3. Grids are those of a trajectory, 224x128: 115 kB a map; floor 40
bytes a pixel read and 4 written. Sums over a picture are made by one program instance, 28,672 values.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import launch_grid, load, reduce_sum, store_pair, tile, window_mean, zeros


@triton.jit
@no_type_check
def _ramp(x, low, high):
    return tl.minimum(tl.maximum((x - low) / (high - low), 0.0), 1.0)


@triton.jit
@no_type_check
def _grey(image, y, x, width, area, mask):
    total = load(image, y, x, width, 1, mask) + load(image + area, y, x, width, 1, mask)
    return (total + load(image + 2 * area, y, x, width, 1, mask)) / 3.0


@triton.jit
@no_type_check
def _rows(first, last, trust, out, height, width, side):
    """Means along rows of both pictures' brightness times trust, and of trust."""
    n, y, x, mask = tile(height, width)
    area = height * width
    first, last, trust = first + n * 3 * area, last + n * 3 * area, trust + n * area
    total = zeros()
    m0, m1, count = total, total, total
    for k in range(side):
        column = x + k - side // 2
        there = mask & (column >= 0) & (column < width)
        weight = load(trust, y, column, width, 1, there)
        m0 += weight * _grey(first, y, column, width, area, there)
        m1 += weight * _grey(last, y, column, width, area, there)
        total += weight
        count += tl.where(there, 1.0, 0.0)
    count = tl.maximum(count, 1.0)
    out += n * 3 * area + y * width + x
    store_pair(out, area, m0 / count, m1 / count, mask)
    tl.store(out + 2 * area, total / count, mask=mask)


@triton.jit
@no_type_check
def _gain(means, out, height, width, side, floor, prior, none, certain):
    """Logarithm of the local gain, of which small ones count little."""
    n, y, x, mask = tile(height, width)
    area = height * width
    means += n * 3 * area
    share = zeros()
    m0, m1, count = share, share, share
    for k in range(side):
        row = y + k - side // 2
        there = mask & (row >= 0) & (row < height)
        m0 += load(means, row, x, width, 1, there)
        m1 += load(means + area, row, x, width, 1, there)
        share += load(means + 2 * area, row, x, width, 1, there)
        count += tl.where(there, 1.0, 0.0)
    count = tl.maximum(count, 1.0)
    m0, m1, share = m0 / count, m1 / count, share / count
    gain = tl.log(tl.maximum((m1 + floor * share) / tl.maximum(m0 + floor * share, 1e-6), 1e-30))
    gain *= (1.0 + prior) * share / (share + prior)
    sure = _ramp(tl.abs(gain), none, certain)
    tl.store(out + n * area + y * width + x, gain * sure * sure * (3.0 - 2.0 * sure), mask=mask)


@triton.jit
@no_type_check
def _mean_size(maps, out, area, BLOCK: tl.constexpr):
    """Mean size of the values of each plane."""
    n = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for start in range(0, area, BLOCK):
        total += tl.abs(tl.load(maps + n * area + start + lane, mask=start + lane < area, other=0.0))
    tl.store(out + n, reduce_sum(total, 0) / area)


@triton.jit
@no_type_check
def _seen(gain, sizes, out, area, low, high, BLOCK: tl.constexpr):
    """Gains of pictures in which there is enough of it."""
    n = tl.program_id(1).to(tl.int64)
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(gain + n * area + lane, mask=lane < area, other=0.0)
    tl.store(out + n * area + lane, value * _ramp(tl.load(sizes + n), low, high), mask=lane < area)


def light_gain(
    warped0: Tensor,
    warped1: Tensor,
    trust: Tensor,
    side: int,
    *,
    floor: float,
    prior: float,
    certain: tuple[float, float],
    seen: tuple[float, float],
) -> Tensor:
    """See `rdvfi.content.illumination.find_illumination_change`."""
    given = [x.float().contiguous() for x in (warped0, warped1, trust)]
    b, _, h, w = warped0.shape
    means, gain, sizes = given[0].new_empty((b, 3, h, w)), given[0].new_empty((b, 1, h, w)), given[0].new_empty(b)
    out, grid = torch.empty_like(gain), launch_grid(b, h, w)
    arguments = [*given, means, h, w, side]
    _rows[grid](*arguments)
    _gain[grid](means, gain, h, w, side, floor, prior, *certain)
    _mean_size[b,](gain, sizes, h * w, BLOCK=1024)
    _seen[-(-h * w // 1024), b](gain, sizes, out, h * w, *seen, BLOCK=1024)
    return out


@triton.jit
@no_type_check
def _apart(first, last, y, x, width, area, scale, mask):
    """Mean difference of two pictures in the light between them."""
    total = 0.0 * scale
    for c in tl.static_range(3):
        own, other = first + c * area, last + c * area
        total += tl.abs(load(own, y, x, width, 1, mask) * scale - load(other, y, x, width, 1, mask) / scale)
    return total / 3.0


@triton.jit
@no_type_check
def _differences(small0, small1, warped0, warped1, gain, out, height, width):
    """Differences of the frames before and after warping."""
    n, y, x, mask = tile(height, width)
    area = height * width
    scale = tl.exp(0.5 * load(gain + n * area, y, x, width, 1, mask))
    before = _apart(small0 + n * 3 * area, small1 + n * 3 * area, y, x, width, area, scale, mask)
    after = _apart(warped0 + n * 3 * area, warped1 + n * 3 * area, y, x, width, area, scale, mask)
    store_pair(out + n * 2 * area + y * width + x, area, before, after, mask)


@triton.jit
@no_type_check
def _changes(differences, trust, out, height, width, low, high, SIDE: tl.constexpr):
    """Where it changed, and times that: what is left, what was there, and trust."""
    n, y, x, mask = tile(height, width)
    area = height * width
    differences += n * 2 * area
    before = window_mean(differences, y, x, height, width, mask, SIDE)
    after = window_mean(differences + area, y, x, height, width, mask, SIDE)
    changed = _ramp(before, low, high)
    out += n * 4 * area + y * width + x
    store_pair(out, area, changed, after * changed, mask)
    store_pair(out + 2 * area, area, before * changed, changed * load(trust + n * area, y, x, width, 1, mask), mask)


@triton.jit
@no_type_check
def _explained(means, out, samples, area, some, much, kept, lost, doubted, trusted, BLOCK: tl.constexpr):
    """Whether the motion explains what changed, by the means over each picture."""
    n = tl.arange(0, BLOCK)
    there = n < samples
    changed = tl.load(means + 4 * n, mask=there, other=0.0)
    left = tl.load(means + 4 * n + 1, mask=there, other=0.0) * area
    left /= tl.maximum(tl.load(means + 4 * n + 2, mask=there, other=0.0) * area, 1e-6)
    certain = tl.load(means + 4 * n + 3, mask=there, other=0.0) * area / tl.maximum(changed * area, 1.0)
    doubtful = _ramp(left, kept, lost) * (1.0 - _ramp(certain, doubted, trusted))
    tl.store(out + n, 1.0 - doubtful * _ramp(changed, some, much), mask=there)


def explained(
    small0: Tensor,
    small1: Tensor,
    warped0: Tensor,
    warped1: Tensor,
    gain: Tensor,
    trust: Tensor,
    *,
    changed: tuple[float, float],
    share: tuple[float, float],
    unexplained: tuple[float, float],
    certain: tuple[float, float],
    side: int,
) -> Tensor:
    """See `rdvfi.content.partial_cuts.explained_change`."""
    given = [x.float().contiguous() for x in (small0, small1, warped0, warped1, gain)]
    (b, _, h, w), trust = small0.shape, trust.float().contiguous()
    differences, maps, means = (given[0].new_empty(s) for s in ((b, 2, h, w), (b, 4, h, w), (b, 4)))
    out, grid = given[0].new_empty(b), launch_grid(b, h, w)
    arguments = [*given, differences, h, w]
    _differences[grid](*arguments)
    _changes[grid](differences, trust, maps, h, w, *changed, SIDE=side)
    _mean_size[4 * b,](maps, means, h * w, BLOCK=1024)
    block = triton.next_power_of_2(b)
    _explained[1,](means, out, b, h * w, *share, *unexplained, *certain, BLOCK=block)
    return out
