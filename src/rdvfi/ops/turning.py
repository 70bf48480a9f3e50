"""The turning line: the path of a rigid turn or a zoom at constant rate, from its end flow alone.

With positions as complex numbers, let ``V(x)`` be the flow from one end frame to the other. Its
local gradient ``alpha = dV/dx`` gives the similarity ``A = 1 + alpha`` around x, and the natural
power ``A^t`` moves the point by the share

    G_t = (A^t - 1) / (A - 1)

of its way (``G_t = t`` for ``alpha = 0``: the straight line). What is seen at pixel y at time t
started at the x that solves ``y = x + G_t(x) V(x)``; the derivative of the right side is ``A^t``,
so Newton's iteration solves it at once for a pure turn or zoom.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow, Flows, Times

_RADIUS = 3
_SMALL = 0.02

Plane = Complex[Tensor, "b h w"]
Planes = Complex[Tensor, "b t h w"]


CANDIDATES = 4


def turning_candidates(forward: Flow, backward: Flow, times: Times) -> Float[Tensor, "b t 4 4 h w"]:
    """Flows of turns and zooms at constant rate, from every instant to both ends, TARGET grid.

    Where a moving object and what it covers both solve the equation, the answer depends on where
    the search starts; so there are four: by the flow of the first frame and by that of the last,
    each from its own motion at y and from what the other one found. For small grids (latents): the
    gradient is fitted in a window of 7x7 pixels.

    Args:
        forward: From the first frame to the last, on the grid of the first.
        backward: From the last frame to the first, on the grid of the last.
        times: In [0, 1].

    Returns:
        Per candidate, the flow to the first frame and the flow to the last: (dx0, dy0, dx1, dy1).
    """
    tau = times.to(forward)[:, None, None]
    first, last = _Turn(forward, tau), _Turn(backward, 1.0 - tau)
    by_first, by_last = first.solve(first.guess), last.solve(last.guess)
    pairs = (
        by_first,
        by_last[::-1],
        first.solve(by_last[1]),
        last.solve(by_first[1])[::-1],
    )
    flows = [torch.cat([_to_flow(field) for field in pair], dim=2) for pair in pairs]
    h, w = forward.shape[-2:]
    return torch.stack(flows, dim=2).clamp(-2.0 * (h + w), 2.0 * (h + w))


class _Turn:
    """The turning line from one end; solved for where the point seen at each pixel started."""

    def __init__(self, flow: Flow, share: Float[Tensor, "t 1 1"]) -> None:
        alpha = similarity_gradient(flow)[:, None]
        travel = torch.complex(flow[:, 0], flow[:, 1])[:, None]
        power = torch.exp(share * torch.log(1.0 + alpha))
        series = share * (1.0 + 0.5 * (share - 1.0) * alpha)
        safe = torch.where(alpha.abs() < _SMALL, torch.ones_like(alpha), alpha)
        shift = torch.where(alpha.abs() < _SMALL, series, (power - 1.0) / safe) * travel
        self.guess = -shift / power
        fields = (shift, power, travel.expand_as(shift))
        parts = [part for field in fields for part in (field.real, field.imag)]
        self._facts = torch.stack(parts, dim=2)

    def solve(self, start: Planes) -> tuple[Planes, Planes]:
        """Flows to this end and to the other one, by Newton's iteration from ``start``."""
        for _ in range(3):
            moved, slope, _ = self._look_up(start)
            # |A^t| is at least 1/4; only between opposite turns does the mixture fall below.
            start = start - (start + moved) * slope.conj() / slope.abs().square().clamp(min=0.0625)
        return start, start + self._look_up(start)[2]

    def _look_up(self, at: Planes) -> tuple[Planes, Planes, Planes]:
        b, t = at.shape[:2]
        seen = backward_warp(self._facts.flatten(0, 1), _to_flow(at).flatten(0, 1))
        seen = seen.unflatten(0, (b, t))
        return (
            torch.complex(seen[:, :, 0], seen[:, :, 1]),
            torch.complex(seen[:, :, 2], seen[:, :, 3]),
            torch.complex(seen[:, :, 4], seen[:, :, 5]),
        )


def similarity_gradient(flow: Flow) -> Plane:
    """Complex gradient ``alpha`` of the similarity motion that fits the flow around each pixel.

    Weighted least squares in a window. Neighbours that move too differently to belong to the same
    similarity (beyond a 90-degree turn's worth) count little, so that a window over the edge of a
    moving object sees the surface at its centre. ``1 + alpha`` is kept within a factor 4 of
    unit size and away from the negative axis, where powers are not defined.
    """
    b, _, h, w = flow.shape
    side = 2 * _RADIUS + 1
    wide = F.pad(flow, (_RADIUS,) * 4, mode="replicate")
    around = F.unfold(wide, side).view(b, 2, side * side, h, w)
    inside = F.unfold(F.pad(torch.ones_like(flow[:, :1]), (_RADIUS,) * 4), side)
    inside = inside.view(b, side * side, h, w)
    offset = torch.arange(-_RADIUS, _RADIUS + 1, dtype=flow.dtype, device=flow.device)
    dx, dy = offset.repeat(side)[:, None, None], offset.repeat_interleave(side)[:, None, None]
    rise = around - flow[:, :, None]
    run = (dx.square() + dy.square()).sqrt()
    steepness = (rise.square().sum(1) + 1e-12).sqrt() / (1.4 * run + 0.3)
    weight = inside * torch.exp(-steepness.pow(4))
    total = weight.sum(1)
    values = torch.complex(rise[:, 0], rise[:, 1])
    places = torch.complex(dx, dy)
    mean_value = (weight * values).sum(1) / total
    mean_place = (weight * places).sum(1) / total
    spread = (weight * run.square()).sum(1) / total - mean_place.abs().square()
    joint = (weight * places.conj() * values).sum(1) / total - mean_place.conj() * mean_value
    alpha = joint / (spread + 0.05)
    return _bounded(1.0 + alpha) - 1.0


def _bounded(similarity: Plane) -> Plane:
    size, turn = similarity.abs().clamp(0.25, 4.0), similarity.angle().clamp(-2.6, 2.6)
    return torch.polar(size, turn)


def _to_flow(field: Planes) -> Flows:
    return torch.stack((field.real, field.imag), dim=2)
