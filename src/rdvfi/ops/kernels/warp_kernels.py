"""Backward warping on CUDA: the kernels of `rdvfi.ops.backward_warp`.

Floor of the forward pass, per pixel of the output with C channels of s bytes: the flow is read
(8 bytes), each channel of the image is read about once (neighbouring look-ups share their corners
through the caches) and written once, hence ``8 + 2 C s`` bytes: 32 for float32 RGB, 20 for float16.
Against that stand about 20 operations for the coordinates and 9 per channel: the memory decides.

The backward pass reads flow, gradient and image, writes the gradient of the flow, and adds four shares per channel to
a float32 buffer by atomic additions: ``16 + C (2 s + 16)`` bytes, most of them for the additions, and about 30
operations per channel. The order of the additions changes from run to run, so the gradient of the image repeats to
rounding only; that of the flow repeats exactly.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import atomic_add, bilinear, corners, launch_grid, load, store_pair, tile, zeros


def backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """`rdvfi.ops.backward_warp` by a Triton kernel; tensors may have any strides."""
    n, c, h, w = image.shape
    out = torch.empty_like(image, memory_format=torch.contiguous_format)
    _warp_forward[launch_grid(n, h, w)](image, flow, out, h, w, *image.stride(), *flow.stride(), CHANNELS=c)
    return out


def backward_warp_backward(
    grad: Tensor, image: Tensor, flow: Tensor, need_image: bool, need_flow: bool
) -> tuple[Tensor, Tensor]:
    """Gradients by image and flow; empty where not needed."""
    n, c, h, w = image.shape
    grad_image = image.new_zeros(image.shape if need_image else 0, dtype=torch.float32)
    grad_flow = flow.new_empty(flow.shape if need_flow else 0)
    arguments = [grad, image, flow, grad_image, grad_flow, h, w, *grad.stride(), *image.stride(), *flow.stride()]
    _warp_backward[launch_grid(n, h, w)](*arguments, NEED_IMAGE=need_image, NEED_FLOW=need_flow, CHANNELS=c)
    return grad_image.to(image.dtype), grad_flow


@jit
def _warp_forward(
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
        value = bilinear(image, point, image_stride_h, image_stride_w, mask)
        tl.store(out, value.to(out.dtype.element_ty), mask=mask)
        image += image_stride_c
        out += height * width


@jit
def _image_slopes(image, point, stride_h, stride_w, mask):
    """Derivatives by x and y of an image between four `corners`."""
    x0, y0, x1, y1, fx, fy = point
    top_left = load(image, y0, x0, stride_h, stride_w, mask)
    top_right = load(image, y0, x1, stride_h, stride_w, mask)
    bottom_left = load(image, y1, x0, stride_h, stride_w, mask)
    bottom_right = load(image, y1, x1, stride_h, stride_w, mask)
    top, bottom = top_right - top_left, bottom_right - bottom_left
    left, right = bottom_left - top_left, bottom_right - top_right
    return top + fy * (bottom - top), left + fx * (right - left)


@jit
def _add_to_corners(grad_image, point, value, width, mask):
    """Add a value to four `corners` of a contiguous plane, by their bilinear weights."""
    x0, y0, x1, y1, fx, fy = point
    atomic_add(grad_image, y0, x0, width, value * (1.0 - fx) * (1.0 - fy), mask)
    atomic_add(grad_image, y0, x1, width, value * fx * (1.0 - fy), mask)
    atomic_add(grad_image, y1, x0, width, value * (1.0 - fx) * fy, mask)
    atomic_add(grad_image, y1, x1, width, value * fx * fy, mask)


@jit
def _warp_backward(
    grad, image, flow, grad_image, grad_flow, height, width, grad_stride_n, grad_stride_c, grad_stride_h,
    grad_stride_w, image_stride_n, image_stride_c, image_stride_h, image_stride_w, flow_stride_n, flow_stride_c,
    flow_stride_h, flow_stride_w, NEED_IMAGE: tl.constexpr, NEED_FLOW: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, y, x, mask = tile(height, width)
    flow += n * flow_stride_n
    target_x = x + load(flow, y, x, flow_stride_h, flow_stride_w, mask)
    target_y = y + load(flow + flow_stride_c, y, x, flow_stride_h, flow_stride_w, mask)
    point = corners(target_x, target_y, height, width)
    grad_x = zeros()
    grad_y = zeros()
    grad += n * grad_stride_n
    image += n * image_stride_n
    if NEED_IMAGE:
        grad_image += n * CHANNELS * height * width
    for _ in range(CHANNELS):
        grad_value = load(grad, y, x, grad_stride_h, grad_stride_w, mask)
        if NEED_FLOW:
            slope_x, slope_y = _image_slopes(image, point, image_stride_h, image_stride_w, mask)
            grad_x += grad_value * slope_x
            grad_y += grad_value * slope_y
            image += image_stride_c
        if NEED_IMAGE:
            _add_to_corners(grad_image, point, grad_value, width, mask)
            grad_image += height * width
        grad += grad_stride_c
    if NEED_FLOW:
        # At and beyond the border the sampled pixel does not change with the flow any more.
        grad_x = tl.where((target_x > 0.0) & (target_x < width - 1.0), grad_x, 0.0)
        grad_y = tl.where((target_y > 0.0) & (target_y < height - 1.0), grad_y, 0.0)
        store_pair(grad_flow + (n * 2 * height + y) * width + x, height * width, grad_x, grad_y, mask)
