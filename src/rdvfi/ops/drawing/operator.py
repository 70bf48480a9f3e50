"""Drawing frames: the one full-size pass of the whole pipeline.

For every requested time, small maps (two flows, a blend mask, an RGB residual) are upsampled to
the image size, both end frames are warped along the flows, and blended::

    frame = mask * warp(img0, flow0) + (1 - mask) * warp(img1, flow1) + residual

With gradients this is the plain composition of `rdvfi.ops.drawing.reference`. Without, it is the
operator ``rdvfi::render``, which never holds a full-size intermediate of a whole frame: OpenCV
draws on a CPU (`rdvfi.ops.drawing.opencv`), a kernel on CUDA (`rdvfi.ops.kernels.render_kernels`), and the
reference, a band of rows at a time, wherever these cannot.
"""

from typing import Any

import torch
from jaxtyping import Float, Int16, UInt8
from torch import Tensor

from rdvfi.ops.drawing import opencv, reference
from rdvfi.ops.inference import KernelSpec, custom_operator
from rdvfi.types import Flows, Image

LEVELS = {torch.uint8: 255, torch.int16: 1023}
"""Largest value of the types of whole numbers that frames may have."""


def render(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
    *,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "b t 3 H W"] | UInt8[Tensor, "b t 3 H W"] | Int16[Tensor, "b t 3 H W"]:
    """Draw frames from both end frames along small-grid flows.

    Differentiable in every argument. Coordinates are float32 whatever the images' type.

    Args:
        img0: First frames.
        img1: Last frames.
        flow0: Flow from each pixel of the new frames to ``img0``, in small-grid pixels.
        flow1: The same for ``img1``.
        mask: Share of the first frame in the blend, [0, 1].
        residual: Added colour.
        dtype: Type of the frames, the images' own by default. `torch.uint8` gives whole numbers
            from 0 to 255, `torch.int16` those of ten bits, 0 to 1023, rounded to the nearest, for
            frames that go to a file or a screen next.

    Returns:
        The frames, clamped to [0, 1] where no gradient is recorded.

    Raises:
        ValueError: If shapes do not belong together, whole numbers are to have gradients, or the type is no
            type of frames.
    """
    arguments = (img0, img1, flow0, flow1, mask, residual)
    _check(*arguments)
    dtype = dtype or img0.dtype
    if not dtype.is_floating_point and dtype not in LEVELS:
        raise ValueError(f"dtype is {dtype}; frames are floats, torch.uint8 or torch.int16 (ten bits)")
    if torch.is_grad_enabled() and any(x.requires_grad for x in arguments):
        if not dtype.is_floating_point:
            raise ValueError(f"frames of type {dtype} have no gradient; call render under torch.no_grad()")
        return reference.composition(*arguments).to(dtype)
    return _render(*arguments, dtype)


# The annotations are plain: they are the operator's schema.
def _reference(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor, dtype: torch.dtype
) -> Tensor:
    """Frames without gradients."""
    return _draw_by_reference(img0, img1, reference.join_maps(flow0, flow1, mask, residual), dtype)


def _empty(img0: Tensor, img1: Tensor, flow0: Tensor, *rest: Any) -> Tensor:
    return img0.new_empty((*flow0.shape[:2], 3, *img0.shape[-2:]), dtype=rest[-1])


_render = custom_operator("render", _reference, _empty, KernelSpec("render", launches=3))


@_render.register_kernel("cpu")
def _(img0: Tensor, img1: Tensor, *rest: Any) -> Tensor:
    maps, dtype = reference.join_maps(*(x.float() for x in rest[:-1])), rest[-1]
    if not opencv.fits(img0.shape[-2], img0.shape[-1]) or not opencv.is_exact():
        return _draw_by_reference(img0, img1, maps, dtype)
    return _convert_frames(opencv.draw_in_bands(img0.float(), img1.float(), maps), dtype)


def _draw_by_reference(img0: Tensor, img1: Tensor, maps: Tensor, dtype: torch.dtype) -> Tensor:
    return _convert_frames(reference.draw_in_bands(img0.to(maps.dtype), img1.to(maps.dtype), maps), dtype)


def _convert_frames(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Frames in [0, 1] in the type that was asked for."""
    return frames.to(dtype) if dtype.is_floating_point else (LEVELS[dtype] * frames).round_().to(dtype)


def _check(img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor) -> None:
    b, t, h, w = (flow0.shape[i] for i in (0, 1, -2, -1))
    expected = {
        "img0": (img0, (b, 3, *img0.shape[-2:])),
        "img1": (img1, tuple(img0.shape)),
        "flow0": (flow0, (b, t, 2, h, w)),
        "flow1": (flow1, (b, t, 2, h, w)),
        "mask": (mask, (b, t, 1, h, w)),
        "residual": (residual, (b, t, 3, h, w)),
    }
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}; beside img0 {tuple(img0.shape)} and "
                f"flow0 {tuple(flow0.shape)} it must be {shape}"
            )
