# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Changes of light, and what changed at all, on CUDA: the kernels of `rdvfi.content.illumination` and `partial_cuts`.

Four launches each, where 45 and 50 small ones were. Wide windows, a sixth of the width, take a pass per
dimension: 37 taps of 7 values, then of 3. Grids are those of a trajectory, 224x128: 115 kB a map; floor 40
bytes a pixel read and 4 written. Sums over a picture are made by one program instance, 28,672 values.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import launch_grid, load, reduce_sum, store_pair, tile, window_mean, zeros


@jit
def _linear_ramp(x, low, high):
    return tl.minimum(tl.maximum((x - low) / (high - low), 0.0), 1.0)


@jit
def _grey(image, y, x, width, area, mask):
    total = load(image, y, x, width, 1, mask) + load(image + area, y, x, width, 1, mask)
    return (total + load(image + 2 * area, y, x, width, 1, mask)) / 3.0


@jit
def _row_means(first, last, trust, out, height, width, window):
    """Means along rows of both pictures' brightness times trust, and of trust."""
    n, y, x, mask = tile(height, width)
    area = height * width
    first, last, trust = first + n * 3 * area, last + n * 3 * area, trust + n * area
    trust_sum = zeros()
    sum0, sum1, count = trust_sum, trust_sum, trust_sum
    for k in range(window):
        column = x + k - window // 2
        tap_mask = mask & (column >= 0) & (column < width)
        weight = load(trust, y, column, width, 1, tap_mask)
        sum0 += weight * _grey(first, y, column, width, area, tap_mask)
        sum1 += weight * _grey(last, y, column, width, area, tap_mask)
        trust_sum += weight
        count += tl.where(tap_mask, 1.0, 0.0)
    count = tl.maximum(count, 1.0)
    out += n * 3 * area + y * width + x
    store_pair(out, area, sum0 / count, sum1 / count, mask)
    tl.store(out + 2 * area, trust_sum / count, mask=mask)


@jit
def _log_gain(means, out, height, width, window, floor, prior, low, high):
    """Local log gain; small gains are attenuated."""
    n, y, x, mask = tile(height, width)
    area = height * width
    means += n * 3 * area
    trust = zeros()
    mean0, mean1, count = trust, trust, trust
    for k in range(window):
        row = y + k - window // 2
        tap_mask = mask & (row >= 0) & (row < height)
        mean0 += load(means, row, x, width, 1, tap_mask)
        mean1 += load(means + area, row, x, width, 1, tap_mask)
        trust += load(means + 2 * area, row, x, width, 1, tap_mask)
        count += tl.where(tap_mask, 1.0, 0.0)
    count = tl.maximum(count, 1.0)
    mean0, mean1, trust = mean0 / count, mean1 / count, trust / count
    gain = tl.log(tl.maximum((mean1 + floor * trust) / tl.maximum(mean0 + floor * trust, 1e-6), 1e-30))
    gain *= (1.0 + prior) * trust / (trust + prior)
    certainty = _linear_ramp(tl.abs(gain), low, high)
    tl.store(out + n * area + y * width + x, gain * certainty * certainty * (3.0 - 2.0 * certainty), mask=mask)


@jit
def _mean_absolute(maps, out, area, BLOCK_SIZE: tl.constexpr):
    """Mean absolute value of each plane."""
    n = tl.program_id(0).to(tl.int64)
    offsets = tl.arange(0, BLOCK_SIZE)
    total = tl.full((BLOCK_SIZE,), 0.0, tl.float32)
    for start in range(0, area, BLOCK_SIZE):
        total += tl.abs(tl.load(maps + n * area + start + offsets, mask=start + offsets < area, other=0.0))
    tl.store(out + n, reduce_sum(total, 0) / area)


@jit
def _suppress_weak_gain(gain, mean_gains, out, area, low, high, BLOCK_SIZE: tl.constexpr):
    """Gains, attenuated in images whose mean absolute gain is small."""
    n = tl.program_id(1).to(tl.int64)
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    value = tl.load(gain + n * area + offsets, mask=offsets < area, other=0.0)
    tl.store(out + n * area + offsets, value * _linear_ramp(tl.load(mean_gains + n), low, high), mask=offsets < area)


def light_gain(
    warped0: Tensor,
    warped1: Tensor,
    trust: Tensor,
    window: int,
    *,
    floor: float,
    prior: float,
    certain: tuple[float, float],
    seen: tuple[float, float],
) -> Tensor:
    """See `rdvfi.content.illumination.find_illumination_change`."""
    inputs = [x.float().contiguous() for x in (warped0, warped1, trust)]
    b, _, h, w = warped0.shape
    means = inputs[0].new_empty((b, 3, h, w))
    gain = inputs[0].new_empty((b, 1, h, w))
    mean_gains = inputs[0].new_empty(b)
    out, grid = torch.empty_like(gain), launch_grid(b, h, w)
    arguments = [*inputs, means, h, w, window]
    _row_means[grid](*arguments)
    _log_gain[grid](means, gain, h, w, window, floor, prior, *certain)
    _mean_absolute[b,](gain, mean_gains, h * w, BLOCK_SIZE=1024)
    _suppress_weak_gain[-(-h * w // 1024), b](gain, mean_gains, out, h * w, *seen, BLOCK_SIZE=1024)
    return out


@jit
def _compensated_difference(first, last, y, x, width, area, scale, mask):
    """Mean absolute difference of two images at their mean illumination."""
    total = 0.0 * scale
    for c in tl.static_range(3):
        plane0, plane1 = first + c * area, last + c * area
        total += tl.abs(load(plane0, y, x, width, 1, mask) * scale - load(plane1, y, x, width, 1, mask) / scale)
    return total / 3.0


@jit
def _frame_differences(small0, small1, warped0, warped1, gain, out, height, width):
    """Differences of the frames before and after warping."""
    n, y, x, mask = tile(height, width)
    area = height * width
    scale = tl.exp(0.5 * load(gain + n * area, y, x, width, 1, mask))
    before = _compensated_difference(small0 + n * 3 * area, small1 + n * 3 * area, y, x, width, area, scale, mask)
    after = _compensated_difference(warped0 + n * 3 * area, warped1 + n * 3 * area, y, x, width, area, scale, mask)
    store_pair(out + n * 2 * area + y * width + x, area, before, after, mask)


@jit
def _change_maps(differences, trust, out, height, width, low, high, WINDOW: tl.constexpr):
    """The change mask, and its products with the differences after and before warping and with trust."""
    n, y, x, mask = tile(height, width)
    area = height * width
    differences += n * 2 * area
    before = window_mean(differences, y, x, height, width, mask, WINDOW)
    after = window_mean(differences + area, y, x, height, width, mask, WINDOW)
    changed = _linear_ramp(before, low, high)
    out += n * 4 * area + y * width + x
    store_pair(out, area, changed, after * changed, mask)
    store_pair(out + 2 * area, area, before * changed, changed * load(trust + n * area, y, x, width, 1, mask), mask)


@jit
def _explained_share(
    means, out, samples, area, few_changed, many_changed, low_unexplained, high_unexplained, low_trust, high_trust,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Share of the change that the motion explains, from means over each image."""
    n = tl.arange(0, BLOCK_SIZE)
    mask = n < samples
    changed = tl.load(means + 4 * n, mask=mask, other=0.0)
    unexplained = tl.load(means + 4 * n + 1, mask=mask, other=0.0) * area
    unexplained /= tl.maximum(tl.load(means + 4 * n + 2, mask=mask, other=0.0) * area, 1e-6)
    trusted_share = tl.load(means + 4 * n + 3, mask=mask, other=0.0) * area / tl.maximum(changed * area, 1.0)
    unexplained_change = _linear_ramp(unexplained, low_unexplained, high_unexplained) * (
        1.0 - _linear_ramp(trusted_share, low_trust, high_trust)
    )
    tl.store(out + n, 1.0 - unexplained_change * _linear_ramp(changed, few_changed, many_changed), mask=mask)


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
    inputs = [x.float().contiguous() for x in (small0, small1, warped0, warped1, gain)]
    (b, _, h, w), trust = small0.shape, trust.float().contiguous()
    differences, maps, means = (inputs[0].new_empty(s) for s in ((b, 2, h, w), (b, 4, h, w), (b, 4)))
    out, grid = inputs[0].new_empty(b), launch_grid(b, h, w)
    arguments = [*inputs, differences, h, w]
    _frame_differences[grid](*arguments)
    _change_maps[grid](differences, trust, maps, h, w, *changed, WINDOW=side)
    _mean_absolute[4 * b,](maps, means, h * w, BLOCK_SIZE=1024)
    block_size = triton.next_power_of_2(b)
    _explained_share[1,](means, out, b, h * w, *share, *unexplained, *certain, BLOCK_SIZE=block_size)
    return out
