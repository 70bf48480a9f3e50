"""Attention over feature maps: within an image (self-attention) and between the two images (cross-attention).

Positions are encoded by rotation (RoPE; Su et al., 2021, https://arxiv.org/abs/2104.09864): the scalar product of
rotated queries and keys depends on the displacement between two features, not on their positions, so that a network
trained on small images works on large ones. Half the channels of a head encode x, half y. Keys and values are averaged
over 2x2 features, which makes attention four times as cheap at little loss, since queries keep full resolution.
"""

from math import pi

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.ops.inference import inference_operator

_MAX_WAVELENGTH, _MIN_WAVELENGTH = 96.0, 3.0
"""Wavelengths of the rotations, in cells."""


def rotate(x: Float[Tensor, "n k c h w"], step: float) -> Float[Tensor, "n k c h w"]:
    """Rotary position encoding of feature maps; ``c`` is a multiple of four.

    Args:
        x: Feature maps of every head.
        step: Distance of neighbouring features, in cells; positions are the centres.
    """
    c, h, w = x.shape[-3:]
    pairs = c // 4
    share = torch.arange(pairs, device=x.device, dtype=torch.float32) / max(1, pairs - 1)
    rate = 2.0 * pi / _MAX_WAVELENGTH * (_MAX_WAVELENGTH / _MIN_WAVELENGTH) ** share
    y, x_ = ((torch.arange(n, device=x.device, dtype=torch.float32) + 0.5) * step for n in (h, w))
    across = (rate[:, None, None] * x_).expand(pairs, h, w)
    down = (rate[:, None, None] * y[:, None]).expand(pairs, h, w)
    angle = torch.cat((across, down))
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=2)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), dim=2)


def _tokens_reference(x: Tensor, step: float, turned: int) -> Tensor:
    parts = (rotate(x[:, :turned], step), x[:, turned:])
    return torch.cat(parts, dim=1).flatten(3).transpose(2, 3).contiguous()


rotate_tokens = inference_operator(
    "rotated_tokens",
    _tokens_reference,
    lambda x, step, turned: x.new_empty((x.shape[0], x.shape[1], x.shape[3] * x.shape[4], x.shape[2])),
    "matching",
    settings={"longest": _MAX_WAVELENGTH, "shortest": _MIN_WAVELENGTH},
)
"""Tokens (n, k, h w, c) of maps of ``k`` heads; channels of the first ``turned`` turn with position (`rotate`)."""


class Norm(nn.Module):
    """Layer normalisation over the channels of a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Features normalised over the channels of each pixel, scaled and shifted."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Residual multi-head attention from one feature map to another (or to itself).

    Args:
        width: Channels.
        heads: Number of heads; the channels of each are a multiple of four.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % (4 * heads):
            raise ValueError(f"width must be a multiple of four times the heads; got {width} and {heads}")
        self.heads = heads
        self.asking, self.asked = Norm(width), Norm(width)
        self.query = nn.Conv2d(width, width, 1)
        self.key_value = nn.Conv2d(width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        with torch.no_grad():
            self.out.weight.mul_(0.2)

    def forward(self, x: Float[Tensor, "n c h w"], other: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """``x`` plus the attention to ``other``; both sides even."""
        h, w = x.shape[-2:]
        query = self.query(self.asking(x)).unflatten(1, (self.heads, -1))
        pooled = F.avg_pool2d(self.asked(other), 2)
        key_value = self.key_value(pooled).unflatten(1, (2 * self.heads, -1))
        key, value = rotate_tokens(key_value, 2.0, self.heads).chunk(2, dim=1)
        attended = F.scaled_dot_product_attention(rotate_tokens(query, 1.0, self.heads), key, value)
        return x + self.out(attended.transpose(2, 3).flatten(1, 2).unflatten(2, (h, w)))


class MutualBlock(nn.Module):
    """Self-attention, cross-attention and a pixelwise network, with the same weights for both images."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own, self.other = Attention(width, heads), Attention(width, heads)
        self.mix = nn.Sequential(Norm(width), nn.Conv2d(width, 2 * width, 1), nn.SiLU(), nn.Conv2d(2 * width, width, 1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Features of the first images, then of the second, in one batch; each attends to its counterpart."""
        x = self.own(x, x)
        x = self.other(x, x.roll(x.shape[0] // 2, dims=0))
        return x + self.mix(x)
