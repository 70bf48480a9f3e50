"""What phi_s does between its convolutions, on CUDA: the kernels of `rdvfi.ops.refinement`.

Each reads its maps once and writes once; what the definitions hold in between (warped frames,
differences, resized and shuffled maps) stays in registers.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    coarse_corners,
    corners,
    launch_grid,
    load,
    tile,
    window_mean,
    zeros,
)

_INPUTS = 14
_BLOCK = 512


@triton.jit
@no_type_check
def _lean(mask, lean):
    first, last = mask * tl.exp(lean), (1.0 - mask) * tl.exp(-lean)
    return first / (first + last)


@triton.jit
@no_type_check
def _inputs(
    first, last, state, mask, times, gain, out, times_each, height, width, gain_height, gain_width, LIT: tl.constexpr
):
    """See `rdvfi.ops.refinement.stage_inputs`."""
    n, y, x, inside = tile(height, width)
    b, area = n // times_each, height * width
    here = y * width + x
    state += n * 8 * area + here
    t = tl.load(times + n)
    dx0, dy0 = tl.load(state, mask=inside, other=0.0), tl.load(state + area, mask=inside, other=0.0)
    dx1, dy1 = tl.load(state + 2 * area, mask=inside, other=0.0), tl.load(state + 3 * area, mask=inside, other=0.0)
    point0 = corners(x + dx0, y + dy0, height, width)
    point1 = corners(x + dx1, y + dy1, height, width)
    if LIT:
        gain_point = coarse_corners(y, x, height, width, gain_height, gain_width)
    out += n * 14 * area + here
    difference = zeros()
    for c in tl.static_range(3):
        one = bilinear(first + (b * 3 + c) * area, point0, width, 1, inside)
        two = bilinear(last + (b * 3 + c) * area, point1, width, 1, inside)
        if LIT:
            plane = gain + (n * 3 + c) * gain_height * gain_width
            light = bilinear(plane, gain_point, gain_width, 1, inside)
            one, two = one * tl.exp(t * light), two * tl.exp((t - 1.0) * light)
        difference += tl.abs(one - two)
        tl.store(out + c * area, one, mask=inside)
        tl.store(out + (3 + c) * area, two, mask=inside)
    tl.store(out + 6 * area, difference * (1.0 / 3.0), mask=inside)
    tl.store(out + 7 * area, 0.05 * dx0, mask=inside)
    tl.store(out + 8 * area, 0.05 * dy0, mask=inside)
    tl.store(out + 9 * area, 0.05 * dx1, mask=inside)
    tl.store(out + 10 * area, 0.05 * dy1, mask=inside)
    share = tl.load(mask + n * area + here, mask=inside, other=0.5)
    tl.store(out + 11 * area, _lean(share, tl.load(state + 4 * area, mask=inside, other=0.0)), mask=inside)
    nothing = zeros()
    tl.store(out + 12 * area, nothing + t * (1.0 - t), mask=inside)
    tl.store(out + 13 * area, nothing + (1.0 - 2.0 * t), mask=inside)


@triton.jit
@no_type_check
def _shuffled(answer, c, y, x, height, width, stride_c, stride_h, stride_w, mask):
    """Answers of a stage at twice its size: four channels of a pixel are four pixels."""
    at = answer + (c * 4 + y % 2 * 2 + x % 2) * stride_c
    return load(at, y // 2, x // 2, stride_h, stride_w, mask)


@triton.jit
@no_type_check
def _step(
    state, answer, room, mask, out, height, width, small_height, small_width, scale, answer_stride_b, answer_stride_c,
    answer_stride_h, answer_stride_w, LAST: tl.constexpr,
):  # fmt: skip
    """See `rdvfi.ops.refinement.stage_step`; the small size is that of the shuffled answers."""
    n, y, x, inside = tile(height, width)
    area, here = height * width, y * width + x
    state += n * 8 * area + here
    out += n * 8 * area + here
    answer += n * answer_stride_b
    allowed = tl.load(room + n * area + here, mask=inside, other=0.0)
    x0, y0, x1, y1, fx, fy = coarse_corners(y, x, height, width, small_height, small_width)
    for c in tl.static_range(8):
        before = tl.load(state + c * area, mask=inside, other=0.0)
        if c < 5 or LAST:
            a = _shuffled(
                answer, c, y0, x0, small_height, small_width, answer_stride_c, answer_stride_h, answer_stride_w, inside
            )
            b = _shuffled(
                answer, c, y0, x1, small_height, small_width, answer_stride_c, answer_stride_h, answer_stride_w, inside
            )
            d = _shuffled(
                answer, c, y1, x0, small_height, small_width, answer_stride_c, answer_stride_h, answer_stride_w, inside
            )
            e = _shuffled(
                answer, c, y1, x1, small_height, small_width, answer_stride_c, answer_stride_h, answer_stride_w, inside
            )
            a, d = a + fx * (b - a), d + fx * (e - d)
            value = allowed * (a + fy * (d - a))
            if c < 4:
                before += scale * value
            elif c == 4:
                before += value
                if LAST:
                    before = _lean(tl.load(mask + n * area + here, mask=inside, other=0.5), before)
            else:
                before = 0.1 * value
        tl.store(out + c * area, before, mask=inside)


@triton.jit
@no_type_check
def _room(difference, envelope, out, height, width, difference_stride_n, envelope_stride_n, fourth):
    """See `rdvfi.ops.refinement.correction_room`."""
    n, y, x, mask = tile(height, width)
    here = y * width + x
    rise = window_mean(difference + n * difference_stride_n, y, x, height, width, mask, 5)
    rise = rise * rise * rise * rise
    allowed = 4.0 * tl.load(envelope + n * envelope_stride_n + here, mask=mask, other=0.0) * (rise / (rise + fourth))
    tl.store(out + n * height * width + here, allowed, mask=mask)


@triton.jit
@no_type_check
def _tap(i, tap, sizes, scale):
    """Pixel ``tap`` under the triangle around pixel ``i`` of a resized axis, and its weight."""
    support = tl.maximum(scale, 1.0)
    centre = (i + 0.5) * scale
    start = tl.maximum((centre - support + 0.5).to(tl.int32), 0)
    end = tl.minimum((centre + support + 0.5).to(tl.int32), sizes)
    at = start + tap
    weight = tl.maximum(1.0 - tl.abs((at - centre + 0.5) / support), 0.0)
    return tl.minimum(at, sizes - 1), tl.where(at < end, weight, 0.0)


@triton.jit
@no_type_check
def _resized(plane, y, x, height, width, scale_y, scale_x, mask, TAPS: tl.constexpr):
    """A plane resized as by `torch.nn.functional.interpolate`: bilinear, averaging where it shrinks."""
    total, weights = x * 0.0, x * 0.0
    for j in range(TAPS):
        row, wy = _tap(y, j, height, scale_y)
        for i in range(TAPS):
            column, wx = _tap(x, i, width, scale_x)
            total += wy * wx * tl.load(plane + row * width + column, mask=mask, other=0.0)
            weights += wy * wx
    return total / weights


@triton.jit
@no_type_check
def _entry(
    inputs, latents, out, count, channels, height, width, latent_channels, latent_height, latent_width, rows, columns,
    BORDER: tl.constexpr, TAPS: tl.constexpr, LATENT_TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """See `rdvfi.ops.refinement.stage_entry`: one channel of ``BLOCK`` padded pixels of one frame."""
    total = 4 * channels + latent_channels
    n, c = tl.program_id(1).to(tl.int64) // total, tl.program_id(1) % total
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    x = tl.minimum(tl.maximum(index % (columns + 2 * BORDER) - BORDER, 0), columns - 1)
    y = tl.minimum(tl.maximum(index // (columns + 2 * BORDER) - BORDER, 0), rows - 1)
    if c < 4 * channels:
        plane = inputs + (n * channels + c // 4) * height * width
        y, x = 2 * y + c % 4 // 2, 2 * x + c % 2
        scale_y, scale_x = height * 0.5 / rows, width * 0.5 / columns
        value = _resized(plane, y, x, height, width, scale_y, scale_x, mask, TAPS)
    else:
        plane = latents + (n * latent_channels + c - 4 * channels) * latent_height * latent_width
        scale_y, scale_x = latent_height * 1.0 / rows, latent_width * 1.0 / columns
        value = _resized(plane, y, x, latent_height, latent_width, scale_y, scale_x, mask, LATENT_TAPS)
    # Channels lie side by side, as `torch.channels_last` has them.
    tl.store(out + (n * count + index) * total + c, value.to(out.dtype.element_ty), mask=mask)


def stage_inputs(
    first: Tensor, last: Tensor, state: Tensor, mask: Tensor, times: Tensor, gain: Tensor | None
) -> Tensor:
    """See `rdvfi.ops.refinement.stage_inputs`."""
    n, _, h, w = state.shape
    first, last, state, mask, times = (x.float().contiguous() for x in (first, last, state, mask, times))
    light = times[:, None, None] if gain is None else gain.float().contiguous()
    out = state.new_empty((n, _INPUTS, h, w))
    arguments = [first, last, state, mask, times, light, out, n // len(first), h, w, *light.shape[-2:]]
    _inputs[launch_grid(n, h, w)](*arguments, LIT=gain is not None)
    return out


def stage_step(state: Tensor, answer: Tensor, room: Tensor, mask: Tensor, scale: int, last: bool) -> Tensor:
    """See `rdvfi.ops.refinement.stage_step`."""
    n, _, h, w = state.shape
    state, room, mask = (x.float().contiguous() for x in (state, room, mask))
    small = (2 * answer.shape[-2], 2 * answer.shape[-1])
    out = torch.empty_like(state)
    arguments = [state, answer, room, mask, out, h, w, *small, scale, *answer.stride()]
    _step[launch_grid(n, h, w)](*arguments, LAST=last)
    return out


def correction_room(difference: Tensor, envelope: Tensor, agreement: float) -> Tensor:
    """See `rdvfi.ops.refinement.correction_room`."""
    n, _, h, w = difference.shape
    maps = [x if x.stride()[2:] == (w, 1) else x.contiguous() for x in (difference, envelope)]
    out = difference.new_empty((n, 1, h, w))
    arguments = [*maps, out, h, w, *(x.stride(0) for x in maps), agreement**4]
    _room[launch_grid(n, h, w)](*arguments)
    return out


def stage_entry(inputs: Tensor, latents: Tensor | None, scale: int, border: int, dtype: torch.dtype) -> Tensor:
    """See `rdvfi.ops.refinement.stage_entry`."""
    n, c, h, w = inputs.shape
    rows, columns = h // scale, w // scale
    more = inputs[:, :0] if latents is None else latents.float().contiguous()
    inputs = inputs.float().contiguous()
    shape = (n, 4 * c + more.shape[1], rows + 2 * border, columns + 2 * border)
    out = torch.empty(shape, dtype=dtype, device=inputs.device, memory_format=torch.channels_last)
    count = shape[2] * shape[3]
    arguments = [inputs, more, out, count, c, h, w, *more.shape[1:], rows, columns]
    _entry[(-(-count // _BLOCK), n * shape[1])](
        *arguments,
        BORDER=border,
        TAPS=_taps(h / (2 * rows), w / (2 * columns)),
        LATENT_TAPS=_taps(more.shape[2] / rows, more.shape[3] / columns),
        BLOCK=_BLOCK,
    )
    return out


def _taps(*scales: float) -> int:
    """Pixels that a triangle covers at most."""
    return 2 * -int(-max(1.0, *scales) // 1) + 1
