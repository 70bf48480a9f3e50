"""States of patches on CUDA: what the kernels of the patch search begin with, share, and end with.

See `rdvfi.ops.kernels.patch_search_kernels`, which counts them. The fit reads 256 values of the guess a patch and
component; the dense flow reads four states, four weights and five pixels per pixel and writes 8 bytes.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, load, load_clamped, reduce_sum, tile, zeros


@triton.jit
@no_type_check
def seen_by(image, centre_x, centre_y, x, y, u, v, ux, vx, uy, vy, height, width, mask):
    """A picture where patches (p, 1) lead their pixels (1, k)."""
    to_x = centre_x + u + (1.0 + ux) * x + uy * y
    to_y = centre_y + v + vx * x + (1.0 + vy) * y
    point = corners(to_x, to_y, height, width)
    return bilinear(image, point, width, 1, mask)


@triton.jit
@no_type_check
def deviation(error, count):
    """Standard deviation of the errors of each patch."""
    mean = reduce_sum(error, 1) / count
    return tl.sqrt(tl.maximum(reduce_sum(error * error, 1) / count - mean * mean, 1e-4))


@triton.jit
@no_type_check
def outside_share(centre_x, centre_y, u, v, height, width, SIDE: tl.constexpr):
    """The share of a patch that has left the picture, by its centre."""
    x = tl.abs(centre_x + u - (width - 1.0) / 2.0) - width / 2.0
    y = tl.abs(centre_y + v - (height - 1.0) / 2.0) - height / 2.0
    return tl.minimum(tl.maximum(tl.maximum(x, y) / SIDE + 0.5, 0.0), 1.0)


@triton.jit
@no_type_check
def load_state(at, count, mask):
    """The seven values of states that lie ``count`` apart."""
    u, v = tl.load(at, mask=mask, other=0.0), tl.load(at + count, mask=mask, other=0.0)
    ux, vx = tl.load(at + 2 * count, mask=mask, other=0.0), tl.load(at + 3 * count, mask=mask, other=0.0)
    uy, vy = tl.load(at + 4 * count, mask=mask, other=0.0), tl.load(at + 5 * count, mask=mask, other=0.0)
    return u, v, ux, vx, uy, vy, tl.load(at + 6 * count, mask=mask, other=0.0)


@triton.jit
@no_type_check
def store_state(at, u, v, ux, vx, uy, vy, penalty, count, mask):
    """The reverse of `load_state`."""
    tl.store(at, u, mask=mask)
    tl.store(at + count, v, mask=mask)
    tl.store(at + 2 * count, ux, mask=mask)
    tl.store(at + 3 * count, vx, mask=mask)
    tl.store(at + 4 * count, uy, mask=mask)
    tl.store(at + 5 * count, vy, mask=mask)
    tl.store(at + 6 * count, penalty, mask=mask)


@triton.jit
@no_type_check
def fit(
    flow, out, samples, height, width, columns, rows, flow_stride_n, flow_stride_c, flow_stride_h, flow_stride_w,
    BEYOND: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr, PATCHES: tl.constexpr,
):  # fmt: skip
    """The affine flow of every patch by least squares; slopes are taken over twice its side."""
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    p = (tl.program_id(0) * PATCHES + tl.arange(0, PATCHES))[:, None]
    mask = p < count
    wide: tl.constexpr = SIDE + 2 * BEYOND
    k = tl.arange(0, wide * wide)[None, :]
    i, j = k // wide, k % wide
    y = tl.minimum(tl.maximum(p // columns * STRIDE - BEYOND + i, 0), height - 1)
    x = tl.minimum(tl.maximum(p % columns * STRIDE - BEYOND + j, 0), width - 1)
    dx, dy = j - (wide - 1) / 2.0, i - (wide - 1) / 2.0
    squares: tl.constexpr = wide * (wide * wide - 1) / 12.0  # of one line's places
    middle = tl.where((tl.abs(dx) < SIDE / 2.0) & (tl.abs(dy) < SIDE / 2.0), 1.0 / (SIDE * SIDE), 0.0)
    at = out + n * 7 * count + p
    for c in tl.static_range(2):
        value = load(flow + n * flow_stride_n + c * flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask)
        tl.store(at + c * count, reduce_sum(value * middle, 1)[:, None], mask=mask)
        tl.store(at + (2 + c) * count, (reduce_sum(value * dx, 1) / (squares * wide))[:, None], mask=mask)
        tl.store(at + (4 + c) * count, (reduce_sum(value * dy, 1) / (squares * wide))[:, None], mask=mask)
    tl.store(at + 6 * count, tl.full((PATCHES, 1), 0.0, tl.float32), mask=mask)


@triton.jit
@no_type_check
def slopes(image, y, x, height, width, mask):
    """Scharr's derivatives of a picture at whole pixels, per pixel."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    top_left, top = (
        load_clamped(image, y - 1, x - 1, height, width, mask),
        load_clamped(image, y - 1, x, height, width, mask),
    )
    top_right = load_clamped(image, y - 1, x + 1, height, width, mask)
    left, right = load_clamped(image, y, x - 1, height, width, mask), load_clamped(image, y, x + 1, height, width, mask)
    low_left, low = (
        load_clamped(image, y + 1, x - 1, height, width, mask),
        load_clamped(image, y + 1, x, height, width, mask),
    )
    low_right = load_clamped(image, y + 1, x + 1, height, width, mask)
    across = 3.0 * (top_right - top_left + low_right - low_left) + 10.0 * (right - left)
    down = 3.0 * (low_left - top_left + low_right - top_right) + 10.0 * (low - top)
    return across / 32.0, down / 32.0


@triton.jit
@no_type_check
def flow_of(
    image, states, weights, consistent, out, samples, height, width, columns, rows, inconsistent, STRIDE: tl.constexpr,
    SIDE: tl.constexpr,
):  # fmt: skip
    """Flow of every pixel: the mean of its patches, of which those count more that explain it."""
    n, y, x, mask = tile(height, width)
    count = rows * columns
    states += n * 7 * count
    here = load(image + n * height * width, y, x, width, 1, mask)
    other = image + (n + samples // 2) % samples * height * width
    total = zeros()
    sum_u, sum_v = total, total
    for k in tl.static_range((SIDE // STRIDE) * (SIDE // STRIDE)):
        row, column = y // STRIDE - k // (SIDE // STRIDE), x // STRIDE - k % (SIDE // STRIDE)
        there = mask & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        p = row * columns + column
        u, v, ux, vx, uy, vy, _ = load_state(states + p, count, there)
        dx, dy = x - column * STRIDE - (SIDE - 1) / 2.0, y - row * STRIDE - (SIDE - 1) / 2.0
        u += ux * dx + uy * dy
        v += vx * dx + vy * dy
        point = corners(x + u, y + v, height, width)
        error = tl.abs(bilinear(other, point, width, 1, there) - here)
        weight = tl.load(weights + n * count + p, mask=there, other=0.0) / tl.maximum(error, 1.0)
        weight *= tl.load(consistent + n * count + p, mask=there, other=0.0) + inconsistent
        total += weight
        sum_u += weight * u
        sum_v += weight * v
    total = tl.where(mask, total, 1.0)
    out += (n * 2 * height + y) * width + x
    tl.store(out, sum_u / total, mask=mask)
    tl.store(out + height * width, sum_v / total, mask=mask)


@triton.jit
@no_type_check
def _motions(shift, transforms, out, count, scale, finer, unlikely):
    """States of the dominant shift (instance 0) and of each transform, at the upper left pixel."""
    g, n = tl.program_id(0), tl.program_id(1)
    out += (n * (count + 1) + g) * 7
    whole = g == 0
    own = transforms + (n * count + tl.maximum(g - 1, 0)) * 5
    kx, ky = tl.where(whole, 0.0, tl.load(own) - 1.0), tl.where(whole, 0.0, tl.load(own + 1))
    z = 0.5 * scale - 0.5  # the middle of that pixel, in pixels of the pictures
    u, v = (kx * z - ky * z + tl.load(own + 2)) / scale, (kx * z + ky * z + tl.load(own + 3)) / scale
    tl.store(out, tl.where(whole, finer * tl.load(shift + n * 3), u))
    tl.store(out + 1, tl.where(whole, finer * tl.load(shift + n * 3 + 1), v))
    tl.store(out + 2, kx)
    tl.store(out + 3, ky)
    tl.store(out + 4, -ky)
    tl.store(out + 5, kx)
    tl.store(out + 6, tl.where(whole, tl.load(shift + n * 3 + 2), unlikely * (1.0 - tl.load(own + 4))))


def common_motions(shift: Tensor, transforms: Tensor, scale: int, *, unlikely: float, coarsest: int) -> Tensor:
    """See `rdvfi.motion.flow.patch_search.common_motions`."""
    shift, transforms = shift.contiguous(), transforms.contiguous()
    n, count, _ = transforms.shape
    out = shift.new_empty((n, count + 1, 7))
    _motions[count + 1, n](shift, transforms, out, count, float(scale), coarsest / scale, unlikely)
    return out
