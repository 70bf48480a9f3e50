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

import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.occlusion_filling_kernels import fill_states
from rdvfi.ops.kernels.patch_states_kernels import (
    dense_flow,
    deviation,
    fit_patches,
    load_state,
    outside_share,
    patch_geometry,
    scharr_gradients,
    store_state,
    warp_patches,
)
from rdvfi.ops.kernels.sampling_kernels import launch_grid, load_clamped, reduce_sum

_BLOCK_SIZE = 8
"""Patches of one program instance."""


@jit
def _neighbour_offset(j, NEIGHBOUR_STARTS: tl.constexpr, NEAR_REACH: tl.constexpr, FAR_REACH: tl.constexpr):
    """Columns and rows to neighbour ``j``: four at the near reach, then four at the far one, else the patch itself."""
    reach = tl.where((j >= 0) & (j < NEIGHBOUR_STARTS), tl.where(j < 4, NEAR_REACH, FAR_REACH), 0)
    direction = j % 4
    dx = tl.where(direction == 0, -reach, tl.where(direction == 1, reach, 0))
    return dx, tl.where(direction == 2, -reach, tl.where(direction == 3, reach, 0))


@jit
def _use_common_motion(state, motion, is_common, centre):
    """The state, replaced by the common motion at pointer ``motion`` where ``is_common``."""
    u, v, ux, vx, uy, vy, penalty = state
    x, y = centre
    motion_ux, motion_vx = tl.load(motion + 2), tl.load(motion + 3)
    motion_uy, motion_vy = tl.load(motion + 4), tl.load(motion + 5)
    u = tl.where(is_common, tl.load(motion) + motion_ux * x + motion_uy * y, u)
    v = tl.where(is_common, tl.load(motion + 1) + motion_vx * x + motion_vy * y, v)
    ux, vx = tl.where(is_common, motion_ux, ux), tl.where(is_common, motion_vx, vx)
    uy, vy = tl.where(is_common, motion_uy, uy), tl.where(is_common, motion_vy, vy)
    return u, v, ux, vx, uy, vy, tl.where(is_common, tl.load(motion + 6), penalty)


@jit
def _load_start(
    starts, common, k, n, samples, patch, columns, rows, mask, zero_penalty, OWN_STARTS: tl.constexpr,
    ZERO_START: tl.constexpr, NEIGHBOUR_STARTS: tl.constexpr, COMMON_STARTS: tl.constexpr, NEAR_REACH: tl.constexpr,
    FAR_REACH: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """The state of start ``k`` of each patch: u, v, four slopes and the penalty.

    First come a patch's own starts (with ``ZERO_START`` two per guess, with slopes and without, and then no
    motion), then those of its neighbours, then motions of the whole picture.
    """
    count = rows * columns
    j = k - OWN_STARTS - ZERO_START
    dx, dy = _neighbour_offset(j, NEIGHBOUR_STARTS, NEAR_REACH, FAR_REACH)
    row = tl.minimum(tl.maximum(patch // columns + dy, 0), rows - 1)
    column = tl.minimum(tl.maximum(patch % columns + dx, 0), columns - 1)
    guess = tl.where(k < OWN_STARTS, k // 2, 0) * ZERO_START
    elements = starts + (guess * samples + n) * 7 * count + row * columns + column
    u, v, ux, vx, uy, vy, penalty = load_state(elements, count, mask)
    u -= STRIDE * (dx * ux + dy * uy)
    v -= STRIDE * (dx * vx + dy * vy)
    if ZERO_START:
        has_slopes = tl.where((k > OWN_STARTS) | ((k < OWN_STARTS) & (k % 2 == 0)), 1.0, 0.0)
        ux, vx, uy, vy = has_slopes * ux, has_slopes * vx, has_slopes * uy, has_slopes * vy
        u, v = tl.where(k == OWN_STARTS, 0.0, u), tl.where(k == OWN_STARTS, 0.0, v)
        penalty = tl.where(k == OWN_STARTS, zero_penalty, penalty)
    state = u, v, ux, vx, uy, vy, penalty
    if COMMON_STARTS > 0:
        motion = common + (n * COMMON_STARTS + tl.maximum(j - NEIGHBOUR_STARTS, 0)) * 7
        _, _, centre = patch_geometry(patch, columns, STRIDE, SIDE)
        state = _use_common_motion(state, motion, j >= NEIGHBOUR_STARTS, centre)
    return state


@jit
def _start_costs(
    image, starts, common, costs, outside, samples, height, width, columns, rows, zero_penalty, max_cost,
    OWN_STARTS: tl.constexpr, ZERO_START: tl.constexpr, NEIGHBOUR_STARTS: tl.constexpr, COMMON_STARTS: tl.constexpr,
    NEAR_REACH: tl.constexpr, FAR_REACH: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """The cost of one start for every patch, from half of its pixels, as on a chessboard."""
    count = rows * columns
    k, n = tl.program_id(1), tl.program_id(2).to(tl.int64)
    patch = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = patch < count
    num_starts = OWN_STARTS + ZERO_START + NEIGHBOUR_STARTS + COMMON_STARTS
    state = _load_start(
        starts, common, k, n, samples, patch, columns, rows, mask, zero_penalty,
        OWN_STARTS, ZERO_START, NEIGHBOUR_STARTS, COMMON_STARTS, NEAR_REACH, FAR_REACH, STRIDE, SIDE,
    )  # fmt: skip
    left, top, centre = patch_geometry(patch, columns, STRIDE, SIDE)
    pixel = tl.arange(0, SIDE * SIDE // 2)[None, :]
    i = pixel // (SIDE // 2)
    j = 2 * (pixel % (SIDE // 2)) + i % 2
    own = image + n * height * width
    other = image + (n + samples // 2) % samples * height * width
    values = load_clamped(own, top[:, None] + i, left[:, None] + j, height, width, mask[:, None])
    offsets = j - (SIDE - 1) / 2.0, i - (SIDE - 1) / 2.0
    warped = warp_patches(other, centre, offsets, state, height, width, mask)
    cost = tl.minimum(deviation(warped - values, SIDE * SIDE // 2), max_cost)
    tl.store(costs + (n * num_starts + k) * count + patch, cost, mask=mask)
    g = k - OWN_STARTS - ZERO_START - NEIGHBOUR_STARTS
    if g >= 0:
        share = outside_share(centre, state[0], state[1], height, width, SIDE)
        tl.store(outside + (n * COMMON_STARTS + g) * count + patch, share, mask=mask)


@jit
def _extrapolate_costs(
    costs, outside, count, max_cost, FIRST: tl.constexpr, COMMON_STARTS: tl.constexpr, BLOCK_SIZE: tl.constexpr
):
    """Costs of motions of the whole picture: for patches outside of it, the mean of those inside."""
    g, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    costs += (n * (FIRST + COMMON_STARTS) + FIRST + g) * count
    outside += (n * COMMON_STARTS + g) * count
    total, area = tl.full((1, BLOCK_SIZE), 0.0, tl.float32), tl.full((1, BLOCK_SIZE), 0.0, tl.float32)
    for start in range(0, count, BLOCK_SIZE):
        patch = start + tl.arange(0, BLOCK_SIZE)[None, :]
        inside = 1.0 - tl.load(outside + patch, mask=patch < count, other=1.0)
        total += inside * tl.load(costs + patch, mask=patch < count, other=0.0)
        area += inside
    total, area = reduce_sum(total, 1), reduce_sum(area, 1)
    certainty = tl.minimum(tl.maximum((area / count - 0.25) / 0.25, 0.0), 1.0)
    mean_cost = (max_cost + certainty * (total / tl.maximum(area, 1.0) - max_cost))[:, None]
    for start in range(0, count, BLOCK_SIZE):
        patch = start + tl.arange(0, BLOCK_SIZE)[None, :]
        share = tl.load(outside + patch, mask=patch < count, other=0.0)
        cost = tl.load(costs + patch, mask=patch < count, other=0.0)
        tl.store(costs + patch, (1.0 - share) * cost + share * mean_cost, mask=patch < count)


@jit
def _cheapest_start(
    starts, common, costs, n, samples, patch, columns, rows, mask, zero_penalty, min_penalty,
    OWN_STARTS: tl.constexpr, ZERO_START: tl.constexpr, NEIGHBOUR_STARTS: tl.constexpr, COMMON_STARTS: tl.constexpr,
    NEAR_REACH: tl.constexpr, FAR_REACH: tl.constexpr, STRIDE: tl.constexpr, SIDE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """The start with the least sum of its cost, its mean cost over 3x3 patches, and its penalty."""
    count = rows * columns
    neighbour = tl.arange(0, 16)[None, :]
    row = tl.minimum(tl.maximum((patch // columns)[:, None] + neighbour // 3 - 1, 0), rows - 1)
    column = tl.minimum(tl.maximum((patch % columns)[:, None] + neighbour % 3 - 1, 0), columns - 1)
    neighbours, neighbour_mask = row * columns + column, mask[:, None] & (neighbour < 9)
    least = tl.full((BLOCK_SIZE,), float("inf"), tl.float32)
    cheapest = tl.full((BLOCK_SIZE,), 0, tl.int32)
    for k in range(OWN_STARTS + ZERO_START + NEIGHBOUR_STARTS + COMMON_STARTS):
        neighbour_costs = tl.load(costs + k * count + neighbours, mask=neighbour_mask, other=0.0)
        state = _load_start(
            starts, common, k, n, samples, patch, columns, rows, mask, zero_penalty,
            OWN_STARTS, ZERO_START, NEIGHBOUR_STARTS, COMMON_STARTS, NEAR_REACH, FAR_REACH, STRIDE, SIDE,
        )  # fmt: skip
        penalty = tl.maximum(state[6], min_penalty)
        cost = tl.load(costs + k * count + patch, mask=mask, other=0.0)
        cost = cost + reduce_sum(neighbour_costs, 1) / 9.0 + penalty
        cheapest = tl.where(cost < least, k, cheapest)
        least = tl.minimum(cost, least)
    return cheapest


@jit
def _gauss_newton(
    own, other, values, left, top, centre, state, height, width, mask, damping, max_step, STEPS: tl.constexpr,
    SIDE: tl.constexpr,
):  # fmt: skip
    """The shift after ``STEPS`` inverse compositional steps; the old one where these are worse, or lead too far."""
    pixel = tl.arange(0, SIDE * SIDE)[None, :]
    i, j = pixel // SIDE, pixel % SIDE
    offsets = j - (SIDE - 1) / 2.0, i - (SIDE - 1) / 2.0
    u, v, ux, vx, uy, vy, penalty = state
    error = warp_patches(other, centre, offsets, state, height, width, mask) - values
    old_error = deviation(error, SIDE * SIDE)
    dx, dy = scharr_gradients(own, top[:, None] + i, left[:, None] + j, height, width, mask[:, None])
    dx -= (reduce_sum(dx, 1) / (SIDE * SIDE))[:, None]
    dy -= (reduce_sum(dy, 1) / (SIDE * SIDE))[:, None]
    xx, yy = reduce_sum(dx * dx, 1) + damping, reduce_sum(dy * dy, 1) + damping
    xy = reduce_sum(dx * dy, 1)
    determinant = xx * yy - xy * xy
    new_u, new_v = u, v
    for _ in range(STEPS):
        error_x, error_y = reduce_sum(error * dx, 1), reduce_sum(error * dy, 1)
        step_x, step_y = (xy * error_y - yy * error_x) / determinant, (xy * error_x - xx * error_y) / determinant
        # Steps are in the source: slopes carry them to the target.
        new_u += (1.0 + ux) * step_x + uy * step_y
        new_v += vx * step_x + (1.0 + vy) * step_y
        moved = new_u, new_v, ux, vx, uy, vy, penalty
        error = warp_patches(other, centre, offsets, moved, height, width, mask) - values
    step2 = (new_u - u) * (new_u - u) + (new_v - v) * (new_v - v)
    outside = tl.maximum(
        outside_share(centre, u, v, height, width, SIDE), outside_share(centre, new_u, new_v, height, width, SIDE)
    )
    accepted = (deviation(error, SIDE * SIDE) <= old_error) & (step2 < max_step * max_step) & (outside < 0.3)
    return tl.where(accepted, new_u, u), tl.where(accepted, new_v, v)


@jit
def _choose_and_refine(
    image, starts, common, costs, out, brightness, samples, height, width, columns, rows, zero_penalty,
    texture_penalty, damping, max_step, STEPS: tl.constexpr, OWN_STARTS: tl.constexpr, ZERO_START: tl.constexpr,
    NEIGHBOUR_STARTS: tl.constexpr, COMMON_STARTS: tl.constexpr, NEAR_REACH: tl.constexpr, FAR_REACH: tl.constexpr,
    STRIDE: tl.constexpr, SIDE: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Every patch takes its cheapest start and ``STEPS`` Gauss-Newton steps from there.

    Without steps its mean brightness is stored too.
    """
    count = rows * columns
    n = tl.program_id(1).to(tl.int64)
    patch = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = patch < count
    left, top, centre = patch_geometry(patch, columns, STRIDE, SIDE)
    pixel = tl.arange(0, SIDE * SIDE)[None, :]
    own = image + n * height * width
    other = image + (n + samples // 2) % samples * height * width
    values = load_clamped(own, top[:, None] + pixel // SIDE, left[:, None] + pixel % SIDE, height, width, mask[:, None])
    min_penalty = -texture_penalty * deviation(values, SIDE * SIDE)
    costs += n * (OWN_STARTS + ZERO_START + NEIGHBOUR_STARTS + COMMON_STARTS) * count
    cheapest = _cheapest_start(
        starts, common, costs, n, samples, patch, columns, rows, mask, zero_penalty, min_penalty,
        OWN_STARTS, ZERO_START, NEIGHBOUR_STARTS, COMMON_STARTS, NEAR_REACH, FAR_REACH, STRIDE, SIDE, BLOCK_SIZE,
    )  # fmt: skip
    state = _load_start(
        starts, common, cheapest, n, samples, patch, columns, rows, mask, zero_penalty,
        OWN_STARTS, ZERO_START, NEIGHBOUR_STARTS, COMMON_STARTS, NEAR_REACH, FAR_REACH, STRIDE, SIDE,
    )  # fmt: skip
    u, v, ux, vx, uy, vy, penalty = state
    if STEPS == 0:
        tl.store(brightness + n * count + patch, reduce_sum(values, 1) / (SIDE * SIDE), mask=mask)
    else:
        u, v = _gauss_newton(
            own, other, values, left, top, centre, state, height, width, mask, damping, max_step, STEPS, SIDE
        )
    penalty = tl.maximum(penalty, min_penalty)
    store_state(out + n * 7 * count + patch, (u, v, ux, vx, uy, vy, penalty), count, mask)


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
    texture_penalty: float,
    max_cost: float,
    damping: float,
    max_step: float,
    tolerance: tuple[float, float],
    sigma: float,
    distances: tuple[int, int, int],
    half_weight: float,
    inconsistent_weight: float,
) -> Tensor:
    """See `rdvfi.motion.flow.patch_search.search_scale`."""
    luma, common = luma.float().contiguous(), common.float().contiguous()
    n, _, h, w = luma.shape
    rows, columns = (max(0, -(-(length - side) // stride)) + 1 for length in (h, w))
    count, g, size = rows * columns, common.shape[1], (n, h, w, columns, rows)
    patch = {"STRIDE": stride, "SIDE": side, "BLOCK_SIZE": _BLOCK_SIZE}
    blocks, near = -(-count // _BLOCK_SIZE), 4 * len(reaches)
    guessed, states = luma.new_empty((len(guesses), n, 7, count)), luma.new_empty((2, n, 7, count))
    costs, outside = luma.new_empty(n * (2 * len(guesses) + 1 + near + g) * count), luma.new_empty((n, g, count))
    brightness, out = luma.new_empty((n, count)), luma.new_empty((n, 2, h, w))

    def search(starts: Tensor, result: Tensor, steps: int, own: int, zero: bool, neighbours: int, motions: int) -> None:
        kinds = {"OWN_STARTS": own, "ZERO_START": zero, "NEIGHBOUR_STARTS": neighbours, "COMMON_STARTS": motions}
        kinds |= {"NEAR_REACH": reaches[0], "FAR_REACH": reaches[1]}
        first = own + zero + neighbours
        arguments = (luma, starts, common, costs, outside, *size, zero_penalty, max_cost)
        _start_costs[blocks, first + motions, n](*arguments, **kinds, **patch)
        if motions:
            constants = {"FIRST": first, "COMMON_STARTS": motions, "BLOCK_SIZE": 1024}
            _extrapolate_costs[motions, n](costs, outside, count, max_cost, **constants)
        arguments = (luma, starts, common, costs, result, brightness, *size)
        arguments += (zero_penalty, texture_penalty, damping, max_step)
        _choose_and_refine[blocks, n](*arguments, STEPS=steps, **kinds, **patch)

    for guess, fitted in zip(guesses, guessed, strict=True):
        fit_patches[blocks, n](guess, fitted, *size, *guess.stride(), MARGIN=side // 2, **patch)
    search(guessed, states[0], steps, 2 * len(guesses), True, near, g)
    for k in range(rounds - 1):
        search(states[k % 2], states[1 - k % 2], steps, 1, False, near, 0)
    last = (rounds - 1) % 2
    search(states[last], states[1 - last], 0, 1, False, 0, g)
    state, weights, consistent = fill_states(
        luma, states[1 - last], brightness, (rows, columns), tolerance=tolerance, sigma=sigma, distances=distances,
        half_weight=half_weight, stride=stride, side=side, patches=_BLOCK_SIZE,
    )  # fmt: skip
    arguments = (luma, state, weights, consistent, out, *size, inconsistent_weight)
    dense_flow[launch_grid(n, h, w)](*arguments, STRIDE=stride, SIDE=side)
    return out
