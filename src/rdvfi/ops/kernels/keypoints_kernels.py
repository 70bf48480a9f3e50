# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Keypoints on CUDA: the kernels of `rdvfi.motion.flow.keypoints`.

Per scale five launches: a blur, the differences of Gaussians with the gradients, local maxima, `topk`, and one program
instance per point for its place, orientation and descriptor. Blurs are taken at once in both dimensions: (2 r + 1)^2
taps with r of 4 to 7 are 81 to 225 cached loads and as many multiplications a pixel, at 448x256 about 10^8 operations
for both pictures, a few microseconds, where a pass per dimension would be another launch. A descriptor looks up 100 +
256 gradients (8 loads each) and adds 36 and 8 x 16 shares of them, about 60,000 operations; there are 896 points.
Floor in memory: pictures, maps and maxima are written and read once, 4 * (1 + 2 * 4) bytes a pixel.
"""

from collections.abc import Sequence
from math import ceil

import torch.nn.functional as F
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load_clamped, reduce_sum, tile

_TAU = tl.constexpr(6.283185307179586)


@jit
def _gaussian_blur(image, y, x, height, width, mask, sigma, RADIUS: tl.constexpr):
    total, weights = 0.0 * load_clamped(image, y, x, height, width, mask), 0.0
    for tap in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        dy, dx = tap // (2 * RADIUS + 1) - RADIUS, tap % (2 * RADIUS + 1) - RADIUS
        weight = tl.exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma))
        total += weight * load_clamped(image, y + dy, x + dx, height, width, mask)
        weights += weight
    return total / weights


@jit
def _blur(image, out, height, width, sigma, RADIUS: tl.constexpr):
    """An image blurred by a Gaussian."""
    n, y, x, mask = tile(height, width)
    blurred = _gaussian_blur(image + n * height * width, y, x, height, width, mask, sigma, RADIUS)
    tl.store(out + (n * height + y) * width + x, blurred, mask=mask)


@jit
def _differences(blurred, response, gradient, height, width, sigma, RADIUS: tl.constexpr):
    """Absolute difference of two Gaussians, and central differences."""
    n, y, x, mask = tile(height, width)
    blurred += n * height * width
    difference = _gaussian_blur(blurred, y, x, height, width, mask, sigma, RADIUS) - load_clamped(
        blurred, y, x, height, width, mask
    )
    tl.store(response + (n * height + y) * width + x, tl.abs(difference), mask=mask)
    across = load_clamped(blurred, y, x + 1, height, width, mask) - load_clamped(blurred, y, x - 1, height, width, mask)
    down = load_clamped(blurred, y + 1, x, height, width, mask) - load_clamped(blurred, y - 1, x, height, width, mask)
    gradient += (n * 2 * height + y) * width + x
    tl.store(gradient, 0.5 * across, mask=mask)
    tl.store(gradient + height * width, 0.5 * down, mask=mask)


@jit
def _suppress_non_maxima(response, out, height, width, margin, RADIUS: tl.constexpr):
    """The response at local maxima, a thousandth of it elsewhere, zero in the margin."""
    n, y, x, mask = tile(height, width)
    response += n * height * width
    centre = load_clamped(response, y, x, height, width, mask)
    maximum = centre
    for tap in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        dy, dx = tap // (2 * RADIUS + 1) - RADIUS, tap % (2 * RADIUS + 1) - RADIUS
        maximum = tl.maximum(maximum, load_clamped(response, y + dy, x + dx, height, width, mask))
    score = tl.where(centre == maximum, centre, 1e-3 * centre)
    in_margin = (y >= margin) & (y < height - margin) & (x >= margin) & (x < width - margin)
    tl.store(out + (n * height + y) * width + x, tl.where(in_margin, score, 0.0), mask=mask)


@jit
def _subpixel_offset(response, position, step, last):
    """Sub-pixel offset of a peak, by a parabola."""
    left = tl.load(response + tl.maximum(position - step, 0))
    centre, right = tl.load(response + position), tl.load(response + tl.minimum(position + step, last))
    offset = 0.5 * (right - left) / tl.maximum(2.0 * centre - left - right, 1e-3)
    return tl.minimum(tl.maximum(offset, -0.5), 0.5)


@jit
def _sample_gradients(gradient, x, y, height, width, mask):
    """Gradients at some positions: unit direction and magnitude."""
    point = corners(x, y, height, width)
    gx = bilinear(gradient, point, width, 1, mask)
    gy = bilinear(gradient + height * width, point, width, 1, mask)
    magnitude = tl.sqrt(tl.maximum(gx * gx + gy * gy, 1e-12))
    return gx / magnitude, gy / magnitude, magnitude


@jit
def _angular_weight(direction_x, direction_y, angle, SHARPNESS: tl.constexpr):
    """``max(cos(difference), 0)`` to the power of ``2^SHARPNESS``, of a direction and an angle."""
    weight = tl.maximum(direction_x * tl.cos(angle) + direction_y * tl.sin(angle), 0.0)
    for _ in tl.static_range(SHARPNESS):
        weight *= weight
    return weight


@jit
def _orientation(
    gradient, x, y, height, width, sigma, SIDE: tl.constexpr, DIRECTIONS: tl.constexpr, SHARPNESS: tl.constexpr
):
    """The dominant direction of gradients around a point, between the bins of their histogram."""
    sample = tl.arange(0, 128)[:, None]
    mask = sample < SIDE * SIDE
    dx, dy = sample % SIDE - (SIDE - 1) / 2.0, sample // SIDE - (SIDE - 1) / 2.0
    direction_x, direction_y, magnitude = _sample_gradients(
        gradient, x + 0.96 * sigma * dx, y + 0.96 * sigma * dy, height, width, mask
    )
    magnitude = tl.where(mask, magnitude * tl.exp(-(dx * dx + dy * dy) / 12.5), 0.0)
    bin_index = tl.arange(0, 64)
    weight = _angular_weight(direction_x, direction_y, bin_index[None, :] * (_TAU / DIRECTIONS), SHARPNESS)
    histogram = tl.where(bin_index < DIRECTIONS, reduce_sum(magnitude * weight, 0), -1.0)
    _, best = tl.reduce((histogram, bin_index), 0, tl.standard._argmax_combine_tie_break_left)
    before = reduce_sum(tl.where(bin_index == (best + DIRECTIONS - 1) % DIRECTIONS, histogram, 0.0), 0)
    centre = reduce_sum(tl.where(bin_index == best, histogram, 0.0), 0)
    after = reduce_sum(tl.where(bin_index == (best + 1) % DIRECTIONS, histogram, 0.0), 0)
    offset = 0.5 * (before - after) / tl.minimum(before - 2.0 * centre + after, -1e-3)
    return (best + offset) * (_TAU / DIRECTIONS)


@jit
def _descriptor(
    gradient, x, y, angle, height, width, sigma, max_value, SAMPLES: tl.constexpr, CELLS: tl.constexpr,
    BINS: tl.constexpr, SHARPNESS: tl.constexpr,
):  # fmt: skip
    """Histograms of directions relative to ``angle``, (BINS, CELLS * CELLS), clipped and of unit length."""
    cosine, sine = tl.cos(angle), tl.sin(angle)
    sample = tl.arange(0, SAMPLES * SAMPLES)[:, None]
    dx, dy = sample % SAMPLES - (SAMPLES - 1) / 2.0, sample // SAMPLES - (SAMPLES - 1) / 2.0
    sample_x, sample_y = x + 0.9 * sigma * (dx * cosine - dy * sine), y + 0.9 * sigma * (dx * sine + dy * cosine)
    gx, gy, magnitude = _sample_gradients(gradient, sample_x, sample_y, height, width, sample >= 0)
    direction_x, direction_y = gx * cosine + gy * sine, gy * cosine - gx * sine
    magnitude *= tl.exp(-(dx * dx + dy * dy) / (SAMPLES * SAMPLES / 2.0))
    cell = tl.arange(0, CELLS * CELLS)[None, :]
    spacing: tl.constexpr = SAMPLES / CELLS
    cell_x, cell_y = (cell % CELLS + 0.5) * spacing - SAMPLES / 2, (cell // CELLS + 0.5) * spacing - SAMPLES / 2
    weight = tl.maximum(1.0 - tl.abs(dx - cell_x) / spacing, 0.0) * tl.maximum(1.0 - tl.abs(dy - cell_y) / spacing, 0.0)
    weight *= magnitude
    bins = tl.arange(0, BINS)[:, None]
    values = tl.full((BINS, CELLS * CELLS), 0.0, tl.float32)
    for i in tl.static_range(BINS):
        angular_weight = _angular_weight(direction_x, direction_y, 0.0 * angle + i * (_TAU / BINS), SHARPNESS)
        values += tl.where(bins == i, reduce_sum(weight * angular_weight, 0)[None, :], 0.0)
    values = tl.minimum(values / tl.maximum(_matrix_norm(values), 1e-12), max_value)
    return values / tl.maximum(_matrix_norm(values), 1e-12)


@jit
def _describe_points(
    response, gradient, peaks, places, descriptors, height, width, count, all_points, first, shrink, sigma, max_value,
    SIDE: tl.constexpr, DIRECTIONS: tl.constexpr, SHARPNESS: tl.constexpr, SAMPLES: tl.constexpr, CELLS: tl.constexpr,
    BINS: tl.constexpr, BIN_SHARPNESS: tl.constexpr,
):  # fmt: skip
    """Place and descriptor of one point."""
    n, k = tl.program_id(1).to(tl.int64), tl.program_id(0)
    area = height * width
    response += n * area
    gradient += n * 2 * area
    peak = tl.load(peaks + n * count + k).to(tl.int32)
    x = peak % width + _subpixel_offset(response, peak, 1, area - 1)
    y = peak // width + _subpixel_offset(response, peak, width, area - 1)
    angle = _orientation(gradient, x, y, height, width, sigma, SIDE, DIRECTIONS, SHARPNESS)
    values = _descriptor(gradient, x, y, angle, height, width, sigma, max_value, SAMPLES, CELLS, BINS, BIN_SHARPNESS)
    point = n * all_points + first + k
    elements = tl.arange(0, BINS)[:, None] * CELLS * CELLS + tl.arange(0, CELLS * CELLS)[None, :]
    tl.store(descriptors + point * BINS * CELLS * CELLS + elements, values)
    tl.store(places + 2 * point, shrink * (x + 0.5) - 0.5)
    tl.store(places + 2 * point + 1, shrink * (y + 0.5) - 0.5)


@jit
def _matrix_norm(x):
    rows = reduce_sum(x * x, 1)
    return tl.sqrt(reduce_sum(rows, 0))


def keypoints(
    luma: Tensor,
    *,
    scales: Sequence[tuple[int, float, int]],
    input_blur: float,
    gaussian_ratio: float,
    maximum_window: int,
    samples: dict[str, int],
    orientation: tuple[int, int],
    descriptor: tuple[int, int, int],
    max_value: float,
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
        grid, blur = launch_grid(n, h, w), (sigma**2 - input_blur**2) ** 0.5
        _blur[grid](pictures[shrink], blurred, h, w, blur, RADIUS=ceil(3.0 * blur))
        arguments = (blurred, response, gradient, h, w, gaussian_ratio * sigma)
        _differences[grid](*arguments, RADIUS=ceil(3.0 * gaussian_ratio * sigma))
        _suppress_non_maxima[grid](response, score, h, w, ceil(2.0 * sigma), RADIUS=maximum_window // 2)
        at = score.flatten(1).topk(count).indices
        arguments = (response, gradient, at, places, descriptors, h, w, count, sum(counts), first)
        _describe_points[count, n](*arguments, shrink, sigma, max_value, **shares)
        first += count
    return places, descriptors
