"""Keypoints on CUDA: the kernels of `rdvfi.motion.flow.keypoints`.

Per scale five launches: a blur, the differences of Gaussians with the gradients, local maxima, `topk`, and
one program instance per point for its place, orientation and descriptor. Blurs are taken at once in both
dimensions: (2 r + 1)^2 taps with r of 4 to 7 are 81 to 225 cached loads and as many multiplications a
pixel, at 448x256 about 10^8 operations for both pictures, a few microseconds, where a pass per dimension
would be another launch. A descriptor looks up 100 + 256 gradients (8 loads each) and adds 36 and 8 x 16
shares of them, about 60,000 operations; there are 896 points. Floor in memory: pictures, maps and maxima
are written and read once, 4 * (1 + 2 * 4) bytes a pixel.
"""

from collections.abc import Sequence
from math import ceil
from typing import no_type_check

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load_clamped, reduce_sum, tile


@triton.jit
@no_type_check
def _blurred(image, y, x, height, width, mask, sigma, RADIUS: tl.constexpr):
    total, weights = 0.0 * load_clamped(image, y, x, height, width, mask), 0.0
    for tap in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        dy, dx = tap // (2 * RADIUS + 1) - RADIUS, tap % (2 * RADIUS + 1) - RADIUS
        weight = tl.exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma))
        total += weight * load_clamped(image, y + dy, x + dx, height, width, mask)
        weights += weight
    return total / weights


@triton.jit
@no_type_check
def _soften(image, out, height, width, sigma, RADIUS: tl.constexpr):
    """A picture blurred by a Gaussian."""
    n, y, x, mask = tile(height, width)
    soft = _blurred(image + n * height * width, y, x, height, width, mask, sigma, RADIUS)
    tl.store(out + (n * height + y) * width + x, soft, mask=mask)


@triton.jit
@no_type_check
def _differences(soft, response, gradient, height, width, sigma, RADIUS: tl.constexpr):
    """Size of the difference of two Gaussians, and central differences."""
    n, y, x, mask = tile(height, width)
    soft += n * height * width
    apart = _blurred(soft, y, x, height, width, mask, sigma, RADIUS) - load_clamped(soft, y, x, height, width, mask)
    tl.store(response + (n * height + y) * width + x, tl.abs(apart), mask=mask)
    across = load_clamped(soft, y, x + 1, height, width, mask) - load_clamped(soft, y, x - 1, height, width, mask)
    down = load_clamped(soft, y + 1, x, height, width, mask) - load_clamped(soft, y - 1, x, height, width, mask)
    gradient += (n * 2 * height + y) * width + x
    tl.store(gradient, 0.5 * across, mask=mask)
    tl.store(gradient + height * width, 0.5 * down, mask=mask)


@triton.jit
@no_type_check
def _peaks(response, out, height, width, margin, REACH: tl.constexpr):
    """The response where it is the largest around, little of it elsewhere, none in the margin."""
    n, y, x, mask = tile(height, width)
    response += n * height * width
    here = load_clamped(response, y, x, height, width, mask)
    highest = here
    for tap in range((2 * REACH + 1) * (2 * REACH + 1)):
        dy, dx = tap // (2 * REACH + 1) - REACH, tap % (2 * REACH + 1) - REACH
        highest = tl.maximum(highest, load_clamped(response, y + dy, x + dx, height, width, mask))
    score = tl.where(here == highest, here, 1e-3 * here)
    inner = (y >= margin) & (y < height - margin) & (x >= margin) & (x < width - margin)
    tl.store(out + (n * height + y) * width + x, tl.where(inner, score, 0.0), mask=mask)


@triton.jit
@no_type_check
def _offset(response, at, step, last):
    """Where a peak lies between pixels, by a parabola."""
    before = tl.load(response + tl.maximum(at - step, 0))
    here, after = tl.load(response + at), tl.load(response + tl.minimum(at + step, last))
    between = 0.5 * (after - before) / tl.maximum(2.0 * here - before - after, 1e-3)
    return tl.minimum(tl.maximum(between, -0.5), 0.5)


@triton.jit
@no_type_check
def _around(gradient, x, y, height, width, there):
    """Gradients at some places: their direction, of unit length, and their length."""
    point = corners(x, y, height, width)
    gx = bilinear(gradient, point, width, 1, there)
    gy = bilinear(gradient + height * width, point, width, 1, there)
    length = tl.sqrt(tl.maximum(gx * gx + gy * gy, 1e-12))
    return gx / length, gy / length, length


@triton.jit
@no_type_check
def _describe(
    response, gradient, at, places, descriptors, height, width, count, all_points, first, shrink, sigma, largest,
    SIDE: tl.constexpr, DIRECTIONS: tl.constexpr, SHARPNESS: tl.constexpr, SAMPLES: tl.constexpr, CELLS: tl.constexpr,
    BINS: tl.constexpr, BIN_SHARPNESS: tl.constexpr,
):  # fmt: skip
    """Place and descriptor of one point."""
    n, k = tl.program_id(1).to(tl.int64), tl.program_id(0)
    area = height * width
    response += n * area
    gradient += n * 2 * area
    where = tl.load(at + n * count + k).to(tl.int32)
    x = where % width + _offset(response, where, 1, area - 1)
    y = where // width + _offset(response, where, width, area - 1)
    tau: tl.constexpr = 6.283185307179586

    sample = tl.arange(0, 128)[:, None]
    there = sample < SIDE * SIDE
    dx, dy = sample % SIDE - (SIDE - 1) / 2.0, sample // SIDE - (SIDE - 1) / 2.0
    to_x, to_y, length = _around(gradient, x + 0.96 * sigma * dx, y + 0.96 * sigma * dy, height, width, there)
    length = tl.where(there, length * tl.exp(-(dx * dx + dy * dy) / 12.5), 0.0)
    number = tl.arange(0, 64)
    turn = number[None, :] * (tau / DIRECTIONS)
    share = tl.maximum(to_x * tl.cos(turn) + to_y * tl.sin(turn), 0.0)
    for _ in tl.static_range(SHARPNESS):
        share *= share
    histogram = tl.where(number < DIRECTIONS, reduce_sum(length * share, 0), -1.0)
    _, best = tl.reduce((histogram, number), 0, tl.standard._argmax_combine_tie_break_left)
    past = number == (best + DIRECTIONS - 1) % DIRECTIONS
    before = reduce_sum(tl.where(past, histogram, 0.0), 0)
    here = reduce_sum(tl.where(number == best, histogram, 0.0), 0)
    after = tl.where(number == (best + 1) % DIRECTIONS, histogram, 0.0)
    after = reduce_sum(after, 0)
    between = 0.5 * (before - after) / tl.minimum(before - 2.0 * here + after, -1e-3)
    angle = (best + between) * (tau / DIRECTIONS)
    ahead_x, ahead_y = tl.cos(angle), tl.sin(angle)

    sample = tl.arange(0, SAMPLES * SAMPLES)[:, None]
    dx, dy = sample % SAMPLES - (SAMPLES - 1) / 2.0, sample // SAMPLES - (SAMPLES - 1) / 2.0
    at_x = x + 0.9 * sigma * (dx * ahead_x - dy * ahead_y)
    at_y = y + 0.9 * sigma * (dx * ahead_y + dy * ahead_x)
    to_x, to_y, length = _around(gradient, at_x, at_y, height, width, sample >= 0)
    # Relative to the orientation.
    to_x, to_y = to_x * ahead_x + to_y * ahead_y, to_y * ahead_x - to_x * ahead_y
    length *= tl.exp(-(dx * dx + dy * dy) / (SAMPLES * SAMPLES / 2.0))
    cell = tl.arange(0, CELLS * CELLS)[None, :]
    spacing: tl.constexpr = SAMPLES / CELLS
    cell_x, cell_y = (cell % CELLS + 0.5) * spacing - SAMPLES / 2, (cell // CELLS + 0.5) * spacing - SAMPLES / 2
    near = tl.maximum(1.0 - tl.abs(dx - cell_x) / spacing, 0.0) * tl.maximum(1.0 - tl.abs(dy - cell_y) / spacing, 0.0)
    near *= length
    bins = tl.arange(0, BINS)[:, None]
    found = tl.full((BINS, CELLS * CELLS), 0.0, tl.float32)
    for number in tl.static_range(BINS):
        turn = number * (tau / BINS) + 0.0 * angle
        share = tl.maximum(to_x * tl.cos(turn) + to_y * tl.sin(turn), 0.0)
        for _ in tl.static_range(BIN_SHARPNESS):
            share *= share
        held = reduce_sum(near * share, 0)
        found += tl.where(bins == number, held[None, :], 0.0)
    found /= tl.maximum(_length(found), 1e-12)
    found = tl.minimum(found, largest)
    found /= tl.maximum(_length(found), 1e-12)
    point = n * all_points + first + k
    tl.store(descriptors + point * BINS * CELLS * CELLS + bins * CELLS * CELLS + cell, found)
    tl.store(places + 2 * point, shrink * (x + 0.5) - 0.5)
    tl.store(places + 2 * point + 1, shrink * (y + 0.5) - 0.5)


@triton.jit
@no_type_check
def _length(x):
    rows = reduce_sum(x * x, 1)
    return tl.sqrt(reduce_sum(rows, 0))


def keypoints(
    luma: Tensor,
    *,
    scales: Sequence[tuple[int, float, int]],
    soft: float,
    ratio: float,
    neighbourhood: int,
    samples: dict[str, int],
    orientation: tuple[int, int],
    descriptor: tuple[int, int, int],
    largest: float,
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.motion.flow.keypoints.find_keypoints`."""
    luma = luma.float().contiguous()
    n = luma.shape[0]
    pictures = {shrink: F.avg_pool2d(luma, shrink) if shrink > 1 else luma for shrink in {one for one, _, _ in scales}}
    sizes = {shrink: (picture.shape[-2], picture.shape[-1]) for shrink, picture in pictures.items()}
    counts = [min(count, sizes[shrink][0] * sizes[shrink][1] // 16) for shrink, _, count in scales]
    cells, bins, bin_sharpness = descriptor
    directions, sharpness = orientation
    shares = {"SIDE": samples["orientation"], "DIRECTIONS": directions, "SHARPNESS": sharpness}
    shares |= {"SAMPLES": samples["descriptor"], "CELLS": cells, "BINS": bins, "BIN_SHARPNESS": bin_sharpness}
    places = luma.new_empty((n, sum(counts), 2))
    descriptors = luma.new_empty((n, sum(counts), bins * cells * cells))
    first = 0
    for (shrink, sigma, _), count in zip(scales, counts, strict=True):
        h, w = sizes[shrink]
        maps = luma.new_empty((5, n, h, w))
        blurred, response, score, gradient = maps[0], maps[1], maps[2], maps[3:]
        grid, blur = launch_grid(n, h, w), (sigma**2 - soft**2) ** 0.5
        _soften[grid](pictures[shrink], blurred, h, w, blur, RADIUS=ceil(3.0 * blur))
        arguments = (blurred, response, gradient, h, w, ratio * sigma)
        _differences[grid](*arguments, RADIUS=ceil(3.0 * ratio * sigma))
        _peaks[grid](response, score, h, w, ceil(2.0 * sigma), REACH=neighbourhood // 2)
        at = score.flatten(1).topk(count).indices
        arguments = (response, gradient, at, places, descriptors, h, w, count, sum(counts), first)
        _describe[count, n](*arguments, shrink, sigma, largest, **shares)
        first += count
    return places, descriptors
