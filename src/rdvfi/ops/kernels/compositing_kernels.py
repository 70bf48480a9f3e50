# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Bars and overlays at full size on CUDA: the kernels of `rdvfi.ops.compositing`.

Each frame is read and written once. Tensors are contiguous; sums are float32.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import bilinear, coarse_corners, launch_grid, tile, window_mean, zeros

_EPSILON = tl.constexpr(1e-4)


@jit
def _remove_overlay(img0, img1, near, plates, out0, out1, products, height, width, small_height, small_width):
    """Frames without the overlay, and the two products whose means give its transparency."""
    n, y, x, mask = tile(height, width)
    area, small, offsets = height * width, small_height * small_width, y * width + x
    point = coarse_corners(y, x, height, width, small_height, small_width)
    near_mask = mask & (bilinear(near + n * small, point, small_width, 1, mask) > 0.01)
    numerator = zeros()
    denominator = numerator
    for c in tl.static_range(3):
        pixel_offsets, plate_plane = (n * 3 + c) * area + offsets, plates + (n * 6 + c) * small
        pixel0 = tl.load(img0 + pixel_offsets, mask=mask, other=0.0)
        pixel1 = tl.load(img1 + pixel_offsets, mask=mask, other=0.0)
        plate0 = bilinear(plate_plane, point, small_width, 1, near_mask).to(pixel0.dtype)
        plate1 = bilinear(plate_plane + 3 * small, point, small_width, 1, near_mask).to(pixel0.dtype)
        plate0, plate1 = tl.where(near_mask, plate0, pixel0), tl.where(near_mask, plate1, pixel1)
        tl.store(out0 + pixel_offsets, plate0, mask=mask)
        tl.store(out1 + pixel_offsets, plate1, mask=mask)
        difference = pixel0.to(tl.float32) - pixel1.to(tl.float32)
        plate_difference = plate0.to(tl.float32) - plate1.to(tl.float32)
        numerator += difference * plate_difference
        denominator += plate_difference * plate_difference
    tl.store(products + n * 2 * area + offsets, numerator, mask=mask)
    tl.store(products + (n * 2 + 1) * area + offsets, denominator, mask=mask)


@jit
def _transparency(
    img0, img1, overlay_mask, near, products, out, max_static_difference, height, width, small_height, small_width
):
    """The transparency: the ratio of means over 3x3 pixels; 0 where the overlay is opaque."""
    n, y, x, mask = tile(height, width)
    area, small, offsets = height * width, small_height * small_width, y * width + x
    point = coarse_corners(y, x, height, width, small_height, small_width)
    near_mask = mask & (bilinear(near + n * small, point, small_width, 1, mask) > 0.01)
    opaque = bilinear(overlay_mask + n * small, point, small_width, 1, near_mask) > 0.5
    for c in tl.static_range(3):
        pixel_offsets = (n * 3 + c) * area + offsets
        pixel0 = tl.load(img0 + pixel_offsets, mask=near_mask, other=0.0).to(tl.float32)
        pixel1 = tl.load(img1 + pixel_offsets, mask=near_mask, other=0.0).to(tl.float32)
        opaque = opaque & (tl.abs(pixel0 - pixel1) < max_static_difference)
    numerator = window_mean(products + n * 2 * area, y, x, height, width, near_mask, 3)
    denominator = window_mean(products + (n * 2 + 1) * area, y, x, height, width, near_mask, 3)
    transparency = tl.minimum(tl.maximum((numerator + _EPSILON) / (denominator + _EPSILON), 0.0), 1.0)
    transparency = tl.where(near_mask, tl.where(opaque, 0.0, transparency), 1.0)
    tl.store(out + n * area + offsets, transparency.to(out.dtype.element_ty), mask=mask)


@jit
def _composite(
    frames, img0, img1, times, plate0, plate1, transparencies, rows, columns, out, num_times, height, width,
    OVERLAY: tl.constexpr, BARS: tl.constexpr,
):  # fmt: skip
    """One frame with its overlay and bars; frames of a pair are neighbours in the launch."""
    n, y, x, mask = tile(height, width)
    b, area, offsets = n // num_times, height * width, y * width + x
    t = tl.load(times + n % num_times)
    if OVERLAY:
        transparency = tl.load(transparencies + b * area + offsets, mask=mask, other=1.0).to(tl.float32)
    picture_mask = mask
    if BARS:
        picture_mask = picture_mask & (y >= tl.load(rows + 2 * b)) & (y < tl.load(rows + 2 * b + 1))
        picture_mask = picture_mask & (x >= tl.load(columns + 2 * b)) & (x < tl.load(columns + 2 * b + 1))
    for c in tl.static_range(3):
        pair_offsets, frame_offsets = (b * 3 + c) * area + offsets, (n * 3 + c) * area + offsets
        value = tl.load(frames + frame_offsets, mask=mask, other=0.0)
        pixel0 = tl.load(img0 + pair_offsets, mask=mask, other=0.0)
        pixel1 = tl.load(img1 + pair_offsets, mask=mask, other=0.0)
        if OVERLAY:
            front0 = pixel0.to(tl.float32) - transparency * tl.load(plate0 + pair_offsets, mask=mask, other=0.0).to(
                tl.float32
            )
            front1 = pixel1.to(tl.float32) - transparency * tl.load(plate1 + pair_offsets, mask=mask, other=0.0).to(
                tl.float32
            )
            composite = front0 + t * (front1 - front0) + transparency * value.to(tl.float32)
            value = tl.minimum(tl.maximum(composite, 0.0), 1.0).to(value.dtype)
        if BARS:
            value = tl.where(picture_mask, value, tl.where(t > 0.5, pixel1, pixel0))
        tl.store(out + frame_offsets, value, mask=mask)


def lifted_overlay(
    img0: Tensor, img1: Tensor, mask: Tensor, near: Tensor, plates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See `rdvfi.ops.compositing.remove_overlay`."""
    from rdvfi.ops.compositing import MAX_STATIC_DIFFERENCE

    b, _, h, w = img0.shape
    img0, img1, mask, near, plates = (x.contiguous() for x in (img0, img1, mask, near, plates))
    plate0, plate1, transparency = torch.empty_like(img0), torch.empty_like(img1), img0.new_empty((b, 1, h, w))
    products = img0.new_empty((b, 2, h, w), dtype=torch.float32)
    sizes, grid = (h, w, *mask.shape[-2:]), launch_grid(b, h, w)
    _remove_overlay[grid](img0, img1, near, plates, plate0, plate1, products, *sizes)
    _transparency[grid](img0, img1, mask, near, products, transparency, MAX_STATIC_DIFFERENCE, *sizes)
    return plate0, plate1, transparency


def composited(
    frames: Tensor, img0: Tensor, img1: Tensor, times: Tensor, lifted: list[Tensor], bars: list[Tensor]
) -> Tensor:
    """See `rdvfi.ops.compositing.restore_overlay_and_bars`."""
    b, t, _, h, w = frames.shape
    frames, img0, img1, times = frames.contiguous(), img0.contiguous(), img1.contiguous(), times.float().contiguous()
    plate0, plate1, transparency = (x.contiguous() for x in lifted) if lifted else (img0, img1, img0)
    rows, columns = (x.contiguous() for x in bars) if bars else (times, times)
    out = torch.empty_like(frames)
    arguments = [frames, img0, img1, times, plate0, plate1, transparency, rows, columns, out, t, h, w]
    _composite[launch_grid(b * t, h, w)](*arguments, OVERLAY=bool(lifted), BARS=bool(bars))
    return out
