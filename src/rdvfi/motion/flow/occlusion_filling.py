"""Occlusion filling: inconsistent motion is replaced by consistent motion of similar surroundings.

A pixel that is hidden in the other image has no match, and on a surface without texture any match is as good as
another. Both show as a large forward-backward residual (N. Sundaram et al., Dense Point Trajectories by GPU-accelerated
Large Displacement Optical Flow, ECCV 2010, section 4). With the forward flow f and the backward flow b,

    e(x) = |f(x) + b(x + f(x))|,   tau(x) = tau_0 + tau_1 (|f(x)| + |b(x + f(x))|),   c(x) = 1 / (1 + (e / tau)^4)

is the consistency of x, in (0, 1]. Motion is then extrapolated from neighbours y that are consistent and of similar
brightness I, as occluded regions are filled by S. Ince and J. Konrad (Occlusion-Aware Optical Flow Estimation, IEEE
Transactions on Image Processing, 2008), with bilateral weights

    w(x, y) = c(y) exp(-((I(x) - I(y)) / sigma)^2) / |x - y|_inf.

The flow of x is a mixture of its own, by c(x), and of the weighted mean. A fixed set of neighbours at three distances
keeps all shapes independent of the data.

`rdvfi.ops.occlusion.fill_occluded` is the other filling: it takes dense flows, decides by a
threshold, and continues them from all sides, whatever the brightness.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import flow_length
from rdvfi.motion.flow.gauss_newton import swap_halves
from rdvfi.ops.warp import backward_warp

TOLERANCE = (0.7, 0.05)
"""tau_0, in pixels of the images, and tau_1."""
BRIGHTNESS_SIGMA = 10.0
"""Scale of the Gaussian weight of neighbours by their difference in brightness, in grey levels."""
DISTANCES = (1, 2, 4)
"""Distances of the neighbours, in cells."""
HALF_WEIGHT = 0.05
"""Sum of weights at which the extrapolation counts half."""


def consistency(flow: Float[Tensor, "n 2 h w"], spacing: int) -> Float[Tensor, "n 1 h w"]:
    """The forward-backward consistency c of a flow sampled on a grid.

    Args:
        flow: Flow in pixels; that in the opposite direction is in the other half of the batch.
        spacing: Size of the grid's cells, in pixels.
    """
    cells = flow / spacing
    back = spacing * backward_warp(swap_halves(cells), cells)
    tau = TOLERANCE[0] + TOLERANCE[1] * (flow_length(flow) + flow_length(back))
    return 1.0 / (1.0 + (flow_length(flow + back) / tau) ** 4)


def extrapolate_inconsistent(
    flow: Float[Tensor, "n 2 h w"], consistent: Float[Tensor, "n 1 h w"], brightness: Float[Tensor, "n 1 h w"]
) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 1 h w"]]:
    """The flow after filling, and the share of it that comes from neighbours.

    Args:
        flow: The flow to fill.
        consistent: Its `consistency`.
        brightness: Brightness of the source image, in grey levels.
    """
    h, w = flow.shape[-2:]
    most = max(DISTANCES)
    wide = F.pad(torch.cat((flow, consistent, brightness), dim=1), (most,) * 4, mode="replicate")
    total, weights = torch.zeros_like(flow), torch.zeros_like(consistent)
    for distance in DISTANCES:
        for dy, dx in _DIRECTIONS:
            top, left = most + distance * dy, most + distance * dx
            there = wide[:, :, top : top + h, left : left + w]
            similar = torch.exp(-(((there[:, 3:] - brightness) / BRIGHTNESS_SIGMA) ** 2))
            weight = there[:, 2:3] * similar / distance
            total, weights = total + weight * there[:, :2], weights + weight
    share = (1.0 - consistent) * weights / (weights + HALF_WEIGHT)
    return torch.lerp(flow, total / weights.clamp(min=1e-6), share), share


_DIRECTIONS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)
