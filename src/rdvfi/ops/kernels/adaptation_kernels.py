"""Maps adapted to what a pair shows, on CUDA: the kernels of `rdvfi.render.base.adapted_maps`.

Three passes over the small grid, since windows of means lie between them: both frames in one light and
smoothed; how far they are apart at rest and along the motion; and the maps themselves.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, tile, window_mean, zeros


@triton.jit
@no_type_check
def _smoothed(small0, small1, gain, out, height, width, LIT: tl.constexpr):
    """Means over three by three pixels of one channel of both frames (b, 6), in the light between them."""
    n, y, x, mask = tile(height, width)
    b, c, area = n // 6, n % 6, height * width
    plane = (small0 if c < 3 else small1) + (b * 3 + c % 3) * area
    sign = 0.5 if c < 3 else -0.5
    total = zeros()
    count = total
    for j in tl.static_range(-1, 2):
        for i in tl.static_range(-1, 2):
            there = mask & (y + j >= 0) & (y + j < height) & (x + i >= 0) & (x + i < width)
            at = (y + j) * width + x + i
            value = tl.load(plane + at, mask=there, other=0.0)
            if LIT:
                value = value * tl.exp(sign * tl.load(gain + b * area + at, mask=there, other=0.0))
            total += value
            count += there.to(tl.float32)
    tl.store(out + n * area + y * width + x, total / tl.maximum(count, 1.0), mask=mask)


@triton.jit
@no_type_check
def _apart(smooth, flow0, flow1, out, times, height, width):
    """How far both frames are apart at every pixel of a new one: at rest, and along its flows."""
    n, y, x, mask = tile(height, width)
    area, here = height * width, y * width + x
    first = smooth + n // times * 6 * area
    flow0 += n * 2 * area + here
    flow1 += n * 2 * area + here
    dx0, dy0 = tl.load(flow0, mask=mask, other=0.0), tl.load(flow0 + area, mask=mask, other=0.0)
    dx1, dy1 = tl.load(flow1, mask=mask, other=0.0), tl.load(flow1 + area, mask=mask, other=0.0)
    point0 = corners(x + dx0, y + dy0, height, width)
    point1 = corners(x + dx1, y + dy1, height, width)
    resting = zeros()
    moving = resting
    for c in tl.static_range(3):
        one, two = first + c * area, first + (3 + c) * area
        resting += tl.abs(tl.load(one + here, mask=mask, other=0.0) - tl.load(two + here, mask=mask, other=0.0))
        warped = bilinear(one, point0, width, 1, mask)
        moving += tl.abs(warped - bilinear(two, point1, width, 1, mask))
    tl.store(out + n * 2 * area + here, resting * (1.0 / 3.0), mask=mask)
    tl.store(out + (n * 2 + 1) * area + here, moving * (1.0 / 3.0), mask=mask)


@triton.jit
@no_type_check
def _adapted(
    small0, small1, gain, apart, flow0, flow1, mask, residual, moments, weight, out, times, height, width, slow, slack,
    LIT: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """The maps of one new frame; ``SIDE`` is that of the window in which rest is seen."""
    n, y, x, inside = tile(height, width)
    b, area, here = n // times, height * width, y * width + x
    resting = window_mean(apart + n * 2 * area, y, x, height, width, inside, SIDE)
    moving = window_mean(apart + (n * 2 + 1) * area, y, x, height, width, inside, SIDE)
    flow0 += n * 2 * area + here
    flow1 += n * 2 * area + here
    dx0, dy0 = tl.load(flow0, mask=inside, other=0.0), tl.load(flow0 + area, mask=inside, other=0.0)
    dx1, dy1 = tl.load(flow1, mask=inside, other=0.0), tl.load(flow1 + area, mask=inside, other=0.0)
    length = tl.sqrt(tl.maximum(tl.maximum(dx0 * dx0 + dy0 * dy0, dx1 * dx1 + dy1 * dy1), 1e-24))
    rests = (length < slow) & (resting <= moving + slack)
    moves = tl.where(rests, 0.0, 1.0)
    dx0, dy0, dx1, dy1 = moves * dx0, moves * dy0, moves * dx1, moves * dy1
    t, part = tl.load(moments + n % times), tl.load(weight + b)
    share = tl.load(mask + n * area + here, mask=inside, other=0.0)
    out += n * 8 * area + here
    tl.store(out, part * dx0, mask=inside)
    tl.store(out + area, part * dy0, mask=inside)
    tl.store(out + 2 * area, part * dx1, mask=inside)
    tl.store(out + 3 * area, part * dy1, mask=inside)
    tl.store(out + 4 * area, (1.0 - t) + part * (share - (1.0 - t)), mask=inside)
    if LIT:
        light = tl.load(gain + b * area + here, mask=inside, other=0.0)
        start, end = tl.exp(-0.5 * light), tl.exp(0.5 * light)
        now = start + t * (end - start)
        point0 = corners(x + dx0, y + dy0, height, width)
        point1 = corners(x + dx1, y + dy1, height, width)
    for c in tl.static_range(3):
        colour = moves * tl.load(residual + (n * 3 + c) * area + here, mask=inside, other=0.0)
        if LIT:
            one = bilinear(small0 + (b * 3 + c) * area, point0, width, 1, inside)
            two = bilinear(small1 + (b * 3 + c) * area, point1, width, 1, inside)
            colour = now * colour + share * (now / start - 1.0) * one + (1.0 - share) * (now / end - 1.0) * two
        tl.store(out + (5 + c) * area, part * colour, mask=inside)


@triton.jit
@no_type_check
def _shares(confidence, moments, out, times, height, width, floor):
    """See `rdvfi.render.base.blend_shares`."""
    n, y, x, mask = tile(height, width)
    area, here = height * width, y * width + x
    t = tl.load(moments + n % times)
    confidence += n * 2 * area + here
    first = (1.0 - t) * (tl.load(confidence, mask=mask, other=1.0) + floor)
    last = t * (tl.load(confidence + area, mask=mask, other=1.0) + floor)
    tl.store(out + n * area + here, first / (first + last), mask=mask)


def blend_shares(confidence: Tensor, times: Tensor, floor: float) -> Tensor:
    """See `rdvfi.render.base.blend_shares`."""
    b, t, _, h, w = confidence.shape
    confidence, out = confidence.float().contiguous(), confidence.new_empty((b, t, 1, h, w))
    _shares[launch_grid(b * t, h, w)](confidence, times.float().contiguous(), out, t, h, w, floor)
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
    moments, weight = times.float().contiguous(), weight.float().contiguous()
    out = maps[0].new_empty((b, t, 8, h, w))
    smooth, apart = out.new_empty((b, 6, h, w)), out.new_empty((b, t, 2, h, w))
    lit = gain is not None
    arguments = [*small, smooth, h, w]
    _smoothed[launch_grid(b * 6, h, w)](*arguments, LIT=lit)
    arguments = [smooth, *maps[:2], apart, t, h, w]
    _apart[launch_grid(b * t, h, w)](*arguments)
    arguments = [*small, apart, *maps, moments, weight, out, t, h, w, slow, slack]
    _adapted[launch_grid(b * t, h, w)](*arguments, LIT=lit, SIDE=window)
    return out
