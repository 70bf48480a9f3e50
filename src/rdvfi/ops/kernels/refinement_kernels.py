# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""What phi_s does between its convolutions, on CUDA: the kernels of `rdvfi.ops.refinement`.

Each reads its maps once and writes once; what the definitions hold in between (warped frames,
differences, resized and shuffled maps) stays in registers.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import (
    bilinear,
    coarse_corners,
    corners,
    launch_grid,
    load,
    load_four,
    tile,
    window_mean,
    zeros,
)

_INPUT_CHANNELS = 14
_BLOCK_SIZE = 512


@jit
def _shift_blend(mask, half_shift):
    first, last = mask * tl.exp(half_shift), (1.0 - mask) * tl.exp(-half_shift)
    return first / (first + last)


@jit
def _stage_inputs(
    first, last, state, blend, times, gain, out, num_times, height, width, gain_height, gain_width,
    HAS_GAIN: tl.constexpr,
):  # fmt: skip
    """See `rdvfi.ops.refinement.stage_inputs`."""
    n, y, x, mask = tile(height, width)
    b, area = n // num_times, height * width
    offsets = y * width + x
    state += n * 8 * area + offsets
    t = tl.load(times + n)
    dx0, dy0, dx1, dy1 = load_four(state, area, mask)
    point0 = corners(x + dx0, y + dy0, height, width)
    point1 = corners(x + dx1, y + dy1, height, width)
    if HAS_GAIN:
        gain_point = coarse_corners(y, x, height, width, gain_height, gain_width)
    out += n * 14 * area + offsets
    difference = zeros()
    for c in tl.static_range(3):
        warped0 = bilinear(first + (b * 3 + c) * area, point0, width, 1, mask)
        warped1 = bilinear(last + (b * 3 + c) * area, point1, width, 1, mask)
        if HAS_GAIN:
            plane = gain + (n * 3 + c) * gain_height * gain_width
            log_gain = bilinear(plane, gain_point, gain_width, 1, mask)
            warped0, warped1 = warped0 * tl.exp(t * log_gain), warped1 * tl.exp((t - 1.0) * log_gain)
        difference += tl.abs(warped0 - warped1)
        tl.store(out + c * area, warped0, mask=mask)
        tl.store(out + (3 + c) * area, warped1, mask=mask)
    tl.store(out + 6 * area, difference * (1.0 / 3.0), mask=mask)
    tl.store(out + 7 * area, 0.05 * dx0, mask=mask)
    tl.store(out + 8 * area, 0.05 * dy0, mask=mask)
    tl.store(out + 9 * area, 0.05 * dx1, mask=mask)
    tl.store(out + 10 * area, 0.05 * dy1, mask=mask)
    blend0 = tl.load(blend + n * area + offsets, mask=mask, other=0.5)
    tl.store(out + 11 * area, _shift_blend(blend0, tl.load(state + 4 * area, mask=mask, other=0.0)), mask=mask)
    constant = zeros()
    tl.store(out + 12 * area, constant + t * (1.0 - t), mask=mask)
    tl.store(out + 13 * area, constant + (1.0 - 2.0 * t), mask=mask)


@jit
def _load_pixel_shuffled(output, c, y, x, height, width, stride_c, stride_h, stride_w, mask):
    """Pixel-shuffled outputs of a stage: four channels of a pixel are four pixels."""
    channel = output + (c * 4 + y % 2 * 2 + x % 2) * stride_c
    return load(channel, y // 2, x // 2, stride_h, stride_w, mask)


@jit
def _stage_step(
    state, output, room, blend, out, height, width, small_height, small_width, scale, stride_b, stride_c, stride_h,
    stride_w, LAST: tl.constexpr,
):  # fmt: skip
    """See `rdvfi.ops.refinement.stage_step`; the small size is that of the shuffled answers."""
    n, y, x, mask = tile(height, width)
    area, offsets = height * width, y * width + x
    state += n * 8 * area + offsets
    out += n * 8 * area + offsets
    output += n * stride_b
    scale_limit = tl.load(room + n * area + offsets, mask=mask, other=0.0)
    x0, y0, x1, y1, fx, fy = coarse_corners(y, x, height, width, small_height, small_width)
    for c in tl.static_range(8):
        before = tl.load(state + c * area, mask=mask, other=0.0)
        if c < 5 or LAST:
            a = _load_pixel_shuffled(output, c, y0, x0, small_height, small_width, stride_c, stride_h, stride_w, mask)
            b = _load_pixel_shuffled(output, c, y0, x1, small_height, small_width, stride_c, stride_h, stride_w, mask)
            d = _load_pixel_shuffled(output, c, y1, x0, small_height, small_width, stride_c, stride_h, stride_w, mask)
            e = _load_pixel_shuffled(output, c, y1, x1, small_height, small_width, stride_c, stride_h, stride_w, mask)
            a, d = a + fx * (b - a), d + fx * (e - d)
            value = scale_limit * (a + fy * (d - a))
            if c < 4:
                before += scale * value
            elif c == 4:
                before += value
                if LAST:
                    before = _shift_blend(tl.load(blend + n * area + offsets, mask=mask, other=0.5), before)
            else:
                before = 0.1 * value
        tl.store(out + c * area, before, mask=mask)


@jit
def _correction_room(difference, envelope, out, height, width, difference_stride_n, envelope_stride_n, agreement4):
    """See `rdvfi.ops.refinement.correction_room`."""
    n, y, x, mask = tile(height, width)
    offsets = y * width + x
    difference4 = window_mean(difference + n * difference_stride_n, y, x, height, width, mask, 5)
    difference4 = difference4 * difference4 * difference4 * difference4
    room = (
        4.0
        * tl.load(envelope + n * envelope_stride_n + offsets, mask=mask, other=0.0)
        * (difference4 / (difference4 + agreement4))
    )
    tl.store(out + n * height * width + offsets, room, mask=mask)


@jit
def _resize_tap(i, tap, size, scale):
    """Pixel ``tap`` under the triangle around pixel ``i`` of a resized axis, and its weight."""
    support = tl.maximum(scale, 1.0)
    centre = (i + 0.5) * scale
    start = tl.maximum((centre - support + 0.5).to(tl.int32), 0)
    end = tl.minimum((centre + support + 0.5).to(tl.int32), size)
    index = start + tap
    weight = tl.maximum(1.0 - tl.abs((index - centre + 0.5) / support), 0.0)
    return tl.minimum(index, size - 1), tl.where(index < end, weight, 0.0)


@jit
def _resize(plane, y, x, height, width, scale_y, scale_x, mask, TAPS: tl.constexpr):
    """A plane resized as by `torch.nn.functional.interpolate`: bilinear, averaging where it shrinks."""
    total, weights = x * 0.0, x * 0.0
    for j in range(TAPS):
        row, wy = _resize_tap(y, j, height, scale_y)
        for i in range(TAPS):
            column, wx = _resize_tap(x, i, width, scale_x)
            total += wy * wx * tl.load(plane + row * width + column, mask=mask, other=0.0)
            weights += wy * wx
    return total / weights


@jit
def _stage_entry(
    inputs, latents, out, count, channels, height, width, latent_channels, latent_height, latent_width, rows, columns,
    BORDER: tl.constexpr, TAPS: tl.constexpr, LATENT_TAPS: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """See `rdvfi.ops.refinement.stage_entry`: one channel of ``BLOCK_SIZE`` padded pixels of one frame."""
    total = 4 * channels + latent_channels
    n, c = tl.program_id(1).to(tl.int64) // total, tl.program_id(1) % total
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < count
    x = tl.minimum(tl.maximum(offsets % (columns + 2 * BORDER) - BORDER, 0), columns - 1)
    y = tl.minimum(tl.maximum(offsets // (columns + 2 * BORDER) - BORDER, 0), rows - 1)
    if c < 4 * channels:
        plane = inputs + (n * channels + c // 4) * height * width
        y, x = 2 * y + c % 4 // 2, 2 * x + c % 2
        scale_y, scale_x = height * 0.5 / rows, width * 0.5 / columns
        value = _resize(plane, y, x, height, width, scale_y, scale_x, mask, TAPS)
    else:
        plane = latents + (n * latent_channels + c - 4 * channels) * latent_height * latent_width
        scale_y, scale_x = latent_height * 1.0 / rows, latent_width * 1.0 / columns
        value = _resize(plane, y, x, latent_height, latent_width, scale_y, scale_x, mask, LATENT_TAPS)
    # Channels lie side by side, as `torch.channels_last` has them.
    tl.store(out + (n * count + offsets) * total + c, value.to(out.dtype.element_ty), mask=mask)


def stage_inputs(
    first: Tensor, last: Tensor, state: Tensor, mask: Tensor, times: Tensor, gain: Tensor | None
) -> Tensor:
    """See `rdvfi.ops.refinement.stage_inputs`."""
    n, _, h, w = state.shape
    first, last, state, mask, times = (x.float().contiguous() for x in (first, last, state, mask, times))
    gain_or_times = times[:, None, None] if gain is None else gain.float().contiguous()
    out = state.new_empty((n, _INPUT_CHANNELS, h, w))
    arguments = [first, last, state, mask, times, gain_or_times, out, n // len(first), h, w, *gain_or_times.shape[-2:]]
    _stage_inputs[launch_grid(n, h, w)](*arguments, HAS_GAIN=gain is not None)
    return out


def stage_step(state: Tensor, output: Tensor, room: Tensor, mask: Tensor, scale: int, last: bool) -> Tensor:
    """See `rdvfi.ops.refinement.stage_step`."""
    n, _, h, w = state.shape
    state, room, mask = (x.float().contiguous() for x in (state, room, mask))
    small = (2 * output.shape[-2], 2 * output.shape[-1])
    out = torch.empty_like(state)
    arguments = [state, output, room, mask, out, h, w, *small, scale, *output.stride()]
    _stage_step[launch_grid(n, h, w)](*arguments, LAST=last)
    return out


def correction_room(difference: Tensor, envelope: Tensor, agreement: float) -> Tensor:
    """See `rdvfi.ops.refinement.correction_room`."""
    n, _, h, w = difference.shape
    maps = [x if x.stride()[2:] == (w, 1) else x.contiguous() for x in (difference, envelope)]
    out = difference.new_empty((n, 1, h, w))
    arguments = [*maps, out, h, w, *(x.stride(0) for x in maps), agreement**4]
    _correction_room[launch_grid(n, h, w)](*arguments)
    return out


def stage_entry(inputs: Tensor, latents: Tensor | None, scale: int, border: int, dtype: torch.dtype) -> Tensor:
    """See `rdvfi.ops.refinement.stage_entry`."""
    n, c, h, w = inputs.shape
    rows, columns = h // scale, w // scale
    latents_or_empty = inputs[:, :0] if latents is None else latents.float().contiguous()
    inputs = inputs.float().contiguous()
    shape = (n, 4 * c + latents_or_empty.shape[1], rows + 2 * border, columns + 2 * border)
    out = torch.empty(shape, dtype=dtype, device=inputs.device, memory_format=torch.channels_last)
    count = shape[2] * shape[3]
    arguments = [inputs, latents_or_empty, out, count, c, h, w, *latents_or_empty.shape[1:], rows, columns]
    _stage_entry[(-(-count // _BLOCK_SIZE), n * shape[1])](
        *arguments,
        BORDER=border,
        TAPS=_taps(h / (2 * rows), w / (2 * columns)),
        LATENT_TAPS=_taps(latents_or_empty.shape[2] / rows, latents_or_empty.shape[3] / columns),
        BLOCK_SIZE=_BLOCK_SIZE,
    )
    return out


def _taps(*scales: float) -> int:
    """Largest number of pixels under a triangle filter."""
    return 2 * -int(-max(1.0, *scales) // 1) + 1
