"""Backward warping: sample an image where a flow field points.

``out(y) = image(y + F(y))``, bilinear, borders replicated, ``align_corners=False``. Coordinates are
float32 whatever the image's type: in half precision they are off by a pixel beyond about 2000 px.

It is the operator ``rdvfi::backward_warp``. Its implementation here, by `grid_sample`, defines the
results and runs on every device; on CUDA the kernels of `rdvfi.ops.kernels.warp_kernels` take its place.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.inference import Kernels, custom_operator

_BILINEAR, _BORDER = 0, 1
"""What `torch.nn.functional.grid_sample` calls these modes underneath."""


def backward_warp(image: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n c h w"]:
    """Sample ``image`` at ``pixel + flow``: bilinear, borders replicated. Differentiable in both.

    Args:
        image: What is sampled.
        flow: ``(dx, dy)`` in pixels of the same grid.

    Returns:
        ``image(y + flow(y))``, in the image's type. It is worked out in float32, in float64 if an
        argument is.

    Raises:
        ValueError: If the flow is not one of the image's grid.
    """
    check_same_grid(image, flow=flow)
    return torch.ops.rdvfi.backward_warp.default(image, flow)


def check_same_grid(image: Tensor, **others: Tensor) -> None:
    """Refuse fields of another batch or size: a kernel would read beyond them."""
    n, _, h, w = image.shape
    for name, field in others.items():
        channels = 2 if name == "flow" else 1
        if field.shape != (n, channels, h, w):
            raise ValueError(
                f"{name} must be of shape {(n, channels, h, w)} for an image of shape "
                f"{tuple(image.shape)}, and is {tuple(field.shape)}"
            )


def working_type(*tensors: Tensor) -> torch.dtype:
    """What coordinates and sums are worked out in: float64 if any tensor is that, else float32."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def _sampling_grid(flow: Tensor, dtype: torch.dtype) -> Tensor:
    """Normalised coordinates of ``pixel + flow`` for `grid_sample`: (n, h, w, 2).

    Written plane by plane: one pass over the flow and nothing in between.
    """
    n, _, h, w = flow.shape
    grid = flow.new_empty((n, 2, h, w), dtype=dtype)
    x, y = (_centres(size, dtype, flow.device) for size in (w, h))
    torch.add(x, flow[:, 0].to(dtype), alpha=2.0 / w, out=grid[:, 0])
    torch.add(y[:, None], flow[:, 1].to(dtype), alpha=2.0 / h, out=grid[:, 1])
    return grid.permute(0, 2, 3, 1)


def _centres(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normalised coordinates of the pixel centres along one side."""
    # Ends half a step behind the last one. Unlike those of `linspace`, steps add up in float64.
    return torch.arange(1.0 / size - 1.0, 1.0, 2.0 / size, dtype=dtype, device=device)


def _reference(image: Tensor, flow: Tensor) -> Tensor:
    dtype = working_type(image, flow)
    grid = _sampling_grid(flow, dtype)
    return torch.grid_sampler_2d(image.to(dtype), grid, _BILINEAR, _BORDER, False).to(image.dtype)


_backward_warp = custom_operator(
    "backward_warp", _reference, lambda image, _: image.new_empty(image.shape), Kernels("warp")
)


def _reference_backward(
    grad: Tensor, image: Tensor, flow: Tensor, need_image: bool, need_flow: bool
) -> tuple[Tensor, Tensor]:
    """Gradients by image and flow; empty where not needed."""
    h, w = flow.shape[-2:]
    dtype = working_type(image, flow)
    by_image, by_grid = torch.ops.aten.grid_sampler_2d_backward.default(
        grad.to(dtype), image.to(dtype), _sampling_grid(flow, dtype), _BILINEAR, _BORDER, False, [need_image, need_flow]
    )
    by_flow = _empty(flow, need_flow)
    if need_flow:
        torch.mul(by_grid[..., 0], 2.0 / w, out=by_flow[:, 0])
        torch.mul(by_grid[..., 1], 2.0 / h, out=by_flow[:, 1])
    return by_image.to(image.dtype) if need_image else _empty(image, False), by_flow


def _empty(like: Tensor, needed: bool) -> Tensor:
    return like.new_empty(like.shape if needed else 0)


def _repeats_or_may_not(grad: Tensor, image: Tensor, flow: Tensor, need_image: bool, need_flow: bool) -> bool:
    """Where repeatable results were asked for, torch itself says what it can give."""
    return not (need_image and torch.are_deterministic_algorithms_enabled())


custom_operator(
    "backward_warp_backward",
    _reference_backward,
    lambda grad, image, flow, need_image, need_flow: (_empty(image, need_image), _empty(flow, need_flow)),
    Kernels("warp", launches=3),
    fits=_repeats_or_may_not,
)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    needed = ctx.needs_input_grad
    by_image, by_flow = torch.ops.rdvfi.backward_warp_backward.default(grad, *ctx.saved_tensors, *needed)
    return by_image if needed[0] else None, by_flow if needed[1] else None


_backward_warp.register_autograd(_gradients, setup_context=_save)
