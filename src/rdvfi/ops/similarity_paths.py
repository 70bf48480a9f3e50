"""Similarity paths: rotations and zooms at constant rate, from the end-to-end flow alone.

With positions as complex numbers, let ``V(x)`` be the flow from one end frame to the other. Its local gradient ``alpha
= dV/dx`` gives the similarity ``A = 1 + alpha`` around x, and the natural power ``A^t`` moves the point by the share

    G_t = (A^t - 1) / (A - 1)

of its way (``G_t = t`` for ``alpha = 0``: the straight line). What is seen at pixel y at time t
started at the x that solves ``y = x + G_t(x) V(x)``; the derivative of the right side is ``A^t``,
so Newton's iteration solves it in one step for a pure rotation or zoom.

Where an object moves by more than its own size, the search cannot find it: there is only background around y. So all
points of an end frame are also splatted along their paths (`rdvfi.ops.splatting`). Where several points arrive, the
one that moves most relative to the median motion has the largest weight, since foreground moves differently from the
background; points with a large forward-backward error have little weight.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from rdvfi.geometry import flow_length
from rdvfi.ops.inference import inference_operator
from rdvfi.ops.splatting import splat, splat_sum
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow, Flows, Times

_WINDOW_RADIUS = 3
_SMALL_GRADIENT = 0.02

Plane = Complex[Tensor, "b h w"]
Planes = Complex[Tensor, "b t h w"]
CANDIDATES = 4
_MAX_LENGTH = 12.0
"""Upper bound of the motion relative to the median, and of the forward-backward error, in pixels."""
_ERROR_EXPONENT = 2.0
"""Exponent of the weight per pixel of forward-backward error."""
_SCALE_RANGE, _MAX_ANGLE = (0.25, 4.0), 2.6
"""Range of scale factors, and the largest angle, in radians."""
_MAX_CORRECTION = 0.5
"""Largest correction of a splatted flow by the search, in pixels."""


@dataclass(frozen=True, eq=False)
class SimilarityPaths:
    """Paths of similarity motions, seen from every pixel of every instant.

    Attributes:
        flows: Per candidate, the flow to the first frame and the flow to the last: (dx0, dy0,
            dx1, dy1). Two are found by search, from the flow of the first frame and from that of
            the last, and two are what arrives from the first frame and from the last.
        arrived: Share of the pixel that is covered by arriving points whose flow the other end
            confirms, from the first frame and from the last.
    """

    flows: Float[Tensor, "b t 4 4 h w"]
    arrived: Float[Tensor, "b t 2 h w"]


def similarity_path_flows(forward: Flow, backward: Flow, times: Times) -> SimilarityPaths:
    """Flows of rotations and zooms at constant rate, from every instant to both ends, TARGET grid.

    For small grids (latents): the gradient is fitted in a window of 7x7 pixels.

    Args:
        forward: Flow from the first frame to the last, on the grid of the first.
        backward: Flow from the last frame to the first, on the grid of the last.
        times: Times in [0, 1].
    """
    return SimilarityPaths(*_similarity_paths(forward, backward, times))


def _reference(forward: Tensor, backward: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    tau = times.to(forward)[:, None, None]
    first, last = _PathsFromEnd(forward, backward, tau), _PathsFromEnd(backward, forward, 1.0 - tau)
    arriving_first, share_first = first.arriving()
    arriving_last, share_last = last.arriving()
    pairs = (first.solve(first.guess), last.solve(last.guess)[::-1], arriving_first, arriving_last[::-1])
    flows = [torch.cat([_to_flow(field) for field in pair], dim=2) for pair in pairs]
    limit = 2.0 * sum(forward.shape[-2:])
    shares = torch.cat((share_first, share_last), dim=2)
    return torch.stack(flows, dim=2).clamp(-limit, limit), shares


def _empty(forward: Tensor, backward: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    (b, _, h, w), t = forward.shape, times.shape[0]
    return forward.new_empty((b, t, 4, 4, h, w)), forward.new_empty((b, t, 2, h, w))


class _PathsFromEnd:
    """The similarity path from one end; solved for where the point seen at each pixel started."""

    def __init__(self, flow: Flow, other: Flow, share: Float[Tensor, "t 1 1"]) -> None:
        alpha = similarity_gradient(flow)[:, None]
        travel = torch.complex(flow[:, 0], flow[:, 1])[:, None]
        power = torch.exp(share * torch.log(1.0 + alpha))
        series = share * (1.0 + 0.5 * (share - 1.0) * alpha)
        safe = torch.where(alpha.abs() < _SMALL_GRADIENT, torch.ones_like(alpha), alpha)
        shift = torch.where(alpha.abs() < _SMALL_GRADIENT, series, (power - 1.0) / safe) * travel
        self.guess = -shift / power
        fields = (shift, power, travel.expand_as(shift))
        parts = [part for field in fields for part in (field.real, field.imag)]
        self._maps = torch.stack(parts, dim=2)
        self._missed = flow_length(flow + backward_warp(other, flow)).clamp(max=_MAX_LENGTH)
        self._apart = flow_length(flow - _median_flow(flow)).clamp(max=_MAX_LENGTH)

    def solve(self, start: Planes) -> tuple[Planes, Planes]:
        """Flows to this end and to the other one, by Newton's iteration from ``start``."""
        for _ in range(3):
            moved, slope, _ = self._look_up(start)
            # |A^t| is at least 1/4; only between opposite turns does the mixture fall below.
            start = start - (start + moved) * slope.conj_physical() / slope.abs().square().clamp(min=0.0625)
        return start, start + self._look_up(start)[2]

    def arriving(self) -> tuple[tuple[Planes, Planes], Float[Tensor, "b t 1 h w"]]:
        """Flows to this end and to the other one of the points that arrive at each pixel, and their total share.

        Where no point arrives, the flows of the first guess.
        """
        b, t = self._maps.shape[:2]
        maps = self._maps.flatten(0, 1)
        shift, travel = maps[:, :2].contiguous(), maps[:, 4:]
        priority, trust = (
            part[:, None].expand(b, t, *part.shape[1:]).flatten(0, 1).contiguous()
            for part in (self._apart - _ERROR_EXPONENT * self._missed, torch.exp(-self._missed))
        )
        arrived, total = splat(torch.cat((-shift, travel - shift), dim=1), shift, priority)
        _, share = splat_sum(trust, shift, trust)
        here, there = _to_complex(arrived.unflatten(0, (b, t)))
        hit = total.unflatten(0, (b, t))[:, :, 0] > 0.0
        exact, beyond = self.solve(torch.where(hit, here, self.guess))
        near = ((exact - here).abs() < _MAX_CORRECTION) | ~hit
        flows = torch.where(near, exact, here), torch.where(near, beyond, there)
        return flows, share.clamp(max=1.0).unflatten(0, (b, t))

    def _look_up(self, at: Planes) -> tuple[Planes, Planes, Planes]:
        b, t = at.shape[:2]
        seen = backward_warp(self._maps.flatten(0, 1), _to_flow(at).flatten(0, 1))
        shift, power, travel = _to_complex(seen.unflatten(0, (b, t)))
        return shift, power, travel


def similarity_gradient(flow: Flow) -> Plane:
    """Complex gradient ``alpha`` of the similarity motion that fits the flow around each pixel.

    Weighted least squares in a window. Neighbours that move too differently to belong to the same
    similarity (beyond a 90-degree turn's worth) count little, so that a window over the edge of a
    moving object sees the surface at its centre. ``1 + alpha`` is kept within a factor 4 of
    unit size and away from the negative axis, where powers are not defined.
    """
    b, _, h, w = flow.shape
    side = 2 * _WINDOW_RADIUS + 1
    wide = F.pad(flow, (_WINDOW_RADIUS,) * 4, mode="replicate")
    around = F.unfold(wide, side).view(b, 2, side * side, h, w)
    inside = F.unfold(F.pad(torch.ones_like(flow[:, :1]), (_WINDOW_RADIUS,) * 4), side)
    inside = inside.view(b, side * side, h, w)
    offset = torch.arange(-_WINDOW_RADIUS, _WINDOW_RADIUS + 1, dtype=flow.dtype, device=flow.device)
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
    joint = (weight * places.conj_physical() * values).sum(1) / total - mean_place.conj_physical() * mean_value
    alpha = joint / (spread + 0.05)
    return _bound_similarity(1.0 + alpha) - 1.0


def _bound_similarity(similarity: Plane) -> Plane:
    scale, angle = similarity.abs().clamp(*_SCALE_RANGE), similarity.angle().clamp(-_MAX_ANGLE, _MAX_ANGLE)
    return torch.polar(scale, angle)


def _median_flow(flow: Flow) -> Float[Tensor, "b 2 1 1"]:
    """The median of each component."""
    sorted_values = flow.flatten(2).sort(-1).values
    return sorted_values[:, :, sorted_values.shape[-1] // 2, None, None]


def _to_complex(fields: Float[Tensor, "b t c h w"]) -> tuple[Planes, ...]:
    return tuple(torch.complex(part[:, :, 0], part[:, :, 1]) for part in fields.split(2, dim=2))


def _to_flow(field: Planes) -> Flows:
    return torch.stack((field.real, field.imag), dim=2)


_similarity_paths = inference_operator(
    "similarity_paths",
    _reference,
    _empty,
    "similarity_paths",
    launches=7,
    settings={
        "radius": _WINDOW_RADIUS,
        "sizes": _SCALE_RANGE,
        "turn": _MAX_ANGLE,
        "tiny": _SMALL_GRADIENT,
        "most": _MAX_LENGTH,
        "contradicted": _ERROR_EXPONENT,
        "near": _MAX_CORRECTION,
    },
)
