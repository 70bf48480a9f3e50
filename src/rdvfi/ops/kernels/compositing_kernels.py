"""Bars and overlays at full size on CUDA: the kernels of `rdvfi.ops.compositing`.

Each frame is read and written once. Tensors are contiguous; sums are float32.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, coarse_corners, launch_grid, tile, window_mean, zeros

_NONE = tl.constexpr(1e-4)


@triton.jit
@no_type_check
def _lifted(img0, img1, near, plates, out0, out1, products, height, width, small_height, small_width):
    """Frames without the overlay, and the two products of which its transparency is made."""
    n, y, x, mask = tile(height, width)
    area, small, here = height * width, small_height * small_width, y * width + x
    point = coarse_corners(y, x, height, width, small_height, small_width)
    close = mask & (bilinear(near + n * small, point, small_width, 1, mask) > 0.01)
    up = zeros()
    down = up
    for c in tl.static_range(3):
        at, plate = (n * 3 + c) * area + here, plates + (n * 6 + c) * small
        a = tl.load(img0 + at, mask=mask, other=0.0)
        b = tl.load(img1 + at, mask=mask, other=0.0)
        first = bilinear(plate, point, small_width, 1, close).to(a.dtype)
        last = bilinear(plate + 3 * small, point, small_width, 1, close).to(a.dtype)
        first, last = tl.where(close, first, a), tl.where(close, last, b)
        tl.store(out0 + at, first, mask=mask)
        tl.store(out1 + at, last, mask=mask)
        apart = a.to(tl.float32) - b.to(tl.float32)
        moved = first.to(tl.float32) - last.to(tl.float32)
        up += apart * moved
        down += moved * moved
    tl.store(products + n * 2 * area + here, up, mask=mask)
    tl.store(products + (n * 2 + 1) * area + here, down, mask=mask)


@triton.jit
@no_type_check
def _clear(img0, img1, mask, near, products, out, equal, height, width, small_height, small_width):
    """The transparency: the products' means over three by three pixels, and what is opaque."""
    n, y, x, inside = tile(height, width)
    area, small, here = height * width, small_height * small_width, y * width + x
    point = coarse_corners(y, x, height, width, small_height, small_width)
    close = inside & (bilinear(near + n * small, point, small_width, 1, inside) > 0.01)
    opaque = bilinear(mask + n * small, point, small_width, 1, close) > 0.5
    for c in tl.static_range(3):
        at = (n * 3 + c) * area + here
        a = tl.load(img0 + at, mask=close, other=0.0).to(tl.float32)
        b = tl.load(img1 + at, mask=close, other=0.0).to(tl.float32)
        opaque = opaque & (tl.abs(a - b) < equal)
    up = window_mean(products + n * 2 * area, y, x, height, width, close, 3)
    down = window_mean(products + (n * 2 + 1) * area, y, x, height, width, close, 3)
    clear = tl.minimum(tl.maximum((up + _NONE) / (down + _NONE), 0.0), 1.0)
    clear = tl.where(close, tl.where(opaque, 0.0, clear), 1.0)
    tl.store(out + n * area + here, clear.to(out.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _composited(
    frames, img0, img1, times, first, last, clear, rows, columns, out, count, height, width, OVERLAY: tl.constexpr,
    BARS: tl.constexpr,
):  # fmt: skip
    """One frame with what covers it; those of a pair are neighbours in the launch."""
    n, y, x, mask = tile(height, width)
    b, area, here = n // count, height * width, y * width + x
    time = tl.load(times + n % count)
    if OVERLAY:
        share = tl.load(clear + b * area + here, mask=mask, other=1.0).to(tl.float32)
    picture = mask
    if BARS:
        picture = picture & (y >= tl.load(rows + 2 * b)) & (y < tl.load(rows + 2 * b + 1))
        picture = picture & (x >= tl.load(columns + 2 * b)) & (x < tl.load(columns + 2 * b + 1))
    for c in tl.static_range(3):
        at, own = (b * 3 + c) * area + here, (n * 3 + c) * area + here
        value = tl.load(frames + own, mask=mask, other=0.0)
        before, after = tl.load(img0 + at, mask=mask, other=0.0), tl.load(img1 + at, mask=mask, other=0.0)
        if OVERLAY:
            front0 = before.to(tl.float32) - share * tl.load(first + at, mask=mask, other=0.0).to(tl.float32)
            front1 = after.to(tl.float32) - share * tl.load(last + at, mask=mask, other=0.0).to(tl.float32)
            laid = front0 + time * (front1 - front0) + share * value.to(tl.float32)
            value = tl.minimum(tl.maximum(laid, 0.0), 1.0).to(value.dtype)
        if BARS:
            value = tl.where(picture, value, tl.where(time > 0.5, after, before))
        tl.store(out + own, value, mask=mask)


def lifted_overlay(
    img0: Tensor, img1: Tensor, mask: Tensor, near: Tensor, plates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See `rdvfi.ops.compositing.lifted_overlay`."""
    from rdvfi.ops.compositing import EQUAL

    b, _, h, w = img0.shape
    img0, img1, mask, near, plates = (x.contiguous() for x in (img0, img1, mask, near, plates))
    out0, out1, clear = torch.empty_like(img0), torch.empty_like(img1), img0.new_empty((b, 1, h, w))
    products = img0.new_empty((b, 2, h, w), dtype=torch.float32)
    sizes, grid = (h, w, *mask.shape[-2:]), launch_grid(b, h, w)
    _lifted[grid](img0, img1, near, plates, out0, out1, products, *sizes)
    _clear[grid](img0, img1, mask, near, products, clear, EQUAL, *sizes)
    return out0, out1, clear


def composited(
    frames: Tensor, img0: Tensor, img1: Tensor, times: Tensor, lifted: list[Tensor], bars: list[Tensor]
) -> Tensor:
    """See `rdvfi.ops.compositing.composited`."""
    b, t, _, h, w = frames.shape
    frames, img0, img1, times = frames.contiguous(), img0.contiguous(), img1.contiguous(), times.float().contiguous()
    first, last, clear = (x.contiguous() for x in lifted) if lifted else (img0, img1, img0)
    rows, columns = (x.contiguous() for x in bars) if bars else (times, times)
    out = torch.empty_like(frames)
    arguments = [frames, img0, img1, times, first, last, clear, rows, columns, out, t, h, w]
    _composited[launch_grid(b * t, h, w)](*arguments, OVERLAY=bool(lifted), BARS=bool(bars))
    return out
