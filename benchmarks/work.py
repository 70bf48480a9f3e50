"""What the operations have to do at least: bytes to move, and arithmetic, counted by hand.

*Compulsory* bytes are those that must cross the memory bus however good the cache is: every input
read once, every output written once. *Counted* bytes are what the ratio to the copy bandwidth is
taken of. They are the compulsory ones, but for `render`: there each new frame counts two reads of
an image, though the images are the same for all times.
"""

from dataclasses import dataclass

from torch import Tensor

from measure import size_of


@dataclass(frozen=True)
class Work:
    """Of one call. None: not counted."""

    bytes_counted: int | None = None
    bytes_compulsory: int | None = None
    operations: int | None = None
    frames: int = 1
    """New frames that it makes."""


def warp(image: Tensor, flow: Tensor) -> Work:
    """Per pixel the position (4), the shares (8), and per channel four products added up (7)."""
    moved = 2 * size_of([image]) + size_of([flow])
    pixels = flow.numel() // 2
    return Work(moved, moved, pixels * (12 + 7 * image.shape[1]), len(image))


def warp_backward(image: Tensor, flow: Tensor) -> Work:
    """Reads image, flow and cotangent, writes both gradients; about twice `warp`'s arithmetic."""
    moved = 3 * size_of([image]) + 2 * size_of([flow])
    forward = warp(image, flow)
    return Work(moved, moved, 2 * (forward.operations or 0), len(image))


def splat(values: Tensor, flow: Tensor, weights: Tensor) -> Work:
    """Reads all three, writes float32 sums and totals; like `warp`, and a product by the weight."""
    pixels = flow.numel() // 2
    moved = size_of([values, flow, weights]) + 4 * pixels * (values.shape[1] + 1)
    return Work(moved, moved, pixels * (12 + 9 * (values.shape[1] + 1)), len(values))


def render(img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor) -> Work:
    """Per new pixel: eight maps upsampled (8 each), two warps (33 each), the blend (15)."""
    frames = flow0.shape[0] * flow0.shape[1]
    image, maps = size_of([img0[:1]]), size_of([flow0, flow1, mask, residual])
    pixels = frames * img0.shape[-2] * img0.shape[-1]
    return Work(
        bytes_counted=3 * image * frames + maps,
        bytes_compulsory=size_of([img0, img1]) + image * frames + maps,
        operations=pixels * (64 + 66 + 15),
        frames=frames,
    )


def added(first: Work, second: Work) -> Work:
    """One after the other."""
    return Work(
        (first.bytes_counted or 0) + (second.bytes_counted or 0),
        (first.bytes_compulsory or 0) + (second.bytes_compulsory or 0),
        (first.operations or 0) + (second.operations or 0),
        first.frames,
    )
