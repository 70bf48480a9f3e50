"""Local correlation: how well each feature matches those in a window around it.

``out[o](y) = <source(y), target(y + o)> / sqrt(c)`` for all offsets o with ``|o| <= radius``,
borders replicated. The gradient is written out: differentiating the sum over shifted views one by
one would allocate and add a full map per offset.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class _Correlation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, wide: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(source, wide)
        ctx.radius = radius
        h, w = source.shape[-2:]
        side = range(2 * radius + 1)
        scores = [(source * wide[..., y : y + h, x : x + w]).sum(1) for y in side for x in side]
        return torch.stack(scores, dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        source, wide = ctx.saved_tensors
        h, w = source.shape[-2:]
        to_source, to_wide = torch.zeros_like(source), torch.zeros_like(wide)
        scores, index = grads[0].contiguous(), 0
        for y in range(2 * ctx.radius + 1):
            for x in range(2 * ctx.radius + 1):
                grad = scores[:, index : index + 1]
                to_source.addcmul_(grad, wide[..., y : y + h, x : x + w])
                to_wide[..., y : y + h, x : x + w].addcmul_(grad, source)
                index += 1
        return to_source, to_wide, None


def correlation(
    source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], radius: int
) -> Float[Tensor, "n _ h w"]:
    """Scalar products of each source feature with the target's in a (2r+1)^2 window around it.

    Args:
        source: Features at which the windows are centred.
        target: Features that are looked up.
        radius: Reach of the window, in pixels; offsets are in rows, then columns.
    """
    target = target.to(source.dtype)
    wide = F.pad(target, (radius,) * 4, mode="replicate")
    source = (source * source.shape[1] ** -0.5).contiguous()
    scores = _Correlation.apply(source, wide.contiguous(), radius)
    assert isinstance(scores, Tensor)
    return scores
