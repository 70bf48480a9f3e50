"""Interpolation in time with continuous velocity **and** acceleration.

Between two knots it is the quintic Hermite polynomial whose first and second derivatives at a knot
are those of the parabola through the knot and its two neighbours (one-sided at the ends). It
interpolates every knot, is twice continuously differentiable, and is exact for constant
acceleration. The acceleration of `cubic` is discontinuous at the knots, but `cubic` overshoots less.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi import Basis, bases
from rdvfi.types import Times


class Quintic(Basis):
    """The quintic Hermite spline of parabolas."""

    reach = 2

    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Float[Tensor, "t k"]:
        """See `rdvfi.interfaces.Basis.weights`."""
        count = len(knots)
        values = torch.eye(count, dtype=knots.dtype, device=knots.device)
        left = torch.searchsorted(knots, times, right=True).sub(1).clamp(0, count - 2)
        gap = (knots[left + 1] - knots[left])[:, None]
        s = ((times - knots[left]) / gap[:, 0])[:, None]
        if count == 2:
            return (1 - s) * values[left] + s * values[left + 1]
        slopes, curvatures = _derivatives(knots, values)
        return (
            _value_weight(s) * values[left]
            + _value_weight(1 - s) * values[left + 1]
            + gap * (_slope_weight(s) * slopes[left] - _slope_weight(1 - s) * slopes[left + 1])
            + gap**2 * (_curvature_weight(s) * curvatures[left] + _curvature_weight(1 - s) * curvatures[left + 1])
        )


def _derivatives(knots: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivatives at every knot, as rows of weights of the knots' values."""
    middle = torch.arange(len(knots), device=knots.device).clamp(1, len(knots) - 2)
    gap = knots.diff()[:, None]
    rise = values.diff(dim=0) / gap
    before, after = rise[middle - 1], rise[middle]
    curvatures = 2 * (after - before) / (gap[middle - 1] + gap[middle])
    at_middle = before + 0.5 * curvatures * gap[middle - 1]
    return at_middle + curvatures * (knots - knots[middle])[:, None], curvatures


def _value_weight(s: Tensor) -> Tensor:
    return (1 - s) ** 3 * (1 + 3 * s + 6 * s**2)


def _slope_weight(s: Tensor) -> Tensor:
    return s * (1 - s) ** 3 * (1 + 3 * s)


def _curvature_weight(s: Tensor) -> Tensor:
    return 0.5 * s**2 * (1 - s) ** 3


@bases.register("quintic")
def quintic() -> Basis:
    """Quintic Hermite spline: continuous acceleration."""
    return Quintic()
