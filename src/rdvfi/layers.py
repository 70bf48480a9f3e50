"""The few layers that all our networks are made of.

Borders are replicated everywhere: zeros would tell a network where the picture ends and distort its
flow there.

timm has such layers too, and its networks serve as flow features (`timm_pyramid`). The shipped models
do not import it: that takes seconds, longer than they need for a pair of frames.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.ops.padding import silu_padded


def conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with replicated borders."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, padding_mode="replicate")


def zero_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """1x1 convolution that starts at zero: what it feeds starts as it was."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions; starts near the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = conv(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """``x`` plus what the block adds."""
        return x + _activated(self.second, _activated(self.first, x))


def _activated(layer: nn.Conv2d, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """A 3x3 convolution of the activation: the layer's own padding, in one step with it."""
    return F.conv2d(silu_padded(x), layer.weight, layer.bias, layer.stride)
