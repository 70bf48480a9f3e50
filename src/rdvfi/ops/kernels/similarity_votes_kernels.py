# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Transforms that keypoint matches agree on, on CUDA: the kernels of `rdvfi.motion.flow.similarity_votes`.

One launch matches keypoints, by the matrix of their products; per transform one launch scores proposals, a match per
program instance, and one keeps the best, fits it and strikes those who agree. With m = 192 matches and 6 partners each
a round evaluates 6 m^2 = 221,000 misses of about 12 operations, 3 million in all, from 16 m bytes that every instance
reads anew from the caches: microseconds, so what counts is the number of launches.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, reduce_sum


@jit
def _reduce_argmax(x, index):
    return tl.reduce((x, index), 0, tl.standard._argmax_combine_tie_break_left)


@jit
def _match_keypoints(
    products, first, second, flow, targets, certainty, points, height, width, stride_n, stride_c, stride_h, stride_w,
    max_ratio, min_flow_error, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """The match of a point in the second image, and its certainty if the flow there is wrong."""
    i, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    products += n * points * points
    j = tl.arange(0, BLOCK_SIZE)
    row = tl.load(products + i * points + j, mask=j < points, other=-3.0)
    best, partner = _reduce_argmax(row, j)
    second_best, _ = _reduce_argmax(tl.where(j == partner, -3.0, row), j)
    column = tl.load(products + j * points + partner, mask=j < points, other=-3.0)
    _, reverse_partner = _reduce_argmax(column, j)
    x, y = tl.load(first + (n * points + i) * 2), tl.load(first + (n * points + i) * 2 + 1)
    target_x, target_y = tl.load(second + (n * points + partner) * 2), tl.load(second + (n * points + partner) * 2 + 1)
    point, mask = corners(x, y, height, width), i >= 0
    flow += n * stride_n
    miss_x = x + bilinear(flow, point, stride_h, stride_w, mask) - target_x
    miss_y = y + bilinear(flow + stride_c, point, stride_h, stride_w, mask) - target_y
    distance = tl.maximum(2.0 - 2.0 * best, 0.0) + 1e-6
    second_distance = tl.maximum(2.0 - 2.0 * second_best, 0.0) + 1e-6
    ratio = tl.sqrt(distance / second_distance)
    is_kept = (
        (reverse_partner == i)
        & (ratio < max_ratio)
        & (miss_x * miss_x + miss_y * miss_y > min_flow_error * min_flow_error)
    )
    tl.store(targets + (n * points + i) * 2, target_x)
    tl.store(targets + (n * points + i) * 2 + 1, target_y)
    tl.store(certainty + n * points + i, tl.where(is_kept, 1.0 - ratio, 0.0))


@jit
def _load_matches(places, targets, chosen, n, matches, points, match):
    """Positions of chosen matches in both images, (x, y) each."""
    mask = match < matches
    elements = (n * points + tl.load(chosen + n * matches + match, mask=mask, other=0)) * 2
    source_x = tl.load(places + elements, mask=mask, other=0.0)
    source_y = tl.load(places + elements + 1, mask=mask, other=0.0)
    return (
        source_x,
        source_y,
        tl.load(targets + elements, mask=mask, other=0.0),
        tl.load(targets + elements + 1, mask=mask, other=0.0),
    )


@jit
def _propose_transforms(
    places, targets, chosen, votes, proposals, matches, points, min_distance, max_error, min_scale, max_scale,
    PARTNERS: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """The best transform through a match and one of its nearest neighbours."""
    i, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    k = tl.arange(0, BLOCK_SIZE)
    zx, zy, wx, wy = _load_matches(places, targets, chosen, n, matches, points, k)
    vote = tl.load(votes + n * matches + k, mask=k < matches, other=0.0)
    own_x, own_y, to_x, to_y = _load_matches(places, targets, chosen, n, matches, points, i)
    own_vote = tl.load(votes + n * matches + i)
    distance = tl.sqrt((zx - own_x) * (zx - own_x) + (zy - own_y) * (zy - own_y))
    distance = tl.where((vote > 0.0) & (distance > min_distance), distance, 1e6)
    distance = tl.where(k < matches, distance, 2e6)
    best, best_ax, best_ay, best_bx, best_by = own_vote * 0.0 - 1.0, own_x, own_x, own_x, own_x
    for _ in tl.static_range(PARTNERS):
        _, partner = _reduce_argmax(-distance, k)
        is_partner = k == partner
        distance = tl.where(is_partner, 3e6, distance)
        dx = reduce_sum(tl.where(is_partner, zx, 0.0), 0) - own_x + 1e-6
        dy = reduce_sum(tl.where(is_partner, zy, 0.0), 0) - own_y
        ex = reduce_sum(tl.where(is_partner, wx, 0.0), 0) - to_x
        ey = reduce_sum(tl.where(is_partner, wy, 0.0), 0) - to_y
        square = dx * dx + dy * dy
        ax, ay = (ex * dx + ey * dy) / square, (ey * dx - ex * dy) / square
        bx, by = to_x - (ax * own_x - ay * own_y), to_y - (ax * own_y + ay * own_x)
        miss_x, miss_y = ax * zx - ay * zy + bx - wx, ax * zy + ay * zx + by - wy
        near = tl.maximum(1.0 - (miss_x * miss_x + miss_y * miss_y) / (max_error * max_error), 0.0)
        size = tl.sqrt(ax * ax + ay * ay)
        score = tl.where((size > min_scale) & (size < max_scale), reduce_sum(near * vote, 0) * own_vote, 0.0)
        better = score > best
        best = tl.where(better, score, best)
        best_ax, best_ay = tl.where(better, ax, best_ax), tl.where(better, ay, best_ay)
        best_bx, best_by = tl.where(better, bx, best_bx), tl.where(better, by, best_by)
    _store_five(proposals + (n * matches + i) * 5, best, best_ax, best_ay, best_bx, best_by)


@jit
def _store_five(out, first, second, third, fourth, fifth):
    tl.store(out, first)
    tl.store(out + 1, second)
    tl.store(out + 2, third)
    tl.store(out + 3, fourth)
    tl.store(out + 4, fifth)


@jit
def _fit_best_proposal(
    places, targets, chosen, votes, proposals, out, pairs, matches, points, number, transforms, max_error, min_votes,
    min_scale, max_scale, FITS: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Fit the best proposal to its inliers, store it and its inverse, and remove the inliers."""
    n = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK_SIZE)
    zx, zy, wx, wy = _load_matches(places, targets, chosen, n, matches, points, k)
    vote = tl.load(votes + n * matches + k, mask=k < matches, other=0.0)
    score = tl.load(proposals + (n * matches + k) * 5, mask=k < matches, other=-2.0)
    _, best = _reduce_argmax(score, k)
    best_proposal = proposals + (n * matches + best) * 5
    ax = tl.load(best_proposal + 1)
    ay = tl.load(best_proposal + 2)
    bx = tl.load(best_proposal + 3)
    by = tl.load(best_proposal + 4)
    for _ in range(FITS):
        miss_x, miss_y = ax * zx - ay * zy + bx - wx, ax * zy + ay * zx + by - wy
        loss = 1.0 + (miss_x * miss_x + miss_y * miss_y) / 9.0
        weight = vote / (loss * loss)
        total = tl.maximum(reduce_sum(weight, 0), 1e-6)
        mx = reduce_sum(weight * zx, 0) / total
        my = reduce_sum(weight * zy, 0) / total
        ex = reduce_sum(weight * wx, 0) / total
        ey = reduce_sum(weight * wy, 0) / total
        dx, dy, gx, gy = zx - mx, zy - my, wx - ex, wy - ey
        spread = reduce_sum(weight * (dx * dx + dy * dy), 0) + 1e-3
        ax = reduce_sum(weight * (gx * dx + gy * dy), 0) / spread
        ay = reduce_sum(weight * (gy * dx - gx * dy), 0) / spread
        bx, by = ex - (ax * mx - ay * my), ey - (ax * my + ay * mx)
    miss_x, miss_y = ax * zx - ay * zy + bx - wx, ax * zy + ay * zx + by - wy
    agree = tl.where(miss_x * miss_x + miss_y * miss_y < max_error * max_error, vote, 0.0)
    tl.store(votes + n * matches + k, vote - agree, mask=k < matches)
    size = tl.sqrt(ax * ax + ay * ay)
    is_valid = tl.where((reduce_sum(agree, 0) >= min_votes) & (size > min_scale) & (size < max_scale), 1.0, 0.0)
    _store_five(out + (n * transforms + number) * 5, ax, ay, bx, by, is_valid)
    ax, ay = tl.where(size > 0.5 * min_scale, ax, 1.0), tl.where(size > 0.5 * min_scale, ay, 0.0)
    square = ax * ax + ay * ay
    ax, ay = ax / square, -ay / square
    back = out + ((pairs + n) * transforms + number) * 5
    _store_five(back, ax, ay, ay * by - ax * bx, -(ax * by + ay * bx), is_valid)


def similarity_votes(
    places: Tensor,
    descriptors: Tensor,
    flow: Tensor,
    *,
    matches: int,
    transforms: int,
    partners: int,
    fits: int,
    max_ratio: float,
    min_flow_error: float,
    min_distance: float,
    max_error: float,
    scale_range: tuple[float, float],
    min_votes: float,
) -> Tensor:
    """See `rdvfi.motion.flow.similarity_votes.voted_transforms`."""
    (first, second), (descriptors0, descriptors1) = places.float().contiguous().chunk(2), descriptors.float().chunk(2)
    products = torch.bmm(descriptors0, descriptors1.mT)
    pairs, points, _ = products.shape
    targets, certainty = first.new_empty(first.shape), first.new_empty(first.shape[:2])
    out = first.new_empty((2 * pairs, transforms, 5))
    matches = min(matches, points)
    block_size = {"BLOCK_SIZE": triton.next_power_of_2(matches)}
    arguments = (products, first, second, flow, targets, certainty, points, *flow.shape[-2:], *flow.stride())
    _match_keypoints[points, pairs](*arguments, max_ratio, min_flow_error, BLOCK_SIZE=triton.next_power_of_2(points))
    certainties, chosen = certainty.topk(matches, dim=1)
    votes, proposals = (certainties > 0.0).float(), first.new_empty((pairs, matches, 5))
    for number in range(transforms):
        state = (first, targets, chosen, votes, proposals)
        arguments = (*state, matches, points, min_distance, max_error, *scale_range)
        _propose_transforms[matches, pairs](*arguments, PARTNERS=partners, **block_size)
        arguments = (*state, out, pairs, matches, points, number, transforms, max_error, min_votes, *scale_range)
        _fit_best_proposal[pairs,](*arguments, FITS=fits, **block_size)
    return out
