"""Drawing frames on CUDA: the kernels of `rdvfi.ops.render`.

Two small kernels lay everything out so that one load fetches all that a corner holds. `_pack_images` makes of each
image pixels of four values side by side (red, green, blue, nothing), in the images' type; `_pack_maps` makes of the
maps of each time eight float32 values: both flows in pixels of the image, the residual colour, the blend. Both repeat
the last row and column once more, so a corner's neighbours are always one pixel to the right and one row down.

`_draw` then works on columns of ``BLOCK_X`` pixels, ``ROWS`` rows high. A pixel's column on the small grid is found
once. Rows go from top to bottom, and the maps between two rows of the small grid, once enlarged across, serve all
image rows that lie between them; an image row costs one multiplication and addition per map. Only frames are written.

**Counted**, per pixel and time, with s bytes per value of an image, and S image rows per row of the
small grid (8.4 at 1920x1080 over 224x128, 4.5 at 1024x576):

* loads: 4 corners of 2 images, each one load of ``4 s`` bytes (8 bytes in half precision, 16 in
  float32), and 8 loads of 16 bytes for the maps every S rows. One load per value would be 56;
* about 155 instructions in float32, 24 more in half precision, which is converted (counted in the
  machine code for compute capability 9.0);
* floor in memory: ``3 s`` written, and with T times per pair ``6 s / T`` read. All times of a pair look
  at the same two images, and instances are numbered with time the fastest, so those that run
  together read the same part of the images through the L2 cache. Packing reads ``6 s`` and writes
  ``8 s`` once per pair. Without any cache it would be ``9 s``: what benchmarks compare a copy with.

Measured on one H200 at 1920x1080, 23 frames, packing included: 0.024 ms per frame in float16, 39 % of a
copy's bandwidth by ``9 s``, and 0.030 ms or 62 % in float32.

**Exact places.** Pixel x of W lies at ``((2 x + 1) w - W) / (2 W)`` on a grid of w. In whole numbers
the cell and what is left are exact; float32 would be off by 3e-5 of a cell at 3840 pixels, which at
an edge between motions 70 pixels apart is more than 1/255.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit

BLOCK_X, ROWS = 128, 16
"""Pixels of one program instance of `_draw`; one thread for each column."""
_PACK_BLOCK_SIZE = 256
"""Pixels that one instance lays out."""
_INT32_LIMIT = 2**31
"""Offsets within an image, and positions on the small grid, are 64-bit if they can reach this."""
_ROUND = tl.constexpr(12582912.0)
"""1.5 * 2^23: beside it a float32 has no fraction, so adding it rounds to a whole number."""
_ROUND_BITS = tl.constexpr(0x4B400000)
"""The bits of `_ROUND`; those of a sum with a small whole number are larger by that number."""


@jit
def _pack_images(
    img0, img1, packed, height, width, img0_stride_b, img0_stride_c, img0_stride_h, img0_stride_w, img1_stride_b,
    img1_stride_c, img1_stride_h, img1_stride_w, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """One row of packed pixels; rows are ordered by sample, image and y."""
    row, x = tl.program_id(0), tl.program_id(1) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    y, batch, is_last = row % (height + 1), (row // (height + 1) // 2).to(tl.int64), row // (height + 1) % 2
    source_y, source_x = tl.minimum(y, height - 1).to(tl.int64), tl.minimum(x, width - 1).to(tl.int64)[:, None]
    c = tl.arange(0, 4)[None, :]
    if is_last == 0:
        source = img0 + batch * img0_stride_b + source_y * img0_stride_h + source_x * img0_stride_w + c * img0_stride_c
    else:
        source = img1 + batch * img1_stride_b + source_y * img1_stride_h + source_x * img1_stride_w + c * img1_stride_c
    values = tl.load(source, mask=(c < 3) & (source_x >= 0), other=0.0)
    target = packed + row.to(tl.int64) * (width + 1) * 4 + x[:, None] * 4 + c
    tl.store(target, values, mask=(x <= width)[:, None] & (c < 4))


@jit
def _pack_maps(
    flow0, flow1, blend, residual, packed, num_times, height, width, small_height, small_width, flow0_stride_b,
    flow0_stride_t, flow0_stride_c, flow0_stride_h, flow0_stride_w, flow1_stride_b, flow1_stride_t, flow1_stride_c,
    flow1_stride_h, flow1_stride_w, blend_stride_b, blend_stride_t, blend_stride_h, blend_stride_w, residual_stride_b,
    residual_stride_t, residual_stride_c, residual_stride_h, residual_stride_w, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Pixels of all packed maps, ordered by sample, time, row and column."""
    rows, columns = small_height + 1, small_width + 1
    row = tl.program_id(0)
    x = (tl.program_id(1) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE))[:, None]
    t, b = (row // rows % num_times).to(tl.int64), (row // rows // num_times).to(tl.int64)
    source_y = tl.minimum(row % rows, small_height - 1).to(tl.int64)
    source_x = tl.minimum(x, small_width - 1).to(tl.int64)
    c = tl.arange(0, 8)[None, :]
    mask = (x < columns) & (c < 8)
    flow0_elements = flow0 + b * flow0_stride_b + t * flow0_stride_t + source_y * flow0_stride_h
    flow0_elements += source_x * flow0_stride_w + c * flow0_stride_c
    flow1_elements = flow1 + b * flow1_stride_b + t * flow1_stride_t + source_y * flow1_stride_h
    flow1_elements += source_x * flow1_stride_w + (c - 2) * flow1_stride_c
    residual_elements = residual + b * residual_stride_b + t * residual_stride_t + source_y * residual_stride_h
    residual_elements += source_x * residual_stride_w
    blend_elements = (
        blend + b * blend_stride_b + t * blend_stride_t + source_y * blend_stride_h + source_x * blend_stride_w
    )
    # Each channel is in one of the four; the others give zero.
    flows = tl.load(flow0_elements, mask=mask & (c < 2), other=0.0).to(tl.float32)
    flows += tl.load(flow1_elements, mask=mask & (c >= 2) & (c < 4), other=0.0).to(tl.float32)
    flows = flows * tl.where(c % 2 == 0, width * 1.0 / small_width, height * 1.0 / small_height)
    colour_and_blend = tl.load(
        residual_elements + (c - 4) * residual_stride_c, mask=mask & (c >= 4) & (c < 7), other=0.0
    ).to(tl.float32)
    colour_and_blend += tl.load(blend_elements + c * 0, mask=mask & (c == 7), other=0.0).to(tl.float32)
    target = packed + row.to(tl.int64) * columns * 8 + x * 8 + c
    tl.store(target, tl.where(c < 4, flows, colour_and_blend), mask=mask)


@jit
def _grid_cell(pixel, size, small, USE_INT64: tl.constexpr):
    """Cell of a grid of ``small`` in which the centre of ``pixel`` of ``size`` lies, and how far in it."""
    if USE_INT64:
        size = tl.full((), 1, tl.int64) * size
    denominator = 2 * size
    scale = 1.0 / denominator
    numerator = tl.minimum(tl.maximum((2 * pixel + 1) * small - size, 0), denominator * (small - 1))
    # A division of whole numbers takes some twenty instructions; this one is off by one at most.
    cell = (numerator.to(tl.float32) * scale).to(numerator.dtype)
    remainder = numerator - cell * denominator
    too_high, too_low = (remainder < 0).to(numerator.dtype), (remainder >= denominator).to(numerator.dtype)
    cell, remainder = cell + too_low - too_high, remainder + (too_high - too_low) * denominator
    return cell, remainder.to(tl.float32) * scale


@jit
def _column_interpolation(corner, row_stride, fx):
    """Four maps at each column: interpolated in the upper row of the small grid, and their rise to the lower row."""
    top_left, top_right = tl.load(corner), tl.load(corner + 8)
    bottom_left, bottom_right = tl.load(corner + row_stride), tl.load(corner + row_stride + 8)
    top_left = top_left + fx * (top_right - top_left)
    return top_left, bottom_left + fx * (bottom_right - bottom_left) - top_left


@jit
def _split_position(position, size):
    """Integer part of a position, clamped to the image, and its fraction.

    A position is clamped to the picture, so that borders are replicated; one that is not a number
    becomes 0. One that is a whole number may be given as the number before and a rest of 1.
    """
    position = tl.where(position > 0.0, tl.minimum(position, size - 1.0), 0.0)
    rounded = (position - 0.5) + _ROUND
    return rounded.to(tl.int32, bitcast=True) - _ROUND_BITS, position - (rounded - _ROUND)


@jit
def _sample_colour(image, x, y, height, width, c, USE_INT64: tl.constexpr):
    """Colours of the packed image at float32 positions: (BLOCK_X, 4), float32."""
    column, fx = _split_position(x, width)
    row, fy = _split_position(y, height)
    if USE_INT64:
        row = row.to(tl.int64)
    row_stride = (width + 1) * 4
    corner = image + ((row * (width + 1) + column) * 4)[:, None] + c
    fx, fy = fx[:, None], fy[:, None]
    bottom_right = fx * fy
    bottom_left, top_right = fy - bottom_right, fx - bottom_right
    colour = tl.load(corner).to(tl.float32) * ((1.0 - fx) - bottom_left)
    colour += tl.load(corner + 4).to(tl.float32) * top_right
    colour += tl.load(corner + row_stride).to(tl.float32) * bottom_left
    return colour + tl.load(corner + row_stride + 4).to(tl.float32) * bottom_right


@jit
def _split_columns(values):
    """The four columns of a tensor (BLOCK_X, 4)."""
    even, odd = tl.split(tl.reshape(values, (values.shape[0], 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@jit
def _store(out, value, mask, LEVELS: tl.constexpr):
    value = tl.minimum(tl.maximum(value, 0.0), 1.0)
    if LEVELS:
        value = ((value * LEVELS + _ROUND) - _ROUND).to(tl.int32)
    tl.store(out, value.to(out.dtype.element_ty), mask=mask)


@jit
def _draw(
    images, maps, out, num_times, height, width, small_height, small_width, area, LEVELS: tl.constexpr,
    USE_INT64: tl.constexpr, BLOCK_X: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """``ROWS`` rows of ``BLOCK_X`` columns of one frame. Instances: sample, tile, then time."""
    tiles_x, tiles_y = (width + BLOCK_X - 1) // BLOCK_X, (height + ROWS - 1) // ROWS
    pid = tl.program_id(0)
    t, tile = pid % num_times, pid // num_times
    batch = (tile // (tiles_x * tiles_y)).to(tl.int64)
    top = tile // tiles_x % tiles_y * ROWS
    bottom = tl.minimum(top + ROWS, height)
    x = tile % tiles_x * BLOCK_X + tl.arange(0, BLOCK_X)
    c = tl.arange(0, 4)[None, :]

    first = images + 2 * batch * (height + 1) * (width + 1) * 4
    last = images + (2 * batch + 1) * (height + 1) * (width + 1) * 4
    small_row = (small_width + 1) * 8
    maps += (batch * num_times + t) * (small_height + 1) * small_row
    out += ((batch * num_times + t) * 3 * height + top) * width + x
    map_column, fx = _grid_cell(x, width, small_width, USE_INT64)
    fx = fx[:, None]
    corner = maps + (map_column * 8)[:, None] + c

    loaded_row, fy = _grid_cell(top, height, small_height, USE_INT64)
    flows, flows_rise = _column_interpolation(corner + loaded_row * small_row, small_row, fx)
    colour_and_blend, colour_rise = _column_interpolation(corner + loaded_row * small_row + 4, small_row, fx)
    for y in range(top, bottom):
        map_row, fy = _grid_cell(y, height, small_height, USE_INT64)
        if map_row != loaded_row:
            loaded_row = map_row
            flows, flows_rise = _column_interpolation(corner + map_row * small_row, small_row, fx)
            colour_and_blend, colour_rise = _column_interpolation(corner + map_row * small_row + 4, small_row, fx)
        dx0, dy0, dx1, dy1 = _split_columns(flows + fy * flows_rise)
        residual_and_blend = colour_and_blend + fy * colour_rise
        blend = _split_columns(residual_and_blend)[3]
        warped0 = _sample_colour(first, x + dx0, y + dy0, height, width, c, USE_INT64)
        warped1 = _sample_colour(last, x + dx1, y + dy1, height, width, c, USE_INT64)
        red, green, blue, _ = _split_columns(warped1 + blend[:, None] * (warped0 - warped1) + residual_and_blend)
        _store(out, red, x < width, LEVELS)
        _store(out + area, green, x < width, LEVELS)
        _store(out + area + area, blue, x < width, LEVELS)
        out += width


def render(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor, dtype: torch.dtype
) -> Tensor:
    """`rdvfi.ops.render` by Triton kernels; tensors may have any strides."""
    from rdvfi.ops.drawing.operator import LEVELS

    (b, t), (h, w), (hs, ws) = flow0.shape[:2], img0.shape[-2:], flow0.shape[-2:]
    out = torch.empty((b, t, 3, h, w), dtype=dtype, device=img0.device)
    largest = 0 if dtype.is_floating_point else LEVELS[dtype]
    if not out.numel():
        return out
    images = torch.empty((b, 2, h + 1, w + 1, 4), dtype=img0.dtype, device=img0.device)
    maps = torch.empty((b, t, hs + 1, ws + 1, 8), dtype=torch.float32, device=img0.device)
    mask_strides = [mask.stride(axis) for axis in (0, 1, 3, 4)]
    strides = [*flow0.stride(), *flow1.stride(), *mask_strides, *residual.stride()]
    wide = max(4 * (h + 1) * (w + 1), 2 * h * hs, 2 * w * ws) >= _INT32_LIMIT
    grid = (2 * b * (h + 1), triton.cdiv(w + 1, _PACK_BLOCK_SIZE))
    _pack_images[grid](img0, img1, images, h, w, *img0.stride(), *img1.stride(), BLOCK_SIZE=_PACK_BLOCK_SIZE)
    grid = (b * t * (hs + 1), triton.cdiv(ws + 1, _PACK_BLOCK_SIZE))
    _pack_maps[grid](flow0, flow1, mask, residual, maps, t, h, w, hs, ws, *strides, BLOCK_SIZE=_PACK_BLOCK_SIZE)
    _draw[(b * t * -(-h // ROWS) * -(-w // BLOCK_X),)](
        images, maps, out, t, h, w, hs, ws, h * w, LEVELS=largest, USE_INT64=wide, BLOCK_X=BLOCK_X, ROWS=ROWS
    )
    return out
