"""Bias, residual connection, activation and replicate padding between two convolutions, in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.ops.inference import operator


@operator("activation", name="activated")
def activate(x: Tensor, bias: Tensor | None, residual: Tensor | None, border: int) -> tuple[Tensor, Tensor]:
    """``total = x + bias + residual``, and SiLU of it with ``border`` replicated pixels around it.

    The memory format of the results is `torch.channels_last`, as tensor cores need it.

    Args:
        x: Features (b, c, h, w).
        bias: Bias of each channel, (c,).
        residual: Features of the same shape.
        border: Padding that the next convolution needs, in pixels.
    """
    if bias is not None:
        x = x + bias[:, None, None]
    total = (x.clone() if residual is None else x + residual).contiguous(memory_format=torch.channels_last)
    active = F.silu(total)
    if border:
        active = F.pad(active, (border,) * 4, mode="replicate")
    return total, active.contiguous(memory_format=torch.channels_last)


def uses_fused_operators(x: Tensor) -> bool:
    """Whether networks use these operators: in eager inference, but not on a CPU, where convolutions pad."""
    return x.device.type != "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
