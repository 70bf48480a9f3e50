"""Sliding windows around every pixel (mean, maximum), and linear ramps."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "n c h w"]


def window_mean(maps: Maps, side: int) -> Maps:
    """Mean over a window of odd ``side``; at the border over the pixels inside."""
    rows = F.avg_pool2d(maps, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


def dilate(mask: Maps, side: int) -> Maps:
    """Dilation of a mask: maximum over a window of odd ``side``."""
    rows = F.max_pool2d(mask, (side, 1), 1, (side // 2, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, side // 2))


def ramp(x: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, linear between."""
    return ((x - low) / (high - low)).clamp(0.0, 1.0)
