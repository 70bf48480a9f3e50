"""Transforms that keypoint matches agree on, on CUDA: the kernels of `rdvfi.motion.flow.similarity_votes`.

One launch matches keypoints, by the matrix of their products; per transform one launch scores proposals,
a match per program instance, and one keeps the best, fits it and strikes those who agree. With m = 192
matches and 6 partners each a round evaluates 6 m^2 = 221,000 misses of about 12 operations, 3 million
in all, from 16 m bytes that every instance reads anew from the caches: microseconds, so what counts is
the number of launches.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, reduce_sum


@triton.jit
@no_type_check
def _largest(x, index):
    return tl.reduce((x, index), 0, tl.standard._argmax_combine_tie_break_left)


@triton.jit
@no_type_check
def _match(
    products, first, second, flow, ends, sure, points, height, width, flow_stride_n, flow_stride_c, flow_stride_h,
    flow_stride_w, unique, wrong, BLOCK: tl.constexpr,
):  # fmt: skip
    """Where a point of the first picture is in the second, and how sure that is where the flow misses it."""
    i, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    products += n * points * points
    j = tl.arange(0, BLOCK)
    row = tl.load(products + i * points + j, mask=j < points, other=-3.0)
    best, found = _largest(row, j)
    second_best, _ = _largest(tl.where(j == found, -3.0, row), j)
    column = tl.load(products + j * points + found, mask=j < points, other=-3.0)
    _, back = _largest(column, j)
    x, y = tl.load(first + (n * points + i) * 2), tl.load(first + (n * points + i) * 2 + 1)
    to_x, to_y = tl.load(second + (n * points + found) * 2), tl.load(second + (n * points + found) * 2 + 1)
    point, mask = corners(x, y, height, width), i >= 0
    flow += n * flow_stride_n
    miss_x = x + bilinear(flow, point, flow_stride_h, flow_stride_w, mask) - to_x
    miss_y = y + bilinear(flow + flow_stride_c, point, flow_stride_h, flow_stride_w, mask) - to_y
    near, far = tl.maximum(2.0 - 2.0 * best, 0.0) + 1e-6, tl.maximum(2.0 - 2.0 * second_best, 0.0) + 1e-6
    ratio = tl.sqrt(near / far)
    kept = (back == i) & (ratio < unique) & (miss_x * miss_x + miss_y * miss_y > wrong * wrong)
    tl.store(ends + (n * points + i) * 2, to_x)
    tl.store(ends + (n * points + i) * 2 + 1, to_y)
    tl.store(sure + n * points + i, tl.where(kept, 1.0 - ratio, 0.0))


@triton.jit
@no_type_check
def _matches(places, ends, chosen, n, matches, points, k):
    """Both places of chosen matches; x and y."""
    there = k < matches
    at = (n * points + tl.load(chosen + n * matches + k, mask=there, other=0)) * 2
    zx, zy = tl.load(places + at, mask=there, other=0.0), tl.load(places + at + 1, mask=there, other=0.0)
    return zx, zy, tl.load(ends + at, mask=there, other=0.0), tl.load(ends + at + 1, mask=there, other=0.0)


@triton.jit
@no_type_check
def _propose(
    places, ends, chosen, votes, proposals, matches, points, apart, agrees, smallest, largest, PARTNERS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Of the transforms through a match and its nearest neighbours, the one that most agree with."""
    i, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    k = tl.arange(0, BLOCK)
    zx, zy, wx, wy = _matches(places, ends, chosen, n, matches, points, k)
    vote = tl.load(votes + n * matches + k, mask=k < matches, other=0.0)
    own_x, own_y, to_x, to_y = _matches(places, ends, chosen, n, matches, points, i)
    own_vote = tl.load(votes + n * matches + i)
    distance = tl.sqrt((zx - own_x) * (zx - own_x) + (zy - own_y) * (zy - own_y))
    distance = tl.where((vote > 0.0) & (distance > apart), distance, 1e6)
    distance = tl.where(k < matches, distance, 2e6)
    best, best_ax, best_ay, best_bx, best_by = own_vote * 0.0 - 1.0, own_x, own_x, own_x, own_x
    for _ in tl.static_range(PARTNERS):
        _, partner = _largest(-distance, k)
        own = k == partner
        distance = tl.where(own, 3e6, distance)
        dx, dy = reduce_sum(tl.where(own, zx, 0.0), 0) - own_x + 1e-6, reduce_sum(tl.where(own, zy, 0.0), 0) - own_y
        ex, ey = reduce_sum(tl.where(own, wx, 0.0), 0) - to_x, reduce_sum(tl.where(own, wy, 0.0), 0) - to_y
        square = dx * dx + dy * dy
        ax, ay = (ex * dx + ey * dy) / square, (ey * dx - ex * dy) / square
        bx, by = to_x - (ax * own_x - ay * own_y), to_y - (ax * own_y + ay * own_x)
        miss_x, miss_y = ax * zx - ay * zy + bx - wx, ax * zy + ay * zx + by - wy
        near = tl.maximum(1.0 - (miss_x * miss_x + miss_y * miss_y) / (agrees * agrees), 0.0)
        size = tl.sqrt(ax * ax + ay * ay)
        score = tl.where((size > smallest) & (size < largest), reduce_sum(near * vote, 0) * own_vote, 0.0)
        better = score > best
        best = tl.where(better, score, best)
        best_ax, best_ay = tl.where(better, ax, best_ax), tl.where(better, ay, best_ay)
        best_bx, best_by = tl.where(better, bx, best_bx), tl.where(better, by, best_by)
    proposals += (n * matches + i) * 5
    tl.store(proposals, best)
    tl.store(proposals + 1, best_ax)
    tl.store(proposals + 2, best_ay)
    tl.store(proposals + 3, best_bx)
    tl.store(proposals + 4, best_by)


@triton.jit
@no_type_check
def _store(out, ax, ay, bx, by, held):
    tl.store(out, ax)
    tl.store(out + 1, ay)
    tl.store(out + 2, bx)
    tl.store(out + 3, by)
    tl.store(out + 4, held)


@triton.jit
@no_type_check
def _agree(
    places, ends, chosen, votes, proposals, out, pairs, matches, points, number, transforms, agrees, enough, smallest,
    largest, FITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Keep the best proposal, fit it to the matches that agree, write it and its inverse, strike those."""
    n = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    zx, zy, wx, wy = _matches(places, ends, chosen, n, matches, points, k)
    vote = tl.load(votes + n * matches + k, mask=k < matches, other=0.0)
    score = tl.load(proposals + (n * matches + k) * 5, mask=k < matches, other=-2.0)
    _, best = _largest(score, k)
    best_of = proposals + (n * matches + best) * 5
    ax, ay, bx, by = tl.load(best_of + 1), tl.load(best_of + 2), tl.load(best_of + 3), tl.load(best_of + 4)
    for _ in range(FITS):
        miss_x, miss_y = ax * zx - ay * zy + bx - wx, ax * zy + ay * zx + by - wy
        loss = 1.0 + (miss_x * miss_x + miss_y * miss_y) / 9.0
        weight = vote / (loss * loss)
        total = tl.maximum(reduce_sum(weight, 0), 1e-6)
        mx, my, ex, ey = (
            reduce_sum(weight * zx, 0) / total,
            reduce_sum(weight * zy, 0) / total,
            reduce_sum(weight * wx, 0) / total,
            reduce_sum(weight * wy, 0) / total,
        )
        dx, dy, gx, gy = zx - mx, zy - my, wx - ex, wy - ey
        spread = reduce_sum(weight * (dx * dx + dy * dy), 0) + 1e-3
        ax, ay = (
            reduce_sum(weight * (gx * dx + gy * dy), 0) / spread,
            reduce_sum(weight * (gy * dx - gx * dy), 0) / spread,
        )
        bx, by = ex - (ax * mx - ay * my), ey - (ax * my + ay * mx)
    miss_x, miss_y = ax * zx - ay * zy + bx - wx, ax * zy + ay * zx + by - wy
    agree = tl.where(miss_x * miss_x + miss_y * miss_y < agrees * agrees, vote, 0.0)
    tl.store(votes + n * matches + k, vote - agree, mask=k < matches)
    size = tl.sqrt(ax * ax + ay * ay)
    held = tl.where((reduce_sum(agree, 0) >= enough) & (size > smallest) & (size < largest), 1.0, 0.0)
    _store(out + (n * transforms + number) * 5, ax, ay, bx, by, held)
    ax, ay = tl.where(size > 0.5 * smallest, ax, 1.0), tl.where(size > 0.5 * smallest, ay, 0.0)
    square = ax * ax + ay * ay
    ax, ay = ax / square, -ay / square
    back = out + ((pairs + n) * transforms + number) * 5
    _store(back, ax, ay, ay * by - ax * bx, -(ax * by + ay * bx), held)


def similarity_votes(
    places: Tensor,
    descriptors: Tensor,
    flow: Tensor,
    *,
    matches: int,
    transforms: int,
    partners: int,
    fits: int,
    unique: float,
    wrong: float,
    apart: float,
    agrees: float,
    scales: tuple[float, float],
    enough: float,
) -> Tensor:
    """See `rdvfi.motion.flow.similarity_votes.voted_transforms`."""
    (first, second), (ours, theirs) = places.float().contiguous().chunk(2), descriptors.float().chunk(2)
    products = torch.bmm(ours, theirs.mT)
    pairs, points, _ = products.shape
    ends, sure = first.new_empty(first.shape), first.new_empty(first.shape[:2])
    out = first.new_empty((2 * pairs, transforms, 5))
    matches = min(matches, points)
    block = {"BLOCK": triton.next_power_of_2(matches)}
    arguments = (products, first, second, flow, ends, sure, points, *flow.shape[-2:], *flow.stride(), unique, wrong)
    _match[points, pairs](*arguments, BLOCK=triton.next_power_of_2(points))
    found, chosen = sure.topk(matches, dim=1)
    votes, proposals = (found > 0.0).float(), first.new_empty((pairs, matches, 5))
    for number in range(transforms):
        own = (first, ends, chosen, votes, proposals)
        _propose[matches, pairs](*own, matches, points, apart, agrees, *scales, PARTNERS=partners, **block)
        arguments = (*own, out, pairs, matches, points, number, transforms, agrees, enough, *scales)
        _agree[pairs,](*arguments, FITS=fits, **block)
    return out
