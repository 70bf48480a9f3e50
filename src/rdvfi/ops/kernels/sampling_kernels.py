"""Pieces that the kernels share: tiles of pixels and bilinear look-ups.

A program instance works on a tile of ``BLOCK_Y`` by ``BLOCK_X`` pixels of one sample. Pixels of a
tile row are neighbours in memory, so loads and stores are coalesced, and look-ups of a smooth flow
stay within a few rows of the image, which the caches hold.

Sizes and pixel numbers of one plane are 32-bit; every offset in memory is 64-bit, for a batch of
large frames has more elements than 32 bits can count. Coordinates and values are float32.
"""

from typing import no_type_check

import triton
import triton.language as tl

BLOCK_Y, BLOCK_X = tl.constexpr(8), tl.constexpr(64)
"""Pixels of one program instance."""


def launch_grid(n: int, height: int, width: int) -> tuple[int]:
    """The launch grid: one instance for every `tile` of every sample."""
    return (n * -(-height // BLOCK_Y.value) * -(-width // BLOCK_X.value),)


@triton.jit
@no_type_check
def tile(height, width):
    """This instance's share of the work, with instances numbered over samples, then tiles.

    Returns:
        ``(n, y, x, inside)``: the sample, 64-bit; the rows (BLOCK_Y, 1) and columns (1, BLOCK_X)
        of the tile, 32-bit; and which of its pixels lie in the picture.
    """
    return sized_tile(height, width, BLOCK_Y, BLOCK_X)


@triton.jit
@no_type_check
def sized_tile(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The same with tiles of another size."""
    tiles_x = (width + COLUMNS - 1) // COLUMNS
    tiles_y = (height + ROWS - 1) // ROWS
    index = tl.program_id(0)
    n = (index // (tiles_x * tiles_y)).to(tl.int64)
    y = (index // tiles_x % tiles_y * ROWS + tl.arange(0, ROWS))[:, None]
    x = (index % tiles_x * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    return n, y, x, (y < height) & (x < width)


@triton.jit
@no_type_check
def zeros():
    """A float32 zero for every pixel of a tile."""
    return tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)


@triton.jit
@no_type_check
def load(plane, y, x, stride_h, stride_w, mask):
    """Elements ``(y, x)`` of the plane at pointer ``plane``, as float32; 0 where not ``mask``."""
    offset = y.to(tl.int64) * stride_h + x.to(tl.int64) * stride_w
    return tl.load(plane + offset, mask=mask, other=0.0).to(tl.float32)


@triton.jit
@no_type_check
def load_clamped(plane, y, x, height, width, mask):
    """Elements of a contiguous plane, as float32; its borders are replicated."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    return load(plane, y, x, width, 1, mask)


@triton.jit
@no_type_check
def vector_length(x, y):
    """Of vectors; see `rdvfi.geometry.flow_length`."""
    return tl.sqrt(tl.maximum(x * x + y * y, 1e-24))


@triton.jit
@no_type_check
def reduce_sum(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, tl.standard._sum_combine)


@triton.jit
@no_type_check
def store_pair(out, plane, x, y, mask):
    """Store two values, ``plane`` elements apart, in the type of ``out``."""
    tl.store(out, x.to(out.dtype.element_ty), mask=mask)
    tl.store(out + plane, y.to(out.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def corners(x, y, height, width):
    """The four pixels around the float32 position ``(x, y)``, which is clamped to the picture.

    Borders are replicated thereby. A position that is not a number becomes 0.

    Returns:
        ``(x0, y0, x1, y1, fx, fy)``: the corners' columns and rows, 32-bit and always valid, and
        how far the position lies from the first towards the second, in [0, 1).
    """
    x = tl.where(x > 0.0, tl.minimum(x, width - 1.0), 0.0)
    y = tl.where(y > 0.0, tl.minimum(y, height - 1.0), 0.0)
    left, top = tl.floor(x), tl.floor(y)
    x0, y0 = left.to(tl.int32), top.to(tl.int32)
    x1, y1 = tl.minimum(x0 + 1, width - 1), tl.minimum(y0 + 1, height - 1)
    return x0, y0, x1, y1, x - left, y - top


@triton.jit
@no_type_check
def bilinear(plane, point, stride_h, stride_w, mask):
    """The plane at pointer ``plane`` seen between four `corners`, as float32."""
    x0, y0, x1, y1, fx, fy = point
    top_left = load(plane, y0, x0, stride_h, stride_w, mask)
    top_right = load(plane, y0, x1, stride_h, stride_w, mask)
    bottom_left = load(plane, y1, x0, stride_h, stride_w, mask)
    bottom_right = load(plane, y1, x1, stride_h, stride_w, mask)
    top = top_left + fx * (top_right - top_left)
    bottom = bottom_left + fx * (bottom_right - bottom_left)
    return top + fy * (bottom - top)


@triton.jit
@no_type_check
def bilinear_pair(plane, apart, x, y, height, width, stride_h, stride_w, mask):
    """Two planes, ``apart`` elements from each other, at the float32 position ``(x, y)``."""
    point = corners(x, y, height, width)
    first = bilinear(plane, point, stride_h, stride_w, mask)
    return first, bilinear(plane + apart, point, stride_h, stride_w, mask)


@triton.jit
@no_type_check
def round_trip(flow, back, apart, y, x, height, width, stride_h, stride_w, mask):
    """A flow at pixels, and by how much its way there, and back by the other one, misses: u, v, x and y."""
    u, v = load(flow, y, x, stride_h, stride_w, mask), load(flow + apart, y, x, stride_h, stride_w, mask)
    miss_x, miss_y = bilinear_pair(back, apart, x + u, y + v, height, width, stride_h, stride_w, mask)
    return u, v, u + miss_x, v + miss_y


@triton.jit
@no_type_check
def coarse_corners(y, x, height, width, rows, columns):
    """`corners` of pixels on a coarser grid of ``rows`` by ``columns``, half-pixel centres."""
    at_x = (x + 0.5) * (columns * 1.0 / width) - 0.5 + y * 0.0
    at_y = (y + 0.5) * (rows * 1.0 / height) - 0.5 + x * 0.0
    return corners(at_x, at_y, rows, columns)


@triton.jit
@no_type_check
def window_mean(plane, y, x, height, width, mask, SIDE: tl.constexpr):
    """Mean of a contiguous plane over windows, of as much of them as is in the picture."""
    total = zeros()
    count = total
    for k in range(SIDE * SIDE):
        row, column = y + k // SIDE - SIDE // 2, x + k % SIDE - SIDE // 2
        there = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        total += load(plane, row, column, width, 1, there)
        count += there.to(tl.float32)
    return total / tl.maximum(count, 1.0)


@triton.jit
@no_type_check
def atomic_add(plane, y, x, width, part, mask):
    """Add ``part`` to elements ``(y, x)`` of a contiguous plane, atomically.

    What is zero is not added at all: the far corners of a whole-pixel flow cost nothing.
    """
    offset = y.to(tl.int64) * width + x
    tl.atomic_add(plane + offset, part, mask=mask & (part != 0), sem="relaxed")
