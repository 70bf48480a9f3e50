"""Layers shared by all networks of this library.

Borders are replicated everywhere: zero padding would reveal the position of the border and distort the flow there.

timm has such layers too, and its networks are used as flow features (`timm_pyramid`). The shipped models
do not import it, since importing it takes longer than interpolating a pair of frames.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.ops.activation import activate, uses_fused_operators

Features = Float[Tensor, "b c h w"]


def conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with replicated borders."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, padding_mode="replicate")


def zero_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """1x1 convolution with zero initialisation, so that a residual connection starts as the identity."""
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

    def forward(self, x: Features, added: Features | None = None) -> Features:
        """``x + added``, plus the residual that the block computes from it."""
        if uses_fused_operators(x):
            return apply_layers((self,), x, added=added)[0]
        x = x if added is None else x + added
        return x + self.second(F.silu(self.first(F.silu(x))))


def apply_layers(
    layers: Iterable[nn.Module], x: Features, bias: Tensor | None = None, added: Features | None = None
) -> tuple[Tensor, Tensor]:
    """Apply layers in sequence to ``x + bias + added``: their result, and SiLU of it."""
    return activate(*_apply_unsummed(layers, x, bias, added), 0)


def _apply_unsummed(
    layers: Iterable[nn.Module], x: Features, bias: Tensor | None, added: Features | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Apply layers in sequence; their result is the sum of the returned ``x``, ``bias`` and ``added``.

    The sum is left to the next operator: between two convolutions, bias, sum, activation and border are one operator.
    """
    ordered, padded = list(layers), 0
    for layer, following in zip(ordered, [*ordered[1:], None], strict=True):
        if isinstance(layer, ResidualBlock):
            total, inner = activate(x, bias, added, 1)
            inner = activate(F.conv2d(inner, layer.first.weight), layer.first.bias, None, 1)[1]
            x, bias, added = F.conv2d(inner, layer.second.weight), layer.second.bias, total
            continue
        silu = isinstance(layer, nn.SiLU)
        border = int(silu and following is not None and _has_border(following))
        if border or bias is not None or added is not None:
            total, active = activate(x, bias, added, border)
            x, bias, added = active if silu else total, None, None
            padded = border
            if silu:
                continue
        if isinstance(layer, nn.Conv2d) and (padded or not _has_border(layer)):
            later = isinstance(following, nn.SiLU | ResidualBlock)
            x = F.conv2d(x, layer.weight, None if later else layer.bias, layer.stride)
            bias = layer.bias if later else None
        else:
            x = layer(x)
        padded = 0
    return x, bias, added


def _has_border(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.padding_mode == "replicate"


class Chain(nn.Sequential):
    """Layers in sequence; with few operators where kernels are used."""

    def forward(self, input: Tensor, added: Tensor | None = None) -> Tensor:
        """Apply the layers to ``input + added``."""
        if not uses_fused_operators(input):
            return super().forward(input if added is None else input + added)
        x, bias, added = _apply_unsummed(self, input, None, added)
        return x if bias is None and added is None else activate(x, bias, added, 0)[0]
