"""The patch search on CUDA: the kernels of `rdvfi.motion.flow.patch_search`.

One scale of it is a row of launches: the affine fit of each guess; then, per round, the cost of every
start of every patch, and one kernel in which a patch chooses and takes all its Gauss-Newton steps; at
last occlusion filling and the dense flow. No patch is stored: its pixels, their gradients and its
Hessian are made from the picture where they are needed, in registers.

Per patch of 64 pixels, with K starts: the costs load K (32 + 4 * 32) pixels and 7 K values of states,
about 25 operations a pixel; choosing loads 9 K costs; four steps load 64 * (9 + 5 * 4) pixels, about
60 operations each. The pictures are of 112x64 and 224x128 pixels and lie in the caches. Floor in
memory: picture and states are read once and states written, 4 (64 / 4 + 14 + K) bytes a patch; the
whole scale moves below 1 MB, so launches and latency decide, not the memory.

States are (starts, n, 7, p), see `rdvfi.motion.flow.patch_search`; common motions are (n, g, 7), with the
shift at the upper left pixel.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.occlusion_filling_kernels import filled
from rdvfi.ops.kernels.patch_states_kernels import (
    deviation,
    fit,
    flow_of,
    load_state,
    outside_share,
    seen_by,
    slopes,
    store_state,
)
from rdvfi.ops.kernels.sampling_kernels import launch_grid, load_clamped, reduce_sum

_PATCHES = 8
"""Patches of one program instance."""


@triton.jit
@no_type_check
def _start(
    starts, common, k, n, samples, p, columns, rows, mask, zero_penalty, OWN: tl.constexpr, STILL: tl.constexpr,
    NEAR: tl.constexpr, COMMON: tl.constexpr, REACH: tl.constexpr, FAR: tl.constexpr, STRIDE: tl.constexpr,
    SIDE: tl.constexpr,
):  # fmt: skip
    """Start ``k`` of patches ``p``: u, v, four slopes and the penalty.

    First come a patch's own ones (with ``STILL`` two per guess, with slopes and without, and then no
    motion), what neighbours found, and motions of the whole picture.
    """
    count = rows * columns
    j = k - OWN - STILL
    reach = tl.where((j >= 0) & (j < NEAR), tl.where(j < 4, REACH, FAR), 0)
    way = j % 4
    dx = tl.where(way == 0, -reach, tl.where(way == 1, reach, 0))
    dy = tl.where(way == 2, -reach, tl.where(way == 3, reach, 0))
    row = tl.minimum(tl.maximum(p // columns + dy, 0), rows - 1)
    column = tl.minimum(tl.maximum(p % columns + dx, 0), columns - 1)
    guess = tl.where(k < OWN, k // 2, 0) * STILL
    at = starts + (guess * samples + n) * 7 * count + row * columns + column
    u, v, ux, vx, uy, vy, penalty = load_state(at, count, mask)
    u -= STRIDE * (dx * ux + dy * uy)
    v -= STRIDE * (dx * vx + dy * vy)
    if STILL:
        bent = tl.where((k > OWN) | ((k < OWN) & (k % 2 == 0)), 1.0, 0.0)
        ux, vx, uy, vy = bent * ux, bent * vx, bent * uy, bent * vy
        u, v = tl.where(k == OWN, 0.0, u), tl.where(k == OWN, 0.0, v)
        penalty = tl.where(k == OWN, zero_penalty, penalty)
    if COMMON > 0:
        whole = j >= NEAR
        at = common + (n * COMMON + tl.maximum(j - NEAR, 0)) * 7
        x = p % columns * STRIDE + (SIDE - 1) / 2.0
        y = p // columns * STRIDE + (SIDE - 1) / 2.0
        of_x, of_y = tl.load(at + 2), tl.load(at + 4)
        u, ux, uy = (
            tl.where(whole, tl.load(at) + of_x * x + of_y * y, u),
            tl.where(whole, of_x, ux),
            tl.where(whole, of_y, uy),
        )
        of_x, of_y = tl.load(at + 3), tl.load(at + 5)
        v, vx, vy = (
            tl.where(whole, tl.load(at + 1) + of_x * x + of_y * y, v),
            tl.where(whole, of_x, vx),
            tl.where(whole, of_y, vy),
        )
        penalty = tl.where(whole, tl.load(at + 6), penalty)
    return u, v, ux, vx, uy, vy, penalty


@triton.jit
@no_type_check
def _costs(
    image, starts, common, costs, outside, samples, height, width, columns, rows, zero_penalty, worst,
    OWN: tl.constexpr, STILL: tl.constexpr, NEAR: tl.constexpr, COMMON: tl.constexpr, REACH: tl.constexpr,
    FAR: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr, PATCHES: tl.constexpr,
):  # fmt: skip
    """What one start costs every patch, by half of its pixels, as on a chessboard."""
    count = rows * columns
    k, n = tl.program_id(1), tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    mask = p < count
    starts_of = OWN + STILL + NEAR + COMMON
    u, v, ux, vx, uy, vy, _ = _start(
        starts, common, k, n, samples, p, columns, rows, mask, zero_penalty,
        OWN, STILL, NEAR, COMMON, REACH, FAR, STRIDE, SIDE,
    )  # fmt: skip
    left, top = p % columns * STRIDE, p // columns * STRIDE
    centre_x, centre_y = left + (SIDE - 1) / 2.0, top + (SIDE - 1) / 2.0
    number = tl.arange(0, SIDE * SIDE // 2)[None, :]
    i = number // (SIDE // 2)
    j = 2 * (number % (SIDE // 2)) + i % 2
    own = image + n * height * width
    other = image + (n + samples // 2) % samples * height * width
    here = load_clamped(own, top[:, None] + i, left[:, None] + j, height, width, mask[:, None])
    x, y = j - (SIDE - 1) / 2.0, i - (SIDE - 1) / 2.0
    seen = seen_by(
        other, centre_x[:, None], centre_y[:, None], x, y, u[:, None], v[:, None],
        ux[:, None], vx[:, None], uy[:, None], vy[:, None], height, width, mask[:, None],
    )  # fmt: skip
    cost = tl.minimum(deviation(seen - here, SIDE * SIDE // 2), worst)
    tl.store(costs + (n * starts_of + k) * count + p, cost, mask=mask)
    g = k - OWN - STILL - NEAR
    if g >= 0:
        left_picture = outside_share(centre_x, centre_y, u, v, height, width, SIDE)
        tl.store(outside + (n * COMMON + g) * count + p, left_picture, mask=mask)


@triton.jit
@no_type_check
def _continue(costs, outside, count, worst, FIRST: tl.constexpr, COMMON: tl.constexpr, BLOCK: tl.constexpr):
    """Costs of motions of the whole picture: outside of it they are the mean of those inside."""
    g, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    costs += (n * (FIRST + COMMON) + FIRST + g) * count
    outside += (n * COMMON + g) * count
    total, area = tl.full((1, BLOCK), 0.0, tl.float32), tl.full((1, BLOCK), 0.0, tl.float32)
    for start in range(0, count, BLOCK):
        p = start + tl.arange(0, BLOCK)[None, :]
        mask = 1.0 - tl.load(outside + p, mask=p < count, other=1.0)
        total += mask * tl.load(costs + p, mask=p < count, other=0.0)
        area += mask
    total, area = reduce_sum(total, 1), reduce_sum(area, 1)
    enough = tl.minimum(tl.maximum((area / count - 0.25) / 0.25, 0.0), 1.0)
    elsewhere = (worst + enough * (total / tl.maximum(area, 1.0) - worst))[:, None]
    for start in range(0, count, BLOCK):
        p = start + tl.arange(0, BLOCK)[None, :]
        beyond = tl.load(outside + p, mask=p < count, other=0.0)
        cost = tl.load(costs + p, mask=p < count, other=0.0)
        tl.store(costs + p, (1.0 - beyond) * cost + beyond * elsewhere, mask=p < count)


@triton.jit
@no_type_check
def _choose(
    image, starts, common, costs, out, brightness, samples, height, width, columns, rows, zero_penalty, preferred,
    damping, longest, STEPS: tl.constexpr, OWN: tl.constexpr, STILL: tl.constexpr, NEAR: tl.constexpr,
    COMMON: tl.constexpr, REACH: tl.constexpr, FAR: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr,
    PATCHES: tl.constexpr,
):  # fmt: skip
    """Every patch takes the start that costs least with its surroundings, then ``STEPS`` steps.

    Without steps its mean brightness is written too.
    """
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    mask = p < count
    row, column = p // columns, p % columns
    starts_of: tl.constexpr = OWN + STILL + NEAR + COMMON
    around = tl.arange(0, 16)[None, :]
    near_row = tl.minimum(tl.maximum(row[:, None] + around // 3 - 1, 0), rows - 1)
    near_column = tl.minimum(tl.maximum(column[:, None] + around % 3 - 1, 0), columns - 1)
    near = near_row * columns + near_column
    left, top = column * STRIDE, row * STRIDE
    centre_x, centre_y = left + (SIDE - 1) / 2.0, top + (SIDE - 1) / 2.0
    number = tl.arange(0, SIDE * SIDE)[None, :]
    i, j = number // SIDE, number % SIDE
    own = image + n * height * width
    other = image + (n + samples // 2) % samples * height * width
    here = load_clamped(own, top[:, None] + i, left[:, None] + j, height, width, mask[:, None])
    least_penalty = -preferred * deviation(here, SIDE * SIDE)
    costs += n * starts_of * count
    least = tl.full((PATCHES,), float("inf"), tl.float32)
    chosen = tl.full((PATCHES,), 0, tl.int32)
    for k in range(starts_of):
        beside = tl.load(costs + k * count + near, mask=mask[:, None] & (around < 9), other=0.0)
        _, _, _, _, _, _, penalty = _start(
            starts, common, k, n, samples, p, columns, rows, mask, zero_penalty,
            OWN, STILL, NEAR, COMMON, REACH, FAR, STRIDE, SIDE,
        )  # fmt: skip
        penalty = tl.maximum(penalty, least_penalty)
        cost = tl.load(costs + k * count + p, mask=mask, other=0.0) + reduce_sum(beside, 1) / 9.0 + penalty
        chosen = tl.where(cost < least, k, chosen)
        least = tl.minimum(cost, least)
    u, v, ux, vx, uy, vy, penalty = _start(
        starts, common, chosen, n, samples, p, columns, rows, mask, zero_penalty,
        OWN, STILL, NEAR, COMMON, REACH, FAR, STRIDE, SIDE,
    )  # fmt: skip
    x, y = j - (SIDE - 1) / 2.0, i - (SIDE - 1) / 2.0
    seen = seen_by(
        other, centre_x[:, None], centre_y[:, None], x, y, u[:, None], v[:, None],
        ux[:, None], vx[:, None], uy[:, None], vy[:, None], height, width, mask[:, None],
    )  # fmt: skip
    before = deviation(seen - here, SIDE * SIDE)
    if STEPS == 0:
        tl.store(brightness + n * count + p, reduce_sum(here, 1) / (SIDE * SIDE), mask=mask)
    else:
        across, down = slopes(own, top[:, None] + i, left[:, None] + j, height, width, mask[:, None])
        across -= (reduce_sum(across, 1) / (SIDE * SIDE))[:, None]
        down -= (reduce_sum(down, 1) / (SIDE * SIDE))[:, None]
        xx, yy = reduce_sum(across * across, 1) + damping, reduce_sum(down * down, 1) + damping
        xy = reduce_sum(across * down, 1)
        area = xx * yy - xy * xy
        to_u, to_v, error = u, v, seen - here
        for _ in range(STEPS):
            by_x, by_y = reduce_sum(error * across, 1), reduce_sum(error * down, 1)
            step_x, step_y = (xy * by_y - yy * by_x) / area, (xy * by_x - xx * by_y) / area
            # Steps are in the source: slopes carry them to the target.
            to_u += (1.0 + ux) * step_x + uy * step_y
            to_v += vx * step_x + (1.0 + vy) * step_y
            error = seen_by(
                other, centre_x[:, None], centre_y[:, None], x, y, to_u[:, None], to_v[:, None],
                ux[:, None], vx[:, None], uy[:, None], vy[:, None], height, width, mask[:, None],
            ) - here  # fmt: skip
        far = (to_u - u) * (to_u - u) + (to_v - v) * (to_v - v)
        beyond = tl.maximum(
            outside_share(centre_x, centre_y, u, v, height, width, SIDE),
            outside_share(centre_x, centre_y, to_u, to_v, height, width, SIDE),
        )
        taken = (deviation(error, SIDE * SIDE) <= before) & (far < longest * longest) & (beyond < 0.3)
        u, v = tl.where(taken, to_u, u), tl.where(taken, to_v, v)
    penalty = tl.maximum(penalty, least_penalty)
    store_state(out + n * 7 * count + p, u, v, ux, vx, uy, vy, penalty, count, mask)


def searched_scale(
    luma: Tensor,
    guesses: list[Tensor],
    common: Tensor,
    rounds: int,
    *,
    side: int,
    stride: int,
    steps: int,
    reaches: tuple[int, int],
    zero_penalty: float,
    preferred: float,
    worst: float,
    damping: float,
    longest: float,
    tolerance: tuple[float, float],
    sigma: float,
    distances: tuple[int, int, int],
    enough: float,
    inconsistent: float,
) -> Tensor:
    """See `rdvfi.motion.flow.patch_search.searched_scale`."""
    luma, common = luma.float().contiguous(), common.float().contiguous()
    n, _, h, w = luma.shape
    rows, columns = (max(0, -(-(length - side) // stride)) + 1 for length in (h, w))
    count, g, size = rows * columns, common.shape[1], (n, h, w, columns, rows)
    patch = {"STRIDE": stride, "SIDE": side, "PATCHES": _PATCHES}
    blocks, near = -(-count // _PATCHES), 4 * len(reaches)
    guessed, states = luma.new_empty((len(guesses), n, 7, count)), luma.new_empty((2, n, 7, count))
    costs, outside = luma.new_empty(n * (2 * len(guesses) + 1 + near + g) * count), luma.new_empty((n, g, count))
    brightness, out = luma.new_empty((n, count)), luma.new_empty((n, 2, h, w))

    def search(starts: Tensor, result: Tensor, steps: int, own: int, still: bool, near: int, whole: int) -> None:
        kinds = {"OWN": own, "STILL": still, "NEAR": near, "COMMON": whole, "REACH": reaches[0], "FAR": reaches[1]}
        first = own + still + near
        arguments = (luma, starts, common, costs, outside, *size, zero_penalty, worst)
        _costs[blocks, first + whole, n](*arguments, **kinds, **patch)
        if whole:
            _continue[whole, n](costs, outside, count, worst, FIRST=first, COMMON=whole, BLOCK=1024)
        arguments = (luma, starts, common, costs, result, brightness, *size, zero_penalty, preferred, damping, longest)
        _choose[blocks, n](*arguments, STEPS=steps, **kinds, **patch)

    for guess, fitted in zip(guesses, guessed, strict=True):
        fit[blocks, n](guess, fitted, *size, *guess.stride(), BEYOND=side // 2, **patch)
    search(guessed, states[0], steps, 2 * len(guesses), True, near, g)
    for k in range(rounds - 1):
        search(states[k % 2], states[1 - k % 2], steps, 1, False, near, 0)
    last = (rounds - 1) % 2
    search(states[last], states[1 - last], 0, 1, False, 0, g)
    state, weights, consistent = filled(
        luma, states[1 - last], brightness, (rows, columns), tolerance=tolerance, sigma=sigma, distances=distances,
        enough=enough, stride=stride, side=side, patches=_PATCHES,
    )  # fmt: skip
    arguments = (luma, state, weights, consistent, out, *size, inconsistent)
    flow_of[launch_grid(n, h, w)](*arguments, STRIDE=stride, SIDE=side)
    return out
