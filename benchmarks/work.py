"""Minimum work of the operations: memory traffic and arithmetic, counted by hand.

*Compulsory* bytes must cross the memory bus even with a perfect cache: every input is
read once and every output written once. *Counted* bytes are those that the ratio to the copy bandwidth
refers to. They equal the compulsory ones, except for `render`, where each interpolated frame counts two reads of
an image, although the images are the same for all times.
"""

from dataclasses import dataclass

from torch import Tensor

from machine import tensor_bytes


@dataclass(frozen=True)
class Work:
    """Work of one call; None means not counted."""

    bytes_counted: int | None = None
    bytes_compulsory: int | None = None
    operations: int | None = None
    frames: int = 1
    """Number of interpolated frames."""


def warp(image: Tensor, flow: Tensor) -> Work:
    """Per pixel the position (4) and the weights (8), and per channel a sum of four products (7)."""
    moved = 2 * tensor_bytes([image]) + tensor_bytes([flow])
    pixels = flow.numel() // 2
    return Work(moved, moved, pixels * (12 + 7 * image.shape[1]), len(image))


def warp_backward(image: Tensor, flow: Tensor) -> Work:
    """Reads image, flow and cotangent, writes both gradients; about twice `warp`'s arithmetic."""
    moved = 3 * tensor_bytes([image]) + 2 * tensor_bytes([flow])
    forward = warp(image, flow)
    return Work(moved, moved, 2 * (forward.operations or 0), len(image))


def splat(values: Tensor, flow: Tensor, weights: Tensor) -> Work:
    """Reads all three inputs, writes float32 sums and totals; `warp`'s arithmetic plus a product by the weight."""
    pixels = flow.numel() // 2
    moved = tensor_bytes([values, flow, weights]) + 4 * pixels * (values.shape[1] + 1)
    return Work(moved, moved, pixels * (12 + 9 * (values.shape[1] + 1)), len(values))


def render(img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor) -> Work:
    """Per output pixel: upsampling of eight maps (8 each), two warps (33 each), the blend (15)."""
    frames = flow0.shape[0] * flow0.shape[1]
    image, maps = tensor_bytes([img0[:1]]), tensor_bytes([flow0, flow1, mask, residual])
    pixels = frames * img0.shape[-2] * img0.shape[-1]
    return Work(
        bytes_counted=3 * image * frames + maps,
        bytes_compulsory=tensor_bytes([img0, img1]) + image * frames + maps,
        operations=pixels * (64 + 66 + 15),
        frames=frames,
    )


def add(first: Work, second: Work) -> Work:
    """The work of two operations in sequence."""
    return Work(
        (first.bytes_counted or 0) + (second.bytes_counted or 0),
        (first.bytes_compulsory or 0) + (second.bytes_compulsory or 0),
        (first.operations or 0) + (second.operations or 0),
        first.frames,
    )
