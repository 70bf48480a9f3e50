# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Colours of video on CUDA: the kernels of `rdvfi.ops.video_colour`.

`_planes_to_rgb` loads luma once per pixel and, where chroma is enlarged on both axes, 16 samples of each chroma
plane, which neighbours share through the caches; it reads 1.5 bytes a pixel of 8-bit 4:2:0 and writes ``3 s`` for
RGB of s bytes a value. `_rgb_to_luma` reads ``3 s`` and writes 1. `_rgb_to_chroma` weighs up to 64 pixels for a
sample, 16 a pixel, from the caches too: ``3 s`` read and half a byte written. All three together move 22 bytes a
pixel in half precision and none of RGB over the bus. No kernel divides whole numbers.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit

BLOCK_Y, BLOCK_X = 4, 128


@jit
def _cubic_kernel(distance):
    x = tl.abs(distance)
    near, far = (1.4 * x - 2.4) * x * x + 1.0, ((3.0 - 0.6 * x) * x - 4.8) * x + 2.4
    return tl.where(x < 1.0, near, tl.where(x < 2.0, far, 0.0))


@jit
def _tile(BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """Rows (BLOCK_Y, 1) and columns (1, BLOCK_X) of the program instance; rows are 64-bit."""
    y = tl.program_id(1).to(tl.int64) * BLOCK_Y + tl.arange(0, BLOCK_Y)[:, None]
    return y, tl.program_id(0) * BLOCK_X + tl.arange(0, BLOCK_X)[None, :]


@jit
def _planes_to_rgb(
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
    cb = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    cr = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    for j in tl.static_range(4 if SUB_Y == 2 else 1):
        tap_row = first_row + (j - 1 if SUB_Y == 2 else 0)
        row_index = tl.minimum(tl.maximum(tap_row, 0.0), small_height - 1.0).to(tl.int64)
        for i in tl.static_range(4 if SUB_X == 2 else 1):
            tap_column = first_column + (i - 1 if SUB_X == 2 else 0)
            weight = _cubic_kernel(row - tap_row) * _cubic_kernel(column - tap_column)
            column_index = tl.minimum(tl.maximum(tap_column, 0.0), small_width - 1.0).to(tl.int64)
            cb += weight * tl.load(u + row_index * u_stride_h + column_index * u_stride_w, mask=mask, other=0).to(
                tl.float32
            )
            cr += weight * tl.load(v + row_index * v_stride_h + column_index * v_stride_w, mask=mask, other=0).to(
                tl.float32
            )
    cb, cr = (cb - half) / colour, (cr - half) / colour
    y_value = tl.load(luma + y * luma_stride_h + x.to(tl.int64) * luma_stride_w, mask=mask, other=0).to(tl.float32)
    y_value = (y_value - black) / light
    r, b = y_value + 2.0 * (1.0 - red) * cr, y_value + 2.0 * (1.0 - blue) * cb
    g = (y_value - red * r - blue * b) / (1.0 - red - blue)
    out += y * width + x
    area = height.to(tl.int64) * width
    dtype = out.dtype.element_ty
    tl.store(out, tl.minimum(tl.maximum(r, 0.0), 1.0).to(dtype), mask=mask)
    tl.store(out + area, tl.minimum(tl.maximum(g, 0.0), 1.0).to(dtype), mask=mask)
    tl.store(out + 2 * area, tl.minimum(tl.maximum(b, 0.0), 1.0).to(dtype), mask=mask)


@jit
def _load_rgb(frame, y, x, height, width, stride_c, stride_h, stride_w, mask):
    """Red, green and blue at pixels, clipped; borders are replicated."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    elements = frame + y * stride_h + tl.minimum(tl.maximum(x, 0), width - 1).to(tl.int64) * stride_w
    r = tl.load(elements, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(elements + stride_c, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(elements + 2 * stride_c, mask=mask, other=0.0).to(tl.float32)
    return (
        tl.minimum(tl.maximum(r, 0.0), 1.0),
        tl.minimum(tl.maximum(g, 0.0), 1.0),
        tl.minimum(tl.maximum(b, 0.0), 1.0),
    )


@jit
def _store_integer(out, value, max_value, mask, SHIFT: tl.constexpr):
    integer = tl.minimum(tl.maximum(tl.floor(value + 0.5), 0.0), max_value).to(tl.int32)
    tl.store(out, (integer << SHIFT).to(out.dtype.element_ty), mask=mask)


@jit
def _rgb_to_luma(
    frame, out, height, width, frame_height, frame_width, stride_c, stride_h, stride_w, red, blue, black, light,
    max_value, SHIFT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    y, x = _tile(BLOCK_Y, BLOCK_X)
    mask = (y < height) & (x < width)
    r, g, b = _load_rgb(frame, y, x, frame_height, frame_width, stride_c, stride_h, stride_w, mask)
    _store_integer(
        out + y * width + x, black + light * (red * r + (1.0 - red - blue) * g + blue * b), max_value, mask, SHIFT
    )


@jit
def _rgb_to_chroma(
    frame, out, small_height, small_width, height, width, frame_height, frame_width, stride_c, stride_h, stride_w,
    plane_step, sample_step, red, blue, half, colour, max_value, top, CENTRE: tl.constexpr, SUB_Y: tl.constexpr,
    SUB_X: tl.constexpr, SHIFT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Samples of U and V, ``plane_step`` elements apart; neighbours are ``sample_step`` apart."""
    y, x = _tile(BLOCK_Y, BLOCK_X)
    mask = (y < small_height) & (x < small_width)
    r = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    g = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    b = tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)
    for j in range(8 if SUB_Y == 2 else 1):  # not unrolled: 64 pixels are 192 loads
        row_weight = 1.0
        row = y
        if SUB_Y == 2:
            row = 2 * y + (j - 3)
            row_weight = _cubic_kernel((j - 3.0 - top) * 0.5) * 0.5
        row = tl.minimum(tl.maximum(row, 0), height - 1)
        for i in range(1 if SUB_X == 1 else (2 if CENTRE else 8)):
            weight = row_weight
            column = x
            if SUB_X == 2:
                pair = x + (0 if CENTRE else i // 2 - 2)
                pair = tl.minimum(tl.maximum(pair, 0), small_width - 1)
                column = tl.minimum(2 * pair + i % 2, width - 1)
                weight = row_weight * 0.5
                if not CENTRE:
                    weight = weight * _cubic_kernel(i // 2 - 1.75)
            red_here, green_here, blue_here = _load_rgb(
                frame, row, column, frame_height, frame_width, stride_c, stride_h, stride_w, mask
            )
            r += weight * red_here
            g += weight * green_here
            b += weight * blue_here
    y_value = red * r + (1.0 - red - blue) * g + blue * b
    out += (y * small_width + x) * sample_step
    _store_integer(out, half + colour * (b - y_value) / (2.0 * (1.0 - blue)), max_value, mask, SHIFT)
    _store_integer(out + plane_step, half + colour * (r - y_value) / (2.0 * (1.0 - red)), max_value, mask, SHIFT)


def _grid(height: int, width: int) -> tuple[int, int]:
    return -(-width // BLOCK_X), -(-height // BLOCK_Y)


def video_to_rgb(luma: Tensor, u: Tensor, v: Tensor, encoding: list[float], dtype: torch.dtype) -> Tensor:
    """`rdvfi.ops.video_colour.video_to_rgb` by a Triton kernel; planes may have any strides."""
    (h, w), (hs, ws) = luma.shape, u.shape
    out = torch.empty((1, 3, h, w), dtype=dtype, device=luma.device)
    arguments = [luma, u, v, out, h, w, hs, ws, *luma.stride(), *u.stride(), *v.stride(), *encoding]
    _planes_to_rgb[_grid(h, w)](*arguments, SUB_Y=1 + (hs != h), SUB_X=1 + (ws != w), BLOCK_Y=BLOCK_Y, BLOCK_X=BLOCK_X)
    return out


def rgb_to_video(
    frame: Tensor, size: list[int], subsampling: list[int], packed: bool, bits: int, shift: int, encoding: list[float]
) -> Tensor:
    """`rdvfi.ops.video_colour.rgb_to_video` by Triton kernels; the frame may have any strides."""
    red, blue, black, half, light, colour, left, top = encoding
    (h, w), (hs, ws) = size, (-(-size[0] // subsampling[0]), -(-size[1] // subsampling[1]))
    dtype = torch.uint8 if bits == 8 else torch.uint16
    out = torch.empty(h * w + 2 * hs * ws, dtype=dtype, device=frame.device)
    frame_layout, max_value = [*frame.shape[1:], *frame.stride()], float(2**bits - 1)
    block_sizes = {"SHIFT": shift, "BLOCK_Y": BLOCK_Y, "BLOCK_X": BLOCK_X}
    arguments = [frame, out, h, w, *frame_layout, red, blue, black, light, max_value]
    _rgb_to_luma[_grid(h, w)](*arguments, **block_sizes)
    plane_step, sample_step = (1, 2) if packed else (hs * ws, 1)
    arguments = [frame, out[h * w :], hs, ws, h, w, *frame_layout, plane_step, sample_step]
    arguments += [red, blue, half, colour, max_value, top]
    kind = {"CENTRE": left == 0.5, "SUB_Y": subsampling[0], "SUB_X": subsampling[1]}
    _rgb_to_chroma[_grid(hs, ws)](*arguments, **kind, **block_sizes)
    return out
