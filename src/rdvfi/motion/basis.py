"""Bases: interpolation in time as one matrix.

Every rule here is linear in the knot values, so it is a matrix ``W`` with one row per requested
time and one column per knot, ``value(t) = sum_k W[t, k] value[k]``, and rows sum to one.

* `linear`: between the two neighbouring knots. Exact for degree 1.
* `quadratic`: the parabola through the nearest three knots. Exact for degree 2.
* `cubic`: cubic convolution. Between two knots it is the cubic Hermite polynomial whose tangent at
  each knot is that of the parabola through the knot and its two neighbours, one-sided at the
  ends. On uniform knots it is exactly the kernel of Keys (1981) with ``a = -1/2`` and his boundary
  rule ``c[-1] = 3 c[0] - 3 c[1] + c[2]``. Exact for degree 2 on any knots. (``a = -3/4``, which
  image libraries call bicubic, does not even reproduce constant velocity.)
* `constant-velocity`, `constant-acceleration`: one line or one parabola for the whole interval, the
  low-order priors that piecewise trajectories improve on.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.about import About
from rdvfi.interfaces import Basis
from rdvfi.ops.inference import inference_operator
from rdvfi.registry import bases
from rdvfi.types import Times

Weights = Float[Tensor, "t k"]


def _intervals(knots: Tensor, times: Tensor) -> Tensor:
    """Index of the knot at or before each time, so that an interval follows it."""
    return torch.searchsorted(knots, times, right=True).sub(1).clamp(0, knots.numel() - 2)


def _lagrange(nodes: Tensor, times: Tensor) -> Tensor:
    """Lagrange polynomials of (t, n) ``nodes`` at (t,) ``times``: (t, n)."""
    n = nodes.shape[1]
    factors = []
    for j in range(n):
        others = [m for m in range(n) if m != j]
        terms = [(times - nodes[:, m]) / (nodes[:, j] - nodes[:, m]) for m in others]
        factors.append(torch.stack(terms).prod(0) if terms else torch.ones_like(times))
    return torch.stack(factors, dim=1)


def _spread(values: Tensor, columns: Tensor, count: int) -> Tensor:
    """Place (t, n) ``values`` into ``columns`` of a (t, count) matrix."""
    return values.new_zeros(values.shape[0], count).scatter_add(1, columns, values)


class Linear(Basis):
    """Straight between neighbouring knots."""

    reach = 1

    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Weights:
        i = _intervals(knots, times)
        columns = torch.stack((i, i + 1), dim=1)
        return _spread(_lagrange(knots[columns], times), columns, knots.numel())


class Quadratic(Basis):
    """The parabola through the nearest three knots."""

    reach = 2

    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Weights:
        count = knots.numel()
        if count == 2:
            return Linear().weights(knots, times)
        i = _intervals(knots, times)
        # Halfway between two knots either parabola is as near: their mean keeps time symmetric.
        ahead, behind = knots[i + 1] - times, times - knots[i]
        later = (0.5 + 0.5 * torch.sign(behind - ahead))[:, None]
        parabolas = []
        for start in (i - 1, i):
            columns = start.clamp(0, count - 3)[:, None] + torch.arange(3, device=knots.device)
            parabolas.append(_spread(_lagrange(knots[columns], times), columns, count))
        return torch.lerp(parabolas[0], parabolas[1], later)


class Cubic(Basis):
    """Cubic convolution on any knots."""

    reach = 2

    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Weights:
        return _cubic_weights(knots, times) if knots.numel() > 2 else Linear().weights(knots, times)


def _cubic_reference(knots: Tensor, times: Tensor) -> Tensor:
    i = _intervals(knots, times)
    width = knots[i + 1] - knots[i]
    s = ((times - knots[i]) / width)[:, None]
    unit = torch.eye(knots.numel(), dtype=knots.dtype, device=knots.device)
    slopes = _tangents(knots)
    return (
        (1.0 + 2.0 * s) * (1.0 - s) ** 2 * unit[i]
        + s**2 * (3.0 - 2.0 * s) * unit[i + 1]
        + width[:, None] * s * (1.0 - s) ** 2 * slopes[i]
        + width[:, None] * s**2 * (s - 1.0) * slopes[i + 1]
    )


def _tangents(knots: Tensor) -> Tensor:
    """(k, k) matrix from knot values to the slope, at each knot, of the parabola around it."""
    count = knots.numel()
    index = torch.arange(count, device=knots.device)
    start = (index - 1).clamp(0, count - 3)
    columns = start[:, None] + torch.arange(3, device=knots.device)
    a, b, c = knots[columns].unbind(1)
    x = knots
    slopes = torch.stack(
        (
            (2 * x - b - c) / ((a - b) * (a - c)),
            (2 * x - a - c) / ((b - a) * (b - c)),
            (2 * x - a - b) / ((c - a) * (c - b)),
        ),
        dim=1,
    )
    return _spread(slopes, columns, count)


_cubic_weights = inference_operator(
    "cubic_weights", _cubic_reference, lambda knots, times: knots.new_empty((times.shape[0], knots.shape[0])), "basis"
)


class ConstantVelocity(Basis):
    """One straight line through both ends."""

    reach = 1

    def used(self, count: int) -> list[int]:
        return [0, count - 1]

    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Weights:
        columns = torch.arange(0, knots.numel(), knots.numel() - 1, device=knots.device)
        columns = columns.expand(times.numel(), 2)
        return _spread(_lagrange(knots[columns], times), columns, knots.numel())


class ConstantAcceleration(Basis):
    """One parabola through both ends and the middle knot."""

    reach = 2

    def used(self, count: int) -> list[int]:
        return [0, count - 1] if count == 2 else [0, count // 2, count - 1]

    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Weights:
        count = knots.numel()
        if count == 2:
            return Linear().weights(knots, times)
        # First, middle and last, computed: a list of numbers would wait for its way to the device.
        columns = (torch.arange(3, device=knots.device) * count // 2).clamp(max=count - 1)
        columns = columns.expand(times.numel(), 3)
        return _spread(_lagrange(knots[columns], times), columns, knots.numel())


@bases.register("linear")
def linear() -> Basis:
    """Straight between neighbouring knots."""
    return Linear()


@bases.register("quadratic")
def quadratic() -> Basis:
    """The parabola through the nearest three knots."""
    return Quadratic()


@bases.register(
    "cubic",
    about=About(
        citation="R. Keys: Cubic Convolution Interpolation for Digital Image Processing. 1981",
        url="https://doi.org/10.1109/TASSP.1981.1163711",
    ),
)
def cubic() -> Basis:
    """Cubic convolution (Keys, a = -1/2), for any knots."""
    return Cubic()


@bases.register("constant-velocity")
def constant_velocity() -> Basis:
    """One straight line through both ends."""
    return ConstantVelocity()


@bases.register("constant-acceleration")
def constant_acceleration() -> Basis:
    """One parabola through both ends and the middle knot."""
    return ConstantAcceleration()
