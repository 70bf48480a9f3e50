"""Local correlation: scalar products of each feature with those in a window around it.

``out[o](y) = <source(y), target(y + o)> / sqrt(c)`` for all offsets o with ``|o| <= radius``, borders replicated. It
is the operator ``rdvfi::correlation``: a sum per offset here, one kernel for all of them on CUDA. The gradient is
written out: differentiating the sum over shifted views one by one would allocate and add a full map per offset.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.inference import KernelSpec, custom_operator


def correlation(
    source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], radius: int
) -> Float[Tensor, "n _ h w"]:
    """Scalar products of each source feature with the target's in a (2r+1)^2 window around it.

    Args:
        source: Features at which the windows are centred.
        target: Features that are looked up.
        radius: Reach of the window, in pixels; offsets are in rows, then columns.
    """
    return torch.ops.rdvfi.correlation.default(source, target.to(source.dtype), radius)


def _reference(source: Tensor, target: Tensor, radius: int) -> Tensor:
    h, w = source.shape[-2:]
    padded = _pad(target, radius)
    source = (source * source.shape[1] ** -0.5).contiguous()
    side = range(2 * radius + 1)
    scores = [(source * padded[..., y : y + h, x : x + w]).sum(1) for y in side for x in side]
    return torch.stack(scores, dim=1)


def _pad(target: Tensor, radius: int) -> Tensor:
    return F.pad(target, (radius,) * 4, mode="replicate").contiguous()


def _empty(source: Tensor, target: Tensor, radius: int) -> Tensor:
    n, _, h, w = source.shape
    return source.new_empty((n, (2 * radius + 1) ** 2, h, w))


_correlation = custom_operator("correlation", _reference, _empty, KernelSpec("correlation"))


def _reference_backward(grad: Tensor, source: Tensor, target: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Gradients by source and target."""
    h, w = source.shape[-2:]
    scale = source.shape[1] ** -0.5
    padded = _pad(target, radius)
    scaled = source * scale
    grad_source, grad_padded = torch.zeros_like(scaled), torch.zeros_like(padded)
    grad, index = grad.contiguous(), 0
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            part = grad[:, index : index + 1]
            grad_source.addcmul_(part, padded[..., y : y + h, x : x + w])
            grad_padded[..., y : y + h, x : x + w].addcmul_(part, scaled)
            index += 1
    return grad_source * scale, fold_border_gradient(grad_padded, target, radius)


def fold_border_gradient(grad_padded: Tensor, target: Tensor, radius: int) -> Tensor:
    """The gradient by a target from that by the same with its border replicated."""
    if radius == 0:
        return grad_padded.to(target.dtype)
    pads = [radius] * 4
    like = target.to(grad_padded.dtype).contiguous()
    return torch.ops.aten.replication_pad2d_backward.default(grad_padded, like, pads).to(target.dtype)


custom_operator(
    "correlation_backward",
    _reference_backward,
    lambda grad, source, target, radius: (source.new_empty(source.shape), target.new_empty(target.shape)),
    KernelSpec("correlation", launches=5),
)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.radius = inputs[2]


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    return *torch.ops.rdvfi.correlation_backward.default(grad, *ctx.saved_tensors, ctx.radius), None


_correlation.register_autograd(_gradients, setup_context=_save)
