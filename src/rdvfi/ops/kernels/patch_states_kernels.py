# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""States of patches on CUDA: what the kernels of the patch search begin with, share, and end with.

See `rdvfi.ops.kernels.patch_search_kernels`, which counts them. The fit reads 256 values of the guess a patch and
component; the dense flow reads four states, four weights and five pixels per pixel and writes 8 bytes.
"""

import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, load, load_clamped, load_four, reduce_sum, tile, zeros


@jit
def patch_geometry(patch, columns, STRIDE: tl.constexpr, SIDE: tl.constexpr):
    """Left column and top row of patches, and their centre (x, y)."""
    left, top = patch % columns * STRIDE, patch // columns * STRIDE
    return left, top, (left + (SIDE - 1) / 2.0, top + (SIDE - 1) / 2.0)


@jit
def warp_patches(image, centre, offsets, state, height, width, mask):
    """An image sampled where patches (p,) in a state move their pixels, at ``offsets`` (1, k) from the centre."""
    centre_x, centre_y = centre
    x, y = offsets
    u, v, ux, vx, uy, vy, _ = state
    target_x = (centre_x + u)[:, None] + (1.0 + ux)[:, None] * x + uy[:, None] * y
    target_y = (centre_y + v)[:, None] + vx[:, None] * x + (1.0 + vy)[:, None] * y
    return bilinear(image, corners(target_x, target_y, height, width), width, 1, mask[:, None])


@jit
def deviation(error, count):
    """Standard deviation of the errors of each patch."""
    mean = reduce_sum(error, 1) / count
    return tl.sqrt(tl.maximum(reduce_sum(error * error, 1) / count - mean * mean, 1e-4))


@jit
def outside_share(centre, u, v, height, width, SIDE: tl.constexpr):
    """The share of a patch that a shift moves out of the picture, by its centre."""
    centre_x, centre_y = centre
    x = tl.abs(centre_x + u - (width - 1.0) / 2.0) - width / 2.0
    y = tl.abs(centre_y + v - (height - 1.0) / 2.0) - height / 2.0
    return tl.minimum(tl.maximum(tl.maximum(x, y) / SIDE + 0.5, 0.0), 1.0)


@jit
def load_state(elements, count, mask):
    """The seven values of states, ``count`` elements apart."""
    u, v, ux, vx = load_four(elements, count, mask)
    uy, vy = tl.load(elements + 4 * count, mask=mask, other=0.0), tl.load(elements + 5 * count, mask=mask, other=0.0)
    return u, v, ux, vx, uy, vy, tl.load(elements + 6 * count, mask=mask, other=0.0)


@jit
def store_state(elements, state, count, mask):
    """The reverse of `load_state`."""
    u, v, ux, vx, uy, vy, penalty = state
    tl.store(elements, u, mask=mask)
    tl.store(elements + count, v, mask=mask)
    tl.store(elements + 2 * count, ux, mask=mask)
    tl.store(elements + 3 * count, vx, mask=mask)
    tl.store(elements + 4 * count, uy, mask=mask)
    tl.store(elements + 5 * count, vy, mask=mask)
    tl.store(elements + 6 * count, penalty, mask=mask)


@jit
def fit_patches(
    flow, out, samples, height, width, columns, rows, stride_n, stride_c, stride_h, stride_w, MARGIN: tl.constexpr,
    STRIDE: tl.constexpr, SIDE: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """The affine flow of every patch by least squares; slopes are taken over twice its side."""
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    patch = (tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE))[:, None]
    mask = patch < count
    window: tl.constexpr = SIDE + 2 * MARGIN
    pixel_index = tl.arange(0, window * window)[None, :]
    i, j = pixel_index // window, pixel_index % window
    y = tl.minimum(tl.maximum(patch // columns * STRIDE - MARGIN + i, 0), height - 1)
    x = tl.minimum(tl.maximum(patch % columns * STRIDE - MARGIN + j, 0), width - 1)
    dx, dy = j - (window - 1) / 2.0, i - (window - 1) / 2.0
    variance_sum: tl.constexpr = window * (window * window - 1) / 12.0  # of one line's places
    mean_weight = tl.where((tl.abs(dx) < SIDE / 2.0) & (tl.abs(dy) < SIDE / 2.0), 1.0 / (SIDE * SIDE), 0.0)
    elements = out + n * 7 * count + patch
    for c in tl.static_range(2):
        value = load(flow + n * stride_n + c * stride_c, y, x, stride_h, stride_w, mask)
        tl.store(elements + c * count, reduce_sum(value * mean_weight, 1)[:, None], mask=mask)
        tl.store(elements + (2 + c) * count, (reduce_sum(value * dx, 1) / (variance_sum * window))[:, None], mask=mask)
        tl.store(elements + (4 + c) * count, (reduce_sum(value * dy, 1) / (variance_sum * window))[:, None], mask=mask)
    tl.store(elements + 6 * count, tl.full((BLOCK_SIZE, 1), 0.0, tl.float32), mask=mask)


@jit
def scharr_gradients(image, y, x, height, width, mask):
    """Scharr's derivatives of a picture at whole pixels, per pixel."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    top_left = load_clamped(image, y - 1, x - 1, height, width, mask)
    top = load_clamped(image, y - 1, x, height, width, mask)
    top_right = load_clamped(image, y - 1, x + 1, height, width, mask)
    left, right = load_clamped(image, y, x - 1, height, width, mask), load_clamped(image, y, x + 1, height, width, mask)
    bottom_left = load_clamped(image, y + 1, x - 1, height, width, mask)
    bottom = load_clamped(image, y + 1, x, height, width, mask)
    bottom_right = load_clamped(image, y + 1, x + 1, height, width, mask)
    across = 3.0 * (top_right - top_left + bottom_right - bottom_left) + 10.0 * (right - left)
    down = 3.0 * (bottom_left - top_left + bottom_right - top_right) + 10.0 * (bottom - top)
    return across / 32.0, down / 32.0


@jit
def dense_flow(
    image, states, weights, consistent, out, samples, height, width, columns, rows, inconsistent, STRIDE: tl.constexpr,
    SIDE: tl.constexpr,
):  # fmt: skip
    """Flow of every pixel: the mean of its patches, weighted by consistency and by inverse residuals."""
    n, y, x, mask = tile(height, width)
    count = rows * columns
    states += n * 7 * count
    value = load(image + n * height * width, y, x, width, 1, mask)
    other_image = image + (n + samples // 2) % samples * height * width
    total = zeros()
    sum_u, sum_v = total, total
    for patch_number in tl.static_range((SIDE // STRIDE) * (SIDE // STRIDE)):
        row, column = y // STRIDE - patch_number // (SIDE // STRIDE), x // STRIDE - patch_number % (SIDE // STRIDE)
        patch_mask = mask & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        patch = row * columns + column
        u, v, ux, vx, uy, vy, _ = load_state(states + patch, count, patch_mask)
        dx, dy = x - column * STRIDE - (SIDE - 1) / 2.0, y - row * STRIDE - (SIDE - 1) / 2.0
        u += ux * dx + uy * dy
        v += vx * dx + vy * dy
        point = corners(x + u, y + v, height, width)
        error = tl.abs(bilinear(other_image, point, width, 1, patch_mask) - value)
        weight = tl.load(weights + n * count + patch, mask=patch_mask, other=0.0) / tl.maximum(error, 1.0)
        weight *= tl.load(consistent + n * count + patch, mask=patch_mask, other=0.0) + inconsistent
        total += weight
        sum_u += weight * u
        sum_v += weight * v
    total = tl.where(mask, total, 1.0)
    out += (n * 2 * height + y) * width + x
    tl.store(out, sum_u / total, mask=mask)
    tl.store(out + height * width, sum_v / total, mask=mask)


@jit
def _common_motions(shift, transforms, out, count, scale, scale_ratio, disagreement_penalty):
    """States of the dominant shift (instance 0) and of each transform, at the upper left pixel."""
    motion, n = tl.program_id(0), tl.program_id(1)
    out += (n * (count + 1) + motion) * 7
    is_shift = motion == 0
    transform = transforms + (n * count + tl.maximum(motion - 1, 0)) * 5
    scale_x = tl.where(is_shift, 0.0, tl.load(transform) - 1.0)
    rotation = tl.where(is_shift, 0.0, tl.load(transform + 1))
    origin = 0.5 * scale - 0.5  # the middle of that pixel, in pixels of the pictures
    u = (scale_x * origin - rotation * origin + tl.load(transform + 2)) / scale
    v = (scale_x * origin + rotation * origin + tl.load(transform + 3)) / scale
    tl.store(out, tl.where(is_shift, scale_ratio * tl.load(shift + n * 3), u))
    tl.store(out + 1, tl.where(is_shift, scale_ratio * tl.load(shift + n * 3 + 1), v))
    tl.store(out + 2, scale_x)
    tl.store(out + 3, rotation)
    tl.store(out + 4, -rotation)
    tl.store(out + 5, scale_x)
    tl.store(
        out + 6, tl.where(is_shift, tl.load(shift + n * 3 + 2), disagreement_penalty * (1.0 - tl.load(transform + 4)))
    )


def common_motions(
    shift: Tensor, transforms: Tensor, scale: int, *, disagreement_penalty: float, coarsest_scale: int
) -> Tensor:
    """See `rdvfi.motion.flow.patch_search.common_motions`."""
    shift, transforms = shift.contiguous(), transforms.contiguous()
    n, count, _ = transforms.shape
    out = shift.new_empty((n, count + 1, 7))
    _common_motions[count + 1, n](
        shift, transforms, out, count, float(scale), coarsest_scale / scale, disagreement_penalty
    )
    return out
