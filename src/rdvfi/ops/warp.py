"""Backward warping: sample an image at the end points of a flow.

``out(y) = image(y + F(y))``, bilinear, borders replicated, ``align_corners=False``. Coordinates are
float32 whatever the image's type: in half precision they are off by a pixel beyond about 2000 px.

It is the operator ``rdvfi::backward_warp``. Its implementation here, by `grid_sample`, defines the
results and runs on every device; on CUDA the kernels of `rdvfi.ops.kernels.warp_kernels` take its place.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.inference import KernelSpec, custom_operator

_BILINEAR, _BORDER = 0, 1
"""What `torch.nn.functional.grid_sample` calls these modes underneath."""


def backward_warp(image: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n c h w"]:
    """Sample ``image`` at ``pixel + flow``: bilinear, borders replicated. Differentiable in both.

    Args:
        image: The sampled image.
        flow: ``(dx, dy)`` in pixels of the same grid.

    Returns:
        ``image(y + flow(y))``, in the image's type; computed in float32, in float64 if an argument is.

    Raises:
        ValueError: If the flow is not one of the image's grid.
    """
    check_same_grid(image, flow=flow)
    return torch.ops.rdvfi.backward_warp.default(image, flow)


def check_same_grid(image: Tensor, **others: Tensor) -> None:
    """Check batch and size of fields, since a kernel would read out of bounds."""
    n, _, h, w = image.shape
    for name, field in others.items():
        channels = 2 if name == "flow" else 1
        if field.shape != (n, channels, h, w):
            raise ValueError(
                f"{name} must be of shape {(n, channels, h, w)} for an image of shape "
                f"{tuple(image.shape)}, and is {tuple(field.shape)}"
            )


def working_type(*tensors: Tensor) -> torch.dtype:
    """The type of coordinates and sums: float64 if any tensor has it, else float32."""
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
    "backward_warp", _reference, lambda image, _: image.new_empty(image.shape), KernelSpec("warp")
)


def _reference_backward(
    grad: Tensor, image: Tensor, flow: Tensor, need_image: bool, need_flow: bool
) -> tuple[Tensor, Tensor]:
    """Gradients by image and flow; empty where not needed."""
    h, w = flow.shape[-2:]
    dtype = working_type(image, flow)
    grad_image, grad_grid = torch.ops.aten.grid_sampler_2d_backward.default(
        grad.to(dtype), image.to(dtype), _sampling_grid(flow, dtype), _BILINEAR, _BORDER, False, [need_image, need_flow]
    )
    grad_flow = _empty(flow, need_flow)
    if need_flow:
        torch.mul(grad_grid[..., 0], 2.0 / w, out=grad_flow[:, 0])
        torch.mul(grad_grid[..., 1], 2.0 / h, out=grad_flow[:, 1])
    return grad_image.to(image.dtype) if need_image else _empty(image, False), grad_flow


def _empty(like: Tensor, needed: bool) -> Tensor:
    return like.new_empty(like.shape if needed else 0)


def _may_use_atomics(grad: Tensor, image: Tensor, flow: Tensor, need_image: bool, need_flow: bool) -> bool:
    """Not where deterministic algorithms are required: there torch's own implementation runs, or refuses."""
    return not (need_image and torch.are_deterministic_algorithms_enabled())


custom_operator(
    "backward_warp_backward",
    _reference_backward,
    lambda grad, image, flow, need_image, need_flow: (_empty(image, need_image), _empty(flow, need_flow)),
    KernelSpec("warp", launches=3),
    supports=_may_use_atomics,
)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    needed = ctx.needs_input_grad
    grad_image, grad_flow = torch.ops.rdvfi.backward_warp_backward.default(grad, *ctx.saved_tensors, *needed)
    return grad_image if needed[0] else None, grad_flow if needed[1] else None


_backward_warp.register_autograd(_gradients, setup_context=_save)
