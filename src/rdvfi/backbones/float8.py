"""Weights of large networks in 8-bit floating point, for half the memory of half precision.

Each row ``w`` of a linear layer's weight is kept as ``q = round_e4m3(w / s)`` with ``s = max |w| / 448``, the
largest number of the type (Micikevicius et al., FP8 Formats for Deep Learning, 2022,
https://arxiv.org/abs/2209.05433), and is made ``s q`` again, in the type of the features, where it is used.
So it works on every device, and saves memory rather than time. Three bits of mantissa leave a relative error
of at most 1/16 per weight; `use_float8_weights` returns what it is for the weights at hand.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LARGEST = torch.finfo(torch.float8_e4m3fn).max


class Float8Linear(nn.Module):
    """A linear layer whose weight is kept in eight bits, for inference."""

    bits: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scale = (weight.abs().amax(1, keepdim=True) / _LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
        # As whole numbers, which casts of the model leave alone.
        self.register_buffer("bits", (weight / scale).to(torch.float8_e4m3fn).view(torch.uint8))
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def weight_as(self, dtype: torch.dtype) -> Tensor:
        """The weight that it computes with."""
        return (self.bits.view(torch.float8_e4m3fn).float() * self.scale.float()).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Output of the layer, with the rounded weight."""
        return F.linear(x, self.weight_as(x.dtype), self.bias)


@torch.no_grad()
def use_float8_weights(network: nn.Module, *, least: int = 2**16) -> float:
    """Keep the weights of a network's linear layers in eight bits.

    Do it after loading, before `optimize`, and only for inference: such a network is not saved or trained.

    Args:
        network: A `rdvfi.interfaces.KeyframeGenerator`'s ``denoiser``, or any other; changed in place.
        least: Layers with fewer weights are not changed.

    Returns:
        The error of the weights that were changed: root mean square of the change over that of the weights.

    Raises:
        ValueError: If no layer has at least ``least`` weights.
    """
    changed, size = 0.0, 0.0
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Linear and layer.weight.numel() >= least:
                small, exact = Float8Linear(layer), layer.weight.float()
                changed += float((small.weight_as(torch.float32) - exact).square().sum())
                size += float(exact.square().sum())
                setattr(module, name, small)
    if size == 0.0:
        raise ValueError(f"no linear layer of this network has {least} weights; pass a smaller `least`")
    return (changed / size) ** 0.5
