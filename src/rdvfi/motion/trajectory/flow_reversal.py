"""Source-grid trajectories: paths of the pixels of both end frames.

A pixel x of an end frame *is* a point, so interpolating its positions at the knots interpolates a path. Different
surfaces are never mixed, however far objects move and whatever the reach of the basis.
The paths follow from the flow fields at the knots by the recursion

    G_0 = 0,    G_{k+1}(x) = G_k(x) + l_k(x + G_k(x)),

with ``l_k`` the step from knot k to the next (`rdvfi.motion.trajectory.point_following.Steps`, which
follows from the fused fields and has their resolution; the adjacent flows of phi_1 are defined on
the latent grid). Each sum is then corrected by the field of its own knot, ``G = -F_{k+1}(x + G)``, where
both nearly agree, so that errors do not accumulate. Where they disagree the point is occluded and the
field belongs to another surface; their distance is the **uncertainty** of the point at that knot.

A renderer needs the flow from each pixel of a new frame, so at the requested time the flows are **reversed** on their
small grid: the points of both end frames are splatted to their positions at that time, each carrying its flows to both
ends, with weights (1 - tau) and tau, reduced by their uncertainty. Points occluded in one end frame are filled from
the other, and points occluded in both by normalised diffusion over a pyramid. Splatting is accurate to a fraction of a
pixel only; but it identifies the visible point, and looking up the path of that point makes the result exact inside a
surface. The reversal by splatting follows quadratic video interpolation (Xu et al., 2019,
https://arxiv.org/abs/1911.00627).
"""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import flow_length
from rdvfi.interfaces import Trajectory
from rdvfi.motion.basis import Linear
from rdvfi.motion.trajectory.flow_fields import Fields, KnotTrajectory, Once
from rdvfi.motion.trajectory.point_following import Steps
from rdvfi.ops.splatting import splat_sum
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow, Flows, Times, short_repr

_MIN_WEIGHT = 1e-7
"""Least weight of a point."""
_DIFFUSED_WEIGHT = 1e-5
"""Weight of the diffused values; that of a splatted point is about one."""
_SPLATTED_WEIGHT = 1e-2
"""Weight of the splatted flow against looked-up paths that agree with it."""


@dataclass(frozen=True, eq=False)
class SourceKnotTrajectory(KnotTrajectory):
    """Paths of the pixels of both ends, computed from flow fields at knots."""

    paths: "Once[tuple[KnotPaths, KnotPaths]]" = field(default_factory=lambda: Once(), repr=False)
    """Paths from the first and from the last frame, computed from the fields on first use."""

    __repr__ = short_repr

    def across(self, like: Times) -> tuple[Flow, Flow]:
        """Flow from one end frame to the other, along the paths."""
        return Trajectory.across(self, like)

    def at(self, times: Times) -> tuple[Flows, Flows]:
        """Flows to both ends at each time, reversed from the paths."""
        times = times.to(self.knots)
        with torch.autocast(self.knots.device.type, enabled=False):
            first, last = self._paths()
            weights = self.basis.weights(self.knots, times)
            between = Linear().weights(self.knots, times)
            share = times[None, :, None, None, None]
            flows = _reverse((first.at(weights, between, 1.0 - share), last.at(weights, between, share)))
        return flows[:, :, :2], flows[:, :, 2:]

    def prepared(self) -> "SourceKnotTrajectory":
        """The same with the paths computed."""
        return replace(self, paths=Once(self._paths()))

    def _paths(self) -> "tuple[KnotPaths, KnotPaths]":
        return self.paths.get(self._compute_paths)

    def _compute_paths(self) -> "tuple[KnotPaths, KnotPaths]":
        steps = Steps.between(torch.cat((self.from_first, self.from_last), dim=2), self.knots)
        first, last, gaps = self.from_first, self.from_last.flip(1), self.knots.diff()
        behind, behind_error = steps.behind.flip(1), steps.behind_error.flip(1)
        return (
            _follow(first, last[:, -1], steps.ahead, steps.ahead_error, gaps),
            _follow(last, first[:, -1], behind, behind_error, gaps.flip(0)).reverse_knots(),
        )


@dataclass(frozen=True, eq=False)
class KnotPaths:
    """Positions of the pixels of one end frame at every knot."""

    travel: Fields
    """Displacement from that frame."""
    uncertainty: Float[Tensor, "b k 1 h w"]
    """Distance, in pixels, to the path implied by the flow field of the knot."""
    to_other_end: Float[Tensor, "b 1 2 h w"]
    from_first: bool

    def reverse_knots(self) -> "KnotPaths":
        """The same paths with the knots in the other order."""
        other = not self.from_first
        return KnotPaths(self.travel.flip(1), self.uncertainty.flip(1), self.to_other_end, other)

    def at(
        self, weights: Float[Tensor, "t k"], between: Float[Tensor, "t k"], nearness: Float[Tensor, "1 t 1 1 1"]
    ) -> "Points":
        """The points at some times, by the basis' weights and by linear ones for uncertainty."""
        shift = torch.einsum("tk,bkchw->btchw", weights, self.travel)
        uncertainty = torch.einsum("tk,bkchw->btchw", between, self.uncertainty)
        back, on = -shift, self.to_other_end - shift
        flows = torch.cat((back, on) if self.from_first else (on, back), dim=2)
        return Points(shift, flows, nearness * (torch.exp(-uncertainty) + _MIN_WEIGHT), self.from_first)


@dataclass(frozen=True, eq=False)
class Points:
    """The pixels of one end frame at some times, on that frame's grid."""

    shift: Flows
    flows: Float[Tensor, "b t 4 h w"]
    """Flows to the first and to the last frame."""
    weight: Float[Tensor, "b t 1 h w"]
    from_first: bool

    def splat(self) -> Float[Tensor, "n 5 h w"]:
        """Weighted sums of the flows that arrive at each pixel, and the total weight."""
        parts = (self.flows.flatten(0, 1), self.shift.flatten(0, 1), self.weight.flatten(0, 1))
        return torch.cat(splat_sum(*parts), dim=1)

    def sample(self, guess: Float[Tensor, "n 4 h w"]) -> tuple[Float[Tensor, "n 4 h w"], Float[Tensor, "n 1 h w"]]:
        """Flows of the point that ``guess`` says is seen at each pixel, and their weight."""
        place = guess[:, :2] if self.from_first else guess[:, 2:]
        inputs = torch.cat((self.flows, self.weight), dim=2).flatten(0, 1)
        seen = backward_warp(inputs, place)
        own = seen[:, :2] if self.from_first else seen[:, 2:4]
        # The point at y + place is then at y + place - own, which should be y.
        return seen[:, :4], seen[:, 4:] * torch.exp(-2.0 * flow_length(place - own))


def _follow(
    fields: Fields,
    across: Float[Tensor, "b 2 h w"],
    steps: Float[Tensor, "b s 2 h w"],
    errors: Float[Tensor, "b s 1 h w"],
    gaps: Float[Tensor, " s"],
) -> KnotPaths:
    """Paths of the pixels of the frame that ``fields`` lead to, whose own knot is the first.

    Args:
        fields: Flows to that frame at every knot.
        across: Flow from that frame to the other one.
        steps: Flow from each knot to the next.
        errors: Forward-backward errors of the steps.
        gaps: Time from each knot to the next.
    """
    travel, uncertainty = [torch.zeros_like(across)], [torch.zeros_like(across[:, :1])]
    velocity = across
    for k in range(steps.shape[1] - 1):
        step, error = backward_warp(torch.cat((steps[:, k], errors[:, k]), dim=1), travel[-1]).split((2, 1), dim=1)
        # A point that is occluded at either knot keeps its velocity, instead of following the occluding surface.
        velocity = torch.lerp(velocity, step / gaps[k], _agreement(error + uncertainty[-1]))
        guess = travel[-1] + gaps[k] * velocity
        for _ in range(2):
            seen = -backward_warp(fields[:, k + 1], guess)
            guess = guess + _agreement(flow_length(seen - guess)) * (seen - guess)
        travel.append(guess)
        uncertainty.append(flow_length(guess + backward_warp(fields[:, k + 1], guess)))
    travel.append(across)
    uncertainty.append(flow_length(across + backward_warp(fields[:, -1], across)))
    return KnotPaths(torch.stack(travel, 1), torch.stack(uncertainty, 1), across[:, None], True)


def _agreement(error: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Near 1 for errors that rounding and bending make, near 0 from a few pixels on."""
    return torch.exp(-0.25 * error.square())


def _reverse(ends: tuple[Points, Points]) -> Float[Tensor, "b t 4 h w"]:
    """Flows on the TARGET grid from both ends' points."""
    b, t = ends[0].shift.shape[:2]
    sums = ends[0].splat() + ends[1].splat()
    guess = _fill_holes(sums)
    flows, total = _SPLATTED_WEIGHT * guess, _SPLATTED_WEIGHT
    for points in ends:
        seen, weight = points.sample(guess)
        flows, total = flows + weight * seen, total + weight
    return (flows / total).unflatten(0, (b, t))


def _fill_holes(sums: Float[Tensor, "n 5 h w"]) -> Float[Tensor, "n 4 h w"]:
    """Sums divided by weights; where weights are small, the value of a coarser scale."""
    values, total = sums[:, :4], sums[:, 4:]
    h, w = sums.shape[-2:]
    if max(h, w) <= 2:
        values, total = (x.mean((-2, -1), keepdim=True).expand_as(x) for x in (values, total))
        return values / total.clamp(min=torch.finfo(total.dtype).tiny)
    pooled = F.avg_pool2d(sums, 2, ceil_mode=True, count_include_pad=False)
    around = F.interpolate(_fill_holes(pooled), (h, w), mode="bilinear", align_corners=False)
    return (values + _DIFFUSED_WEIGHT * around) / (total + _DIFFUSED_WEIGHT)
