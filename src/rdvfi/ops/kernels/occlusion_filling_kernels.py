"""Occlusion filling on CUDA: `rdvfi.motion.flow.occlusion_filling` on states of patches, in three launches.

Per patch: its consistency reads 2 values and eight of the opposite flow; extrapolation reads 4 values of each of 24
neighbours and 5 pixels for each of its own 64, for its residual after it. States are (n, 7, p), see
`rdvfi.motion.flow.patch_search`.
"""

import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.patch_states_kernels import deviation, load_state, patch_geometry, store_state, warp_patches
from rdvfi.ops.kernels.sampling_kernels import bilinear_pair, load_clamped, load_pair, reduce_sum, vector_length


@jit
def _consistency(
    states, out, samples, columns, rows, absolute, relative, STRIDE: tl.constexpr, BLOCK_SIZE: tl.constexpr
):
    """Forward-backward consistency of patches, in (0, 1]; see `rdvfi.motion.flow.occlusion_filling`."""
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = p < count
    elements = states + n * 7 * count + p
    u, v = load_pair(elements, count, mask)
    x, y = p % columns + u / STRIDE, p // columns + v / STRIDE
    opposite = states + (n + samples // 2) % samples * 7 * count
    back_u, back_v = bilinear_pair(opposite, count, x, y, rows, columns, columns, 1, mask)
    error = vector_length(u + back_u, v + back_v) / (
        absolute + relative * (vector_length(u, v) + vector_length(back_u, back_v))
    )
    tl.store(out + n * count + p, 1.0 / (1.0 + error * error * error * error), mask=mask)


@jit
def _neighbour_mean(
    states, consistent, brightness, row, column, rows, columns, mask, sigma, NEAR: tl.constexpr, FAR: tl.constexpr,
    FARTHEST: tl.constexpr,
):  # fmt: skip
    """Mean motion of consistent neighbours of similar brightness, and the sum of their weights."""
    count = rows * columns
    neighbour = tl.arange(0, 32)[None, :]  # 24 neighbours: eight directions at each of three distances
    distance = tl.where(neighbour < 8, NEAR, tl.where(neighbour < 16, FAR, FARTHEST))
    direction = neighbour % 8 + tl.where(neighbour % 8 > 3, 1, 0)  # of nine cells, without the one in the middle
    near_row = tl.minimum(tl.maximum(row[:, None] + distance * (direction // 3 - 1), 0), rows - 1)
    near_column = tl.minimum(tl.maximum(column[:, None] + distance * (direction % 3 - 1), 0), columns - 1)
    near, near_mask = near_row * columns + near_column, mask[:, None] & (neighbour < 24)
    own_brightness = tl.load(brightness + row * columns + column, mask=mask, other=0.0)[:, None]
    difference = (tl.load(brightness + near, mask=near_mask, other=0.0) - own_brightness) / sigma
    weight = tl.load(consistent + near, mask=near_mask, other=0.0) * tl.exp(-difference * difference) / distance
    total = reduce_sum(weight, 1)
    sum_u = reduce_sum(weight * tl.load(states + near, mask=near_mask, other=0.0), 1)
    sum_v = reduce_sum(weight * tl.load(states + count + near, mask=near_mask, other=0.0), 1)
    return sum_u / tl.maximum(total, 1e-6), sum_v / tl.maximum(total, 1e-6), total


@jit
def _extrapolate(
    image, states, consistent, brightness, out, weights, samples, height, width, columns, rows, sigma, half_weight,
    NEAR: tl.constexpr, FAR: tl.constexpr, FARTHEST: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Inconsistent patches take the mean motion of consistent ones; stored with their new weights, by the residual."""
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    patch = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = patch < count
    states += n * 7 * count
    consistent += n * count
    mean_u, mean_v, total = _neighbour_mean(
        states, consistent, brightness + n * count, patch // columns, patch % columns, rows, columns, mask, sigma,
        NEAR, FAR, FARTHEST,
    )  # fmt: skip
    blend = (1.0 - tl.load(consistent + patch, mask=mask, other=0.0)) * total / (total + half_weight)
    u, v, ux, vx, uy, vy, penalty = load_state(states + patch, count, mask)
    u, v = u + blend * (mean_u - u), v + blend * (mean_v - v)
    ux, vx, uy, vy = (1.0 - blend) * ux, (1.0 - blend) * vx, (1.0 - blend) * uy, (1.0 - blend) * vy
    state = u, v, ux, vx, uy, vy, penalty
    left, top, centre = patch_geometry(patch, columns, STRIDE, SIDE)
    pixel = tl.arange(0, SIDE * SIDE)[None, :]
    i, j = pixel // SIDE, pixel % SIDE
    values = load_clamped(image + n * height * width, top[:, None] + i, left[:, None] + j, height, width, mask[:, None])
    other = image + (n + samples // 2) % samples * height * width
    warped = warp_patches(other, centre, (j - (SIDE - 1) / 2.0, i - (SIDE - 1) / 2.0), state, height, width, mask)
    residual = tl.maximum(deviation(warped - values, SIDE * SIDE), 1.0)
    tl.store(weights + n * count + patch, 1.0 / (residual * residual), mask=mask)
    store_state(out + n * 7 * count + patch, state, count, mask)


def fill_states(
    luma: Tensor,
    states: Tensor,
    brightness: Tensor,
    counts: tuple[int, int],
    *,
    tolerance: tuple[float, float],
    sigma: float,
    distances: tuple[int, int, int],
    half_weight: float,
    stride: int,
    side: int,
    patches: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """States (n, 7, p) after filling, the weights of patches by their residual, and their consistency.

    ``brightness`` is the mean of each patch, ``counts`` are the rows and columns of patches, and ``patches`` the number
    of one program instance; for the rest see `rdvfi.motion.flow.occlusion_filling`.
    """
    n, _, h, w = luma.shape
    rows, columns = counts
    blocks = -(-rows * columns // patches)
    out = states.new_empty(states.shape)
    consistent, weights = states.new_empty((2, n, rows * columns)).unbind()
    grid = (n, columns, rows, *tolerance)
    _consistency[blocks, n](states, consistent, *grid, STRIDE=stride, BLOCK_SIZE=patches)
    near, far, farthest = distances
    _extrapolate[blocks, n](
        luma, states, consistent, brightness, out, weights, n, h, w, columns, rows, sigma, half_weight,
        NEAR=near, FAR=far, FARTHEST=farthest, STRIDE=stride, SIDE=side, BLOCK_SIZE=patches,
    )  # fmt: skip
    _consistency[blocks, n](out, consistent, *grid, STRIDE=stride, BLOCK_SIZE=patches)
    return out, weights, consistent
