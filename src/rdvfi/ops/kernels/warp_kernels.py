"""Backward warping on CUDA: the kernels of `rdvfi.ops.backward_warp`.

Floor of the forward pass, per pixel of the output with C channels of s bytes: the flow is read
(8 bytes), each channel of the image is read about once (neighbouring look-ups share their corners
through the caches) and written once, hence ``8 + 2 C s`` bytes: 32 for float32 RGB, 20 for float16.
Against that stand about 20 operations for the coordinates and 9 per channel: the memory decides.

The backward pass reads flow, gradient and image, writes the gradient of the flow, and adds four
shares per channel to a float32 buffer by atomic additions: ``16 + C (2 s + 16)`` bytes, most of
them for the additions, and about 30 operations per channel. The order of the additions changes
from run to run, so the gradient of the image repeats to rounding only; that of the flow repeats
exactly.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import atomic_add, bilinear, corners, launch_grid, load, tile, zeros


def backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """`rdvfi.ops.backward_warp` by a Triton kernel; tensors may have any strides."""
    n, c, h, w = image.shape
    out = torch.empty_like(image, memory_format=torch.contiguous_format)
    _forward[launch_grid(n, h, w)](image, flow, out, h, w, *image.stride(), *flow.stride(), CHANNELS=c)
    return out


def backward_warp_backward(
    grad: Tensor, image: Tensor, flow: Tensor, need_image: bool, need_flow: bool
) -> tuple[Tensor, Tensor]:
    """Gradients by image and flow; empty where not needed."""
    n, c, h, w = image.shape
    by_image = image.new_zeros(image.shape if need_image else 0, dtype=torch.float32)
    by_flow = flow.new_empty(flow.shape if need_flow else 0)
    arguments = [grad, image, flow, by_image, by_flow, h, w, *grad.stride(), *image.stride(), *flow.stride()]
    _backward[launch_grid(n, h, w)](*arguments, NEED_IMAGE=need_image, NEED_FLOW=need_flow, CHANNELS=c)
    return by_image.to(image.dtype), by_flow


@triton.jit
@no_type_check
def _forward(
    image, flow, out, height, width, image_stride_n, image_stride_c, image_stride_h, image_stride_w, flow_stride_n,
    flow_stride_c, flow_stride_h, flow_stride_w, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, y, x, mask = tile(height, width)
    flow += n * flow_stride_n
    dx = load(flow, y, x, flow_stride_h, flow_stride_w, mask)
    dy = load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask)
    point = corners(x + dx, y + dy, height, width)
    image += n * image_stride_n
    out += (n * CHANNELS * height + y) * width + x
    for _ in range(CHANNELS):
        seen = bilinear(image, point, image_stride_h, image_stride_w, mask)
        tl.store(out, seen.to(out.dtype.element_ty), mask=mask)
        image += image_stride_c
        out += height * width


@triton.jit
@no_type_check
def _backward(
    grad, image, flow, by_image, by_flow, height, width, grad_stride_n, grad_stride_c, grad_stride_h, grad_stride_w,
    image_stride_n, image_stride_c, image_stride_h, image_stride_w, flow_stride_n, flow_stride_c, flow_stride_h,
    flow_stride_w, NEED_IMAGE: tl.constexpr, NEED_FLOW: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, y, x, mask = tile(height, width)
    flow += n * flow_stride_n
    to_x = x + load(flow, y, x, flow_stride_h, flow_stride_w, mask)
    to_y = y + load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask)
    x0, y0, x1, y1, fx, fy = corners(to_x, to_y, height, width)
    by_x = zeros()
    by_y = zeros()
    grad += n * grad_stride_n
    image += n * image_stride_n
    if NEED_IMAGE:
        by_image += n * CHANNELS * height * width
    for _ in range(CHANNELS):
        push = load(grad, y, x, grad_stride_h, grad_stride_w, mask)
        if NEED_FLOW:
            top_left = load(image, y0, x0, image_stride_h, image_stride_w, mask)
            top_right = load(image, y0, x1, image_stride_h, image_stride_w, mask)
            bottom_left = load(image, y1, x0, image_stride_h, image_stride_w, mask)
            bottom_right = load(image, y1, x1, image_stride_h, image_stride_w, mask)
            top, bottom = top_right - top_left, bottom_right - bottom_left
            left, right = bottom_left - top_left, bottom_right - top_right
            by_x += push * (top + fy * (bottom - top))
            by_y += push * (left + fx * (right - left))
            image += image_stride_c
        if NEED_IMAGE:
            atomic_add(by_image, y0, x0, width, push * (1.0 - fx) * (1.0 - fy), mask)
            atomic_add(by_image, y0, x1, width, push * fx * (1.0 - fy), mask)
            atomic_add(by_image, y1, x0, width, push * (1.0 - fx) * fy, mask)
            atomic_add(by_image, y1, x1, width, push * fx * fy, mask)
            by_image += height * width
        grad += grad_stride_c
    if NEED_FLOW:
        # At and beyond the border the look-up does not move with the flow any more.
        moves_x = (to_x > 0.0) & (to_x < width - 1.0)
        moves_y = (to_y > 0.0) & (to_y < height - 1.0)
        by_flow += (n * 2 * height + y) * width + x
        kind = by_flow.dtype.element_ty
        tl.store(by_flow, tl.where(moves_x, by_x, 0.0).to(kind), mask=mask)
        tl.store(by_flow + height * width, tl.where(moves_y, by_y, 0.0).to(kind), mask=mask)
