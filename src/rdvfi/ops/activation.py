"""Between two convolutions: bias, residual connection, activation and replicated border in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.ops.inference import operator


@operator("activation")
def activated(x: Tensor, bias: Tensor | None, added: Tensor | None, border: int) -> tuple[Tensor, Tensor]:
    """``total = x + bias + added``, and SiLU of it with ``border`` replicated pixels around it.

    Results lie in memory as `torch.channels_last`, the layout that tensor cores take.

    Args:
        x: Features (b, c, h, w).
        bias: Of each channel, (c,).
        added: Features of the same shape.
        border: Pixels that the next convolution reads beyond the picture.
    """
    if bias is not None:
        x = x + bias[:, None, None]
    total = (x.clone() if added is None else x + added).contiguous(memory_format=torch.channels_last)
    active = F.silu(total)
    if border:
        active = F.pad(active, (border,) * 4, mode="replicate")
    return total, active.contiguous(memory_format=torch.channels_last)


def takes_kernels(x: Tensor) -> bool:
    """Whether networks run by such operators: in inference, but not on a CPU, whose convolutions pad themselves."""
    return x.device.type != "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
