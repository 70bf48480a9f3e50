# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Pieces that the kernels share: tiles of pixels and bilinear look-ups.

A program instance works on a tile of ``BLOCK_Y`` by ``BLOCK_X`` pixels of one sample. Pixels of a
tile row are neighbours in memory, so loads and stores are coalesced, and look-ups of a smooth flow
stay within a few rows of the image, which the caches hold.

Sizes and pixel numbers of one plane are 32-bit; every offset in memory is 64-bit, for a batch of
large frames has more elements than 32 bits can count. Coordinates and values are float32.
"""

import triton.language as tl

from rdvfi.ops.kernels.jit import jit

BLOCK_Y, BLOCK_X = tl.constexpr(8), tl.constexpr(64)
"""Pixels of one program instance."""


def launch_grid(n: int, height: int, width: int) -> tuple[int]:
    """The launch grid: one instance for every `tile` of every sample."""
    return (n * -(-height // BLOCK_Y.value) * -(-width // BLOCK_X.value),)


@jit
def tile(height, width):
    """The tile of pixels of this program instance; instances are numbered over samples, then tiles.

    Returns:
        ``(n, y, x, mask)``: the sample, 64-bit; the rows (BLOCK_Y, 1) and columns (1, BLOCK_X)
        of the tile, 32-bit; and which of its pixels lie in the picture.
    """
    return sized_tile(height, width, BLOCK_Y, BLOCK_X)


@jit
def sized_tile(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """`tile` with another size."""
    tiles_x = (width + COLUMNS - 1) // COLUMNS
    tiles_y = (height + ROWS - 1) // ROWS
    pid = tl.program_id(0)
    n = (pid // (tiles_x * tiles_y)).to(tl.int64)
    y = (pid // tiles_x % tiles_y * ROWS + tl.arange(0, ROWS))[:, None]
    x = (pid % tiles_x * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    return n, y, x, (y < height) & (x < width)


@jit
def zeros():
    """A float32 zero for every pixel of a tile."""
    return tl.full((BLOCK_Y, BLOCK_X), 0.0, tl.float32)


@jit
def load(plane, y, x, stride_h, stride_w, mask):
    """Elements ``(y, x)`` of the plane at pointer ``plane``, as float32; 0 where not ``mask``."""
    offset = y.to(tl.int64) * stride_h + x.to(tl.int64) * stride_w
    return tl.load(plane + offset, mask=mask, other=0.0).to(tl.float32)


@jit
def load_clamped(plane, y, x, height, width, mask):
    """Elements of a contiguous plane, as float32; its borders are replicated."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    return load(plane, y, x, width, 1, mask)


@jit
def vector_length(x, y):
    """Length of vectors; see `rdvfi.geometry.flow_length`."""
    return tl.sqrt(tl.maximum(x * x + y * y, 1e-24))


@jit
def reduce_sum(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, tl.standard._sum_combine)


@jit
def load_pair(elements, plane_size, mask):
    """Elements of two planes, ``plane_size`` apart."""
    return tl.load(elements, mask=mask, other=0.0), tl.load(elements + plane_size, mask=mask, other=0.0)


@jit
def load_four(elements, plane_size, mask):
    """Elements of four planes, ``plane_size`` apart, such as the flows to both ends."""
    first, second = load_pair(elements, plane_size, mask)
    third, fourth = load_pair(elements + 2 * plane_size, plane_size, mask)
    return first, second, third, fourth


@jit
def store_pair(out, plane_size, x, y, mask):
    """Store two values, ``plane_size`` elements apart, in the type of ``out``."""
    tl.store(out, x.to(out.dtype.element_ty), mask=mask)
    tl.store(out + plane_size, y.to(out.dtype.element_ty), mask=mask)


@jit
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


@jit
def bilinear(plane, point, stride_h, stride_w, mask):
    """The plane at pointer ``plane``, interpolated between four `corners`, as float32."""
    x0, y0, x1, y1, fx, fy = point
    top_left = load(plane, y0, x0, stride_h, stride_w, mask)
    top_right = load(plane, y0, x1, stride_h, stride_w, mask)
    bottom_left = load(plane, y1, x0, stride_h, stride_w, mask)
    bottom_right = load(plane, y1, x1, stride_h, stride_w, mask)
    top = top_left + fx * (top_right - top_left)
    bottom = bottom_left + fx * (bottom_right - bottom_left)
    return top + fy * (bottom - top)


@jit
def bilinear_pair(plane, plane_size, x, y, height, width, stride_h, stride_w, mask):
    """Two planes, ``plane_size`` elements from each other, at the float32 position ``(x, y)``."""
    point = corners(x, y, height, width)
    first = bilinear(plane, point, stride_h, stride_w, mask)
    return first, bilinear(plane + plane_size, point, stride_h, stride_w, mask)


@jit
def round_trip(flow, opposite, plane_size, y, x, height, width, stride_h, stride_w, mask):
    """A flow at pixels, (u, v), and its forward-backward error with the opposite flow, (x, y)."""
    u, v = load(flow, y, x, stride_h, stride_w, mask), load(flow + plane_size, y, x, stride_h, stride_w, mask)
    miss_x, miss_y = bilinear_pair(opposite, plane_size, x + u, y + v, height, width, stride_h, stride_w, mask)
    return u, v, u + miss_x, v + miss_y


@jit
def coarse_corners(y, x, height, width, rows, columns):
    """`corners` of pixels on a coarser grid of ``rows`` by ``columns``, half-pixel centres."""
    position_x = (x + 0.5) * (columns * 1.0 / width) - 0.5 + y * 0.0
    position_y = (y + 0.5) * (rows * 1.0 / height) - 0.5 + x * 0.0
    return corners(position_x, position_y, rows, columns)


@jit
def window_mean(plane, y, x, height, width, mask, WINDOW: tl.constexpr):
    """Mean of a contiguous plane over windows, within the image."""
    total = zeros()
    count = total
    for k in range(WINDOW * WINDOW):
        row, column = y + k // WINDOW - WINDOW // 2, x + k % WINDOW - WINDOW // 2
        tap_mask = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        total += load(plane, row, column, width, 1, tap_mask)
        count += tap_mask.to(tl.float32)
    return total / tl.maximum(count, 1.0)


@jit
def atomic_add(plane, y, x, width, value, mask):
    """Add ``value`` to elements ``(y, x)`` of a contiguous plane, atomically.

    Zeros are not added, so the far corners of an integer flow cost nothing.
    """
    offset = y.to(tl.int64) * width + x
    tl.atomic_add(plane + offset, value, mask=mask & (value != 0), sem="relaxed")
