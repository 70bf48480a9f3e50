"""Colours of video on CUDA: the kernels of `rdvfi.ops.video_colour`.

`_rgb` makes of every pixel one load of luma and, where chroma is enlarged on both axes, 16 loads of each chroma plane,
which neighbours share through the caches; it reads 1.5 bytes a pixel of 8-bit 4:2:0 and writes ``3 s`` for RGB of s
bytes a value. `_luma` reads ``3 s`` and writes 1. `_chroma` weighs up to 64 pixels for a sample, 16 a pixel, from the
caches too: ``3 s`` read and half a byte written. All three together move 22 bytes a pixel in half precision and none
of RGB over the bus. No kernel divides whole numbers.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_Y, BLOCK_X = 4, 128


@triton.jit
@no_type_check
def _cubic(distance):
    x = tl.abs(distance)
    near, far = (1.4 * x - 2.4) * x * x + 1.0, ((3.0 - 0.6 * x) * x - 4.8) * x + 2.4
    return tl.where(x < 1.0, near, tl.where(x < 2.0, far, 0.0))


@triton.jit
@no_type_check
def _tile(BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """Rows (BLOCK_Y, 1) and columns (1, BLOCK_X) of the program instance; rows are 64-bit."""
    y = tl.program_id(1).to(tl.int64) * BLOCK_Y + tl.arange(0, BLOCK_Y)[:, None]
    return y, tl.program_id(0) * BLOCK_X + tl.arange(0, BLOCK_X)[None, :]


@triton.jit
@no_type_check
def _rgb(
    luma, u, v, out, height, width, small_height, small_width, luma_stride_h, luma_stride_w, u_stride_h, u_stride_w,
    v_stride_h, v_stride_w, red, blue, black, half, light, colour, left, top, SUB_Y: tl.constexpr, SUB_X: tl.constexpr,
    BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    y, x = _tile(BLOCK_Y, BLOCK_X)
    mask = (y < height) & (x < width)
    row, column = y.to(tl.float32), x.to(tl.float32)
    if SUB_Y == 2:
        row = (row - top) * 0.5
    if SUB_X == 2:
        column = (column - left) * 0.5
    first_row, first_column = tl.floor(row), tl.floor(column)
    by_blue = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    by_red = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    for j in tl.static_range(4 if SUB_Y == 2 else 1):
        at_row = first_row + (j - 1 if SUB_Y == 2 else 0)
        line = tl.minimum(tl.maximum(at_row, 0.0), small_height - 1.0).to(tl.int64)
        for i in tl.static_range(4 if SUB_X == 2 else 1):
            at_column = first_column + (i - 1 if SUB_X == 2 else 0)
            weight = _cubic(row - at_row) * _cubic(column - at_column)
            place = tl.minimum(tl.maximum(at_column, 0.0), small_width - 1.0).to(tl.int64)
            by_blue += weight * tl.load(u + line * u_stride_h + place * u_stride_w, mask=mask, other=0).to(tl.float32)
            by_red += weight * tl.load(v + line * v_stride_h + place * v_stride_w, mask=mask, other=0).to(tl.float32)
    by_blue, by_red = (by_blue - half) / colour, (by_red - half) / colour
    seen = tl.load(luma + y * luma_stride_h + x.to(tl.int64) * luma_stride_w, mask=mask, other=0).to(tl.float32)
    seen = (seen - black) / light
    r, b = seen + 2.0 * (1.0 - red) * by_red, seen + 2.0 * (1.0 - blue) * by_blue
    g = (seen - red * r - blue * b) / (1.0 - red - blue)
    out += y * width + x
    area = height.to(tl.int64) * width
    kind = out.dtype.element_ty
    tl.store(out, tl.minimum(tl.maximum(r, 0.0), 1.0).to(kind), mask=mask)
    tl.store(out + area, tl.minimum(tl.maximum(g, 0.0), 1.0).to(kind), mask=mask)
    tl.store(out + 2 * area, tl.minimum(tl.maximum(b, 0.0), 1.0).to(kind), mask=mask)


@triton.jit
@no_type_check
def _pixel(frame, y, x, height, width, frame_stride_c, frame_stride_h, frame_stride_w, mask):
    """Red, green and blue at whole places, clipped; the border is repeated."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    place = frame + y * frame_stride_h + tl.minimum(tl.maximum(x, 0), width - 1).to(tl.int64) * frame_stride_w
    r = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(place + frame_stride_c, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(place + 2 * frame_stride_c, mask=mask, other=0.0).to(tl.float32)
    return (
        tl.minimum(tl.maximum(r, 0.0), 1.0),
        tl.minimum(tl.maximum(g, 0.0), 1.0),
        tl.minimum(tl.maximum(b, 0.0), 1.0),
    )


@triton.jit
@no_type_check
def _store(out, value, most, mask, SHIFT: tl.constexpr):
    number = tl.minimum(tl.maximum(tl.floor(value + 0.5), 0.0), most).to(tl.int32)
    tl.store(out, (number << SHIFT).to(out.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def _luma(
    frame, out, height, width, from_height, from_width, frame_stride_c, frame_stride_h, frame_stride_w, red, blue,
    black, light, most, SHIFT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    y, x = _tile(BLOCK_Y, BLOCK_X)
    mask = (y < height) & (x < width)
    r, g, b = _pixel(frame, y, x, from_height, from_width, frame_stride_c, frame_stride_h, frame_stride_w, mask)
    _store(out + y * width + x, black + light * (red * r + (1.0 - red - blue) * g + blue * b), most, mask, SHIFT)


@triton.jit
@no_type_check
def _chroma(
    frame, out, small_height, small_width, height, width, from_height, from_width, frame_stride_c, frame_stride_h,
    frame_stride_w, plane, step, red, blue, half, colour, most, top, CENTRE: tl.constexpr, SUB_Y: tl.constexpr,
    SUB_X: tl.constexpr, SHIFT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Samples of U and V; ``plane`` numbers lie between the two, and ``step`` between neighbours."""
    y, x = _tile(BLOCK_Y, BLOCK_X)
    mask = (y < small_height) & (x < small_width)
    r = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    g = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    b = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    for j in range(8 if SUB_Y == 2 else 1):  # not unrolled: 64 pixels are 192 loads
        down = 1.0
        row = y
        if SUB_Y == 2:
            row = 2 * y + (j - 3)
            down = _cubic((j - 3.0 - top) * 0.5) * 0.5
        row = tl.minimum(tl.maximum(row, 0), height - 1)
        for i in range(1 if SUB_X == 1 else (2 if CENTRE else 8)):
            across = down
            column = x
            if SUB_X == 2:
                pair = x + (0 if CENTRE else i // 2 - 2)
                pair = tl.minimum(tl.maximum(pair, 0), small_width - 1)
                column = tl.minimum(2 * pair + i % 2, width - 1)
                across = down * 0.5
                if not CENTRE:
                    across = across * _cubic(i // 2 - 1.75)
            red_here, green_here, blue_here = _pixel(
                frame, row, column, from_height, from_width, frame_stride_c, frame_stride_h, frame_stride_w, mask
            )
            r += across * red_here
            g += across * green_here
            b += across * blue_here
    seen = red * r + (1.0 - red - blue) * g + blue * b
    out += (y * small_width + x) * step
    _store(out, half + colour * (b - seen) / (2.0 * (1.0 - blue)), most, mask, SHIFT)
    _store(out + plane, half + colour * (r - seen) / (2.0 * (1.0 - red)), most, mask, SHIFT)


def _grid(height: int, width: int) -> tuple[int, int]:
    return -(-width // BLOCK_X), -(-height // BLOCK_Y)


def video_to_rgb(luma: Tensor, u: Tensor, v: Tensor, meaning: list[float], dtype: torch.dtype) -> Tensor:
    """`rdvfi.ops.video_colour.video_to_rgb` by a Triton kernel; planes may have any strides."""
    (h, w), (hs, ws) = luma.shape, u.shape
    out = torch.empty((1, 3, h, w), dtype=dtype, device=luma.device)
    arguments = [luma, u, v, out, h, w, hs, ws, *luma.stride(), *u.stride(), *v.stride(), *meaning]
    _rgb[_grid(h, w)](*arguments, SUB_Y=1 + (hs != h), SUB_X=1 + (ws != w), BLOCK_Y=BLOCK_Y, BLOCK_X=BLOCK_X)
    return out


def rgb_to_video(
    frame: Tensor, size: list[int], sub: list[int], packed: bool, bits: int, shift: int, meaning: list[float]
) -> Tensor:
    """`rdvfi.ops.video_colour.rgb_to_video` by Triton kernels; the frame may have any strides."""
    red, blue, black, half, light, colour, left, top = meaning
    (h, w), (hs, ws) = size, (-(-size[0] // sub[0]), -(-size[1] // sub[1]))
    kind = torch.uint8 if bits == 8 else torch.uint16
    out = torch.empty(h * w + 2 * hs * ws, dtype=kind, device=frame.device)
    given, most = [*frame.shape[1:], *frame.stride()], float(2**bits - 1)
    block = {"SHIFT": shift, "BLOCK_Y": BLOCK_Y, "BLOCK_X": BLOCK_X}
    arguments = [frame, out, h, w, *given, red, blue, black, light, most]
    _luma[_grid(h, w)](*arguments, **block)
    apart, step = (1, 2) if packed else (hs * ws, 1)
    arguments = [frame, out[h * w :], hs, ws, h, w, *given, apart, step, red, blue, half, colour, most, top]
    _chroma[_grid(hs, ws)](*arguments, CENTRE=left == 0.5, SUB_Y=sub[0], SUB_X=sub[1], **block)
    return out
