"""Occlusion filling on CUDA: `rdvfi.motion.flow.occlusion_filling` on states of patches, in three launches.

Per patch: its consistency reads 2 values and eight of the opposite flow; extrapolation reads 4 values of each of 24
neighbours and 5 pixels for each of its own 64, for its residual after it. States are (n, 7, p), see
`rdvfi.motion.flow.patch_search`.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.patch_states_kernels import deviation, load_state, seen_by, store_state
from rdvfi.ops.kernels.sampling_kernels import bilinear_pair, load_clamped, reduce_sum, vector_length


@triton.jit
@no_type_check
def _consistency(states, out, samples, columns, rows, absolute, relative, STRIDE: tl.constexpr, PATCHES: tl.constexpr):
    """How far the motion of a patch and that of where it leads cancel, see `rdvfi.motion.flow.occlusion_filling`."""
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    mask = p < count
    at = states + n * 7 * count + p
    u, v = tl.load(at, mask=mask, other=0.0), tl.load(at + count, mask=mask, other=0.0)
    x, y = p % columns + u / STRIDE, p // columns + v / STRIDE
    back = states + (n + samples // 2) % samples * 7 * count
    back_u, back_v = bilinear_pair(back, count, x, y, rows, columns, columns, 1, mask)
    apart = vector_length(u + back_u, v + back_v) / (
        absolute + relative * (vector_length(u, v) + vector_length(back_u, back_v))
    )
    tl.store(out + n * count + p, 1.0 / (1.0 + apart * apart * apart * apart), mask=mask)


@triton.jit
@no_type_check
def _extrapolate(
    image, states, consistent, brightness, out, weights, samples, height, width, columns, rows, sigma, enough,
    NEAR: tl.constexpr, FAR: tl.constexpr, FARTHEST: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr,
    PATCHES: tl.constexpr,
):  # fmt: skip
    """Inconsistent patches take the mean motion of consistent ones; what they weigh then by their residual."""
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    mask = p < count
    row, column = p // columns, p % columns
    states += n * 7 * count
    consistent += n * count
    brightness += n * count
    light = tl.load(brightness + p, mask=mask, other=0.0)
    k = tl.arange(0, 32)[None, :]  # 24 neighbours: eight directions at each of three distances
    distance = tl.where(k < 8, NEAR, tl.where(k < 16, FAR, FARTHEST))
    way = k % 8 + tl.where(k % 8 > 3, 1, 0)  # of nine cells, without the one in the middle
    there_y = tl.minimum(tl.maximum(row[:, None] + distance * (way // 3 - 1), 0), rows - 1)
    there_x = tl.minimum(tl.maximum(column[:, None] + distance * (way % 3 - 1), 0), columns - 1)
    there, valid = there_y * columns + there_x, mask[:, None] & (k < 24)
    apart = (tl.load(brightness + there, mask=valid, other=0.0) - light[:, None]) / sigma
    weight = tl.load(consistent + there, mask=valid, other=0.0) * tl.exp(-apart * apart) / distance
    total = reduce_sum(weight, 1)
    mean_u = reduce_sum(weight * tl.load(states + there, mask=valid, other=0.0), 1) / tl.maximum(total, 1e-6)
    mean_v = reduce_sum(weight * tl.load(states + count + there, mask=valid, other=0.0), 1) / tl.maximum(total, 1e-6)
    share = (1.0 - tl.load(consistent + p, mask=mask, other=0.0)) * total / (total + enough)
    u, v, ux, vx, uy, vy, penalty = load_state(states + p, count, mask)
    u, v = u + share * (mean_u - u), v + share * (mean_v - v)
    ux, vx, uy, vy = (1.0 - share) * ux, (1.0 - share) * vx, (1.0 - share) * uy, (1.0 - share) * vy
    left, top = column * STRIDE, row * STRIDE
    number = tl.arange(0, SIDE * SIDE)[None, :]
    i, j = number // SIDE, number % SIDE
    here = load_clamped(image + n * height * width, top[:, None] + i, left[:, None] + j, height, width, mask[:, None])
    seen = seen_by(
        image + (n + samples // 2) % samples * height * width,
        (left + (SIDE - 1) / 2.0)[:, None], (top + (SIDE - 1) / 2.0)[:, None],
        j - (SIDE - 1) / 2.0, i - (SIDE - 1) / 2.0, u[:, None], v[:, None],
        ux[:, None], vx[:, None], uy[:, None], vy[:, None], height, width, mask[:, None],
    )  # fmt: skip
    residual = tl.maximum(deviation(seen - here, SIDE * SIDE), 1.0)
    tl.store(weights + n * count + p, 1.0 / (residual * residual), mask=mask)
    store_state(out + n * 7 * count + p, u, v, ux, vx, uy, vy, penalty, count, mask)


def filled(
    luma: Tensor,
    states: Tensor,
    brightness: Tensor,
    counts: tuple[int, int],
    *,
    tolerance: tuple[float, float],
    sigma: float,
    distances: tuple[int, int, int],
    enough: float,
    stride: int,
    side: int,
    patches: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """States after filling, the weights of patches by their residual, and their consistency.

    Args:
        luma: Images in grey levels (n, 1, h, w).
        states: Before it (n, 7, p).
        brightness: Mean of each patch (n, p).
        counts: Of patches, (rows, columns).
        tolerance: See `rdvfi.motion.flow.occlusion_filling`, as for ``sigma``, ``distances`` and ``enough``.
        sigma: Difference in brightness, in grey levels.
        distances: Of neighbours, in patches.
        enough: Sum of weights at which the extrapolation counts half.
        stride: Between patches, in pixels.
        side: Of patches, in pixels.
        patches: Of one program instance.
    """
    n, _, h, w = luma.shape
    rows, columns = counts
    blocks = -(-rows * columns // patches)
    out = states.new_empty(states.shape)
    consistent, weights = states.new_empty((2, n, rows * columns)).unbind()
    grid = (n, columns, rows, *tolerance)
    _consistency[blocks, n](states, consistent, *grid, STRIDE=stride, PATCHES=patches)
    near, far, farthest = distances
    _extrapolate[blocks, n](
        luma, states, consistent, brightness, out, weights, n, h, w, columns, rows, sigma, enough,
        NEAR=near, FAR=far, FARTHEST=farthest, STRIDE=stride, SIDE=side, PATCHES=patches,
    )  # fmt: skip
    _consistency[blocks, n](out, consistent, *grid, STRIDE=stride, PATCHES=patches)
    return out, weights, consistent
