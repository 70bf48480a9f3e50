"""Windows around every pixel: means and maxima, and steps between two values."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "n c h w"]


def window_mean(maps: Maps, side: int) -> Maps:
    """Mean over a window of odd ``side``; at the border over the part inside."""
    rows = F.avg_pool2d(maps, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


def widened(mask: Maps, side: int) -> Maps:
    """Maximum over a window of odd ``side``: a mask that is wider by half of it."""
    rows = F.max_pool2d(mask, (side, 1), 1, (side // 2, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, side // 2))


def ramp(x: Tensor, low: float, high: float) -> Tensor:
    """0 up to ``low``, 1 from ``high`` on, straight between."""
    return ((x - low) / (high - low)).clamp(0.0, 1.0)
