"""The few layers that all our networks are made of.

Borders are replicated everywhere: zeros would tell a network where the picture ends and distort its
flow there.

timm has such layers too, and its networks serve as flow features (`timm_pyramid`). The shipped models
do not import it: that takes seconds, longer than they need for a pair of frames.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.ops.activation import activated, takes_kernels

Features = Float[Tensor, "b c h w"]


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

    def forward(self, x: Features) -> Features:
        """``x`` plus what the block adds."""
        if takes_kernels(x):
            return after_blocks((self,), x)[0]
        return x + self.second(F.silu(self.first(F.silu(x))))


def after_blocks(
    blocks: Iterable[ResidualBlock], x: Features, bias: Tensor | None = None, added: Features | None = None
) -> tuple[Features, Features]:
    """Residual blocks in a row on ``x + bias + added``, and SiLU of their result.

    Biases, sums, activations and borders are one operator between every two convolutions.
    """
    layers = [layer for block in blocks for layer in (block.first, block.second)]
    total, inner = activated(x, bias, added, 1 if layers else 0)
    for index, layer in enumerate(layers):
        second, last = index % 2 == 1, index == len(layers) - 1
        made = F.conv2d(inner, layer.weight)
        summed, inner = activated(made, layer.bias, total if second else None, 0 if last else 1)
        total = summed if second else total
    return total, inner


class Chain(nn.Sequential):
    """Layers in a row; residual blocks in a row, and the activation after them, are one chain of operators."""

    def forward(self, input: Tensor) -> Tensor:
        """What the layers make, one after the other."""
        if not takes_kernels(input):
            return super().forward(input)
        x, layers = input, list(self)
        while layers:
            count = next((i for i, layer in enumerate(layers) if not isinstance(layer, ResidualBlock)), len(layers))
            if count == 0:
                x = layers.pop(0)(x)
                continue
            x, active = after_blocks([layer for layer in layers[:count] if isinstance(layer, ResidualBlock)], x)
            del layers[:count]
            if layers and isinstance(layers[0], nn.SiLU):
                x = active
                del layers[0]
        return x
