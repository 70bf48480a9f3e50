# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Maps adapted to what a pair shows, on CUDA: the kernels of `rdvfi.render.base.adapted_maps`.

Three passes over the small grid, since windows of means lie between them: both frames in one light and
smoothed; how far they are apart at rest and along the motion; and the maps themselves.
"""

import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load_pair, tile, window_mean, zeros


@jit
def _smooth_frames(small0, small1, gain, out, height, width, HAS_GAIN: tl.constexpr):
    """Mean over 3x3 pixels of one channel of both frames, (b, 6), at their mean illumination."""
    n, y, x, mask = tile(height, width)
    b, c, area = n // 6, n % 6, height * width
    plane = (small0 if c < 3 else small1) + (b * 3 + c % 3) * area
    sign = 0.5 if c < 3 else -0.5
    total = zeros()
    count = total
    for j in tl.static_range(-1, 2):
        for i in tl.static_range(-1, 2):
            tap_mask = mask & (y + j >= 0) & (y + j < height) & (x + i >= 0) & (x + i < width)
            tap_offsets = (y + j) * width + x + i
            value = tl.load(plane + tap_offsets, mask=tap_mask, other=0.0)
            if HAS_GAIN:
                value = value * tl.exp(sign * tl.load(gain + b * area + tap_offsets, mask=tap_mask, other=0.0))
            total += value
            count += tap_mask.to(tl.float32)
    tl.store(out + n * area + y * width + x, total / tl.maximum(count, 1.0), mask=mask)


@jit
def _frame_differences(smoothed, flow0, flow1, out, num_times, height, width):
    """Mean absolute difference of both frames at every pixel of a new frame: without motion, and along its flows."""
    n, y, x, mask = tile(height, width)
    area, offsets = height * width, y * width + x
    planes = smoothed + n // num_times * 6 * area
    flow0 += n * 2 * area + offsets
    flow1 += n * 2 * area + offsets
    dx0, dy0 = load_pair(flow0, area, mask)
    dx1, dy1 = load_pair(flow1, area, mask)
    point0 = corners(x + dx0, y + dy0, height, width)
    point1 = corners(x + dx1, y + dy1, height, width)
    static_difference = zeros()
    warped_difference = static_difference
    for c in tl.static_range(3):
        plane0, plane1 = planes + c * area, planes + (3 + c) * area
        static_difference += tl.abs(
            tl.load(plane0 + offsets, mask=mask, other=0.0) - tl.load(plane1 + offsets, mask=mask, other=0.0)
        )
        warped = bilinear(plane0, point0, width, 1, mask)
        warped_difference += tl.abs(warped - bilinear(plane1, point1, width, 1, mask))
    tl.store(out + n * 2 * area + offsets, static_difference * (1.0 / 3.0), mask=mask)
    tl.store(out + (n * 2 + 1) * area + offsets, warped_difference * (1.0 / 3.0), mask=mask)


@jit
def _adapt_maps(
    small0, small1, gain, differences, flow0, flow1, blend, residual, times, weights, out, num_times, height, width,
    max_static_motion, difference_slack, HAS_GAIN: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    """The maps of one new frame; static regions are found by means over windows of side ``WINDOW``."""
    n, y, x, mask = tile(height, width)
    b, area, offsets = n // num_times, height * width, y * width + x
    static_difference = window_mean(differences + n * 2 * area, y, x, height, width, mask, WINDOW)
    warped_difference = window_mean(differences + (n * 2 + 1) * area, y, x, height, width, mask, WINDOW)
    flow0 += n * 2 * area + offsets
    flow1 += n * 2 * area + offsets
    dx0, dy0 = load_pair(flow0, area, mask)
    dx1, dy1 = load_pair(flow1, area, mask)
    length = tl.sqrt(tl.maximum(tl.maximum(dx0 * dx0 + dy0 * dy0, dx1 * dx1 + dy1 * dy1), 1e-24))
    is_static = (length < max_static_motion) & (static_difference <= warped_difference + difference_slack)
    dynamic = tl.where(is_static, 0.0, 1.0)
    dx0, dy0, dx1, dy1 = dynamic * dx0, dynamic * dy0, dynamic * dx1, dynamic * dy1
    t, weight = tl.load(times + n % num_times), tl.load(weights + b)
    blend0 = tl.load(blend + n * area + offsets, mask=mask, other=0.0)
    out += n * 8 * area + offsets
    tl.store(out, weight * dx0, mask=mask)
    tl.store(out + area, weight * dy0, mask=mask)
    tl.store(out + 2 * area, weight * dx1, mask=mask)
    tl.store(out + 3 * area, weight * dy1, mask=mask)
    tl.store(out + 4 * area, (1.0 - t) + weight * (blend0 - (1.0 - t)), mask=mask)
    if HAS_GAIN:
        log_gain = tl.load(gain + b * area + offsets, mask=mask, other=0.0)
        brightness0, brightness1 = tl.exp(-0.5 * log_gain), tl.exp(0.5 * log_gain)
        brightness = brightness0 + t * (brightness1 - brightness0)
        point0 = corners(x + dx0, y + dy0, height, width)
        point1 = corners(x + dx1, y + dy1, height, width)
    for c in tl.static_range(3):
        colour = dynamic * tl.load(residual + (n * 3 + c) * area + offsets, mask=mask, other=0.0)
        if HAS_GAIN:
            warped0 = bilinear(small0 + (b * 3 + c) * area, point0, width, 1, mask)
            warped1 = bilinear(small1 + (b * 3 + c) * area, point1, width, 1, mask)
            colour = brightness * colour + blend0 * (brightness / brightness0 - 1.0) * warped0
            colour += (1.0 - blend0) * (brightness / brightness1 - 1.0) * warped1
        tl.store(out + (5 + c) * area, weight * colour, mask=mask)


@jit
def _blend_shares(confidence, times, out, num_times, height, width, floor):
    """See `rdvfi.render.base.blend_shares`."""
    n, y, x, mask = tile(height, width)
    area, offsets = height * width, y * width + x
    t = tl.load(times + n % num_times)
    confidence += n * 2 * area + offsets
    first = (1.0 - t) * (tl.load(confidence, mask=mask, other=1.0) + floor)
    last = t * (tl.load(confidence + area, mask=mask, other=1.0) + floor)
    tl.store(out + n * area + offsets, first / (first + last), mask=mask)


def blend_shares(confidence: Tensor, times: Tensor, floor: float) -> Tensor:
    """See `rdvfi.render.base.blend_shares`."""
    b, t, _, h, w = confidence.shape
    confidence, out = confidence.float().contiguous(), confidence.new_empty((b, t, 1, h, w))
    _blend_shares[launch_grid(b * t, h, w)](confidence, times.float().contiguous(), out, t, h, w, floor)
    return out


def adapted_maps(
    small0: Tensor,
    small1: Tensor,
    gain: Tensor | None,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    times: Tensor,
    weight: Tensor,
    *,
    slow: float,
    slack: float,
    window: int,
) -> Tensor:
    """See `rdvfi.render.base.adapted_maps`."""
    b, t, _, h, w = flow0.shape
    maps = [x.float().contiguous() for x in (flow0, flow1, mask, residual)]
    small = [x.float().contiguous() for x in (small0, small1, small0 if gain is None else gain)]
    times, weight = times.float().contiguous(), weight.float().contiguous()
    out = maps[0].new_empty((b, t, 8, h, w))
    smoothed, differences = out.new_empty((b, 6, h, w)), out.new_empty((b, t, 2, h, w))
    has_gain = gain is not None
    arguments = [*small, smoothed, h, w]
    _smooth_frames[launch_grid(b * 6, h, w)](*arguments, HAS_GAIN=has_gain)
    arguments = [smoothed, *maps[:2], differences, t, h, w]
    _frame_differences[launch_grid(b * t, h, w)](*arguments)
    arguments = [*small, differences, *maps, times, weight, out, t, h, w, slow, slack]
    _adapt_maps[launch_grid(b * t, h, w)](*arguments, HAS_GAIN=has_gain, WINDOW=window)
    return out
