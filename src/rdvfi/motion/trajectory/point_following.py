"""Motion-moved knots: the basis interpolates the path of a point, not the flow at a fixed pixel.

Let ``p_j`` be the position at knot j of the point that is at ``y_i`` at knot i. Its position at tau
is ``y_i + d_i(y_i)`` with ``d_i = sum_j W[tau, j] (p_j - p_i)`` by the basis. The point seen at
pixel y solves ``y_i = y - d_i(y_i)``, a fixed point, and the flow is ``(y_i - y) + F_i(y_i)``. Near
the edge of a moving object there are two solutions, the object and what it covers, and the
iteration finds the one that it starts close to. So it is run from both neighbouring knots and from
two guesses each, the motion found at y at that knot and at the other one. Solutions count by
nearness in time, less by the pixels by which they miss y, and less by the forward-backward error of the
step between the knots there: a surface that is occluded at one of them has no partner. A time on a knot
returns that knot.

Steps between neighbouring knots follow from the fields alone: see `rdvfi.ops.warp.follow`.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.geometry import flow_length
from rdvfi.interfaces import Basis
from rdvfi.motion.trajectory.flow_fields import Fields, KnotTrajectory, Once, check_reach
from rdvfi.ops.warp import backward_warp, follow
from rdvfi.types import Flows, Times, short_repr

FOLLOWED = 2
"""Steps over which points are followed, so how far a basis may look."""


@dataclass(frozen=True, eq=False)
class MovedKnotTrajectory(KnotTrajectory):
    """Flow fields to both ends at knots, interpolated along the paths of the points."""

    steps: "Once[Steps]" = field(default_factory=lambda: Once(), repr=False)
    """The points' steps from knot to knot, computed from the fields at the first need."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        """Raises:
        ValueError: If the basis looks further than points are followed.
        """
        check_reach(self.basis, self.knots.numel(), FOLLOWED)

    def at(self, times: Times) -> tuple[Flows, Flows]:
        """Flows to both ends at each time, along the points' paths."""
        times = times.to(self.knots)
        if self._all_on_knots(times):
            return super().at(times)
        flows = self._steps().at(times, self.basis)
        return flows[:, :, :2], flows[:, :, 2:]

    def _all_on_knots(self, times: Times) -> bool:
        """Whether every time is a knot's, so that no point is followed; False on a device that would wait."""
        if torch.compiler.is_compiling() or self.knots.device.type != "cpu":
            return False
        return bool(torch.isin(times, _chosen(self.knots, 0, self.basis)).all())

    def prepared(self) -> "MovedKnotTrajectory":
        """The same with the steps computed: for compiled graphs, and where they are always needed."""
        return replace(self, steps=Once(self._steps()))

    def _steps(self) -> "Steps":
        return self.steps.get(self._computed_steps)

    def _computed_steps(self) -> "Steps":
        both = torch.cat((self.from_first, self.from_last), dim=2)
        knots = _chosen(self.knots, 0, self.basis)
        return Steps.between(_chosen(both, 1, self.basis), knots)


def _chosen(values: Tensor, dim: int, basis: Basis) -> Tensor:
    """The knots' entries along ``dim`` that the basis uses."""
    count = values.shape[dim]
    used = basis.used(count)
    if len(used) == count:
        return values
    return torch.stack([values.select(dim, index) for index in used], dim=dim)


@dataclass(frozen=True, eq=False)
class Steps:
    """Shifts of points between neighbouring knots, as the fields imply them."""

    fields: Float[Tensor, "b k 4 h w"]
    """Flows to the first frame, then to the last, at each knot."""
    knots: Float[Tensor, " k"]
    ahead: Float[Tensor, "b s 2 h w"]
    """From each knot but the last to the next."""
    behind: Float[Tensor, "b s 2 h w"]
    """From each knot but the first to the one before."""
    ahead_error: Float[Tensor, "b s 1 h w"]
    """Forward-backward error of the step ahead, in pixels."""
    behind_error: Float[Tensor, "b s 1 h w"]

    @classmethod
    def between(cls, fields: Float[Tensor, "b k 4 h w"], knots: Float[Tensor, " k"]) -> "Steps":
        """The steps of these fields."""
        early = (fields[:, :-1, :2], fields[:, :-1, 2:])
        late = (fields[:, 1:, :2], fields[:, 1:, 2:])
        ahead = follow(early, late, knots[:-1], knots[1:])
        behind = follow(late, early, knots[1:], knots[:-1])
        errors = forward_backward_error(ahead, behind), forward_backward_error(behind, ahead)
        return cls(fields, knots, ahead, behind, *errors)

    def at(self, times: Float[Tensor, " t"], basis: Basis) -> Float[Tensor, "b t 4 h w"]:
        """Flows to both ends at each time, from the best solutions of the fixed point."""
        knots = self.knots
        left = torch.searchsorted(knots, times, right=True).sub(1).clamp(0, knots.numel() - 2)
        share = ((times - knots[left]) / (knots[left + 1] - knots[left]))[:, None, None, None]
        weights = basis.weights(knots, times)
        ahead, behind = self.ahead[:, left], self.behind[:, left]
        total, flows = 0.0, 0.0
        for knot, nearness, shift, error, other in (
            (left, 1.0 - share, self.onward(left, weights), self.ahead_error, share * behind),
            (
                left + 1,
                share,
                self.back(left + 1, weights),
                self.behind_error,
                (1.0 - share) * ahead,
            ),
        ):
            inputs = torch.cat((self.fields[:, knot], shift, error[:, left]), dim=2)
            for guess in (-shift, other):
                solution, confidence = _solve(inputs, guess)
                weight = nearness * (confidence + 1e-6)
                total, flows = total + weight, flows + weight * solution
        nearest = left + (times >= knots[left + 1])
        on_knot = (times == knots[nearest])[:, None, None, None]
        return torch.where(on_knot, self.fields[:, nearest], flows / total)

    def onward(self, left: Int[Tensor, " t"], weights: Float[Tensor, "t k"]) -> Flows:
        """Shift of points of the left knot until each time, by the basis on up to four knots."""
        at = left
        shift = self._share(weights, at + 1) * self.ahead[:, at]
        if self.ahead.shape[1] > 1:
            two = self._two(self.ahead, at.clamp(max=self.ahead.shape[1] - 2), 1)
            shift = shift + self._share(weights, at + 2) * two
            shift = shift + self._share(weights, at - 1) * self.behind[:, (at - 1).clamp(min=0)]
        return shift

    def back(self, right: Int[Tensor, " t"], weights: Float[Tensor, "t k"]) -> Flows:
        """Shift of points of the right knot until each time."""
        at = right
        shift = self._share(weights, at - 1) * self.behind[:, at - 1]
        if self.behind.shape[1] > 1:
            two = self._two(self.behind, (at - 1).clamp(min=1), -1)
            shift = shift + self._share(weights, at - 2) * two
            ahead = self.ahead[:, at.clamp(max=self.ahead.shape[1] - 1)]
            shift = shift + self._share(weights, at + 1) * ahead
        return shift

    def _two(self, single: Float[Tensor, "b s 2 h w"], index: Int[Tensor, " t"], direction: int) -> Flows:
        """Shift over two intervals: one, and from where it leads the next."""
        first, second = single[:, index], single[:, (index + direction).clamp(min=0)]
        b, t = first.shape[:2]
        carried = backward_warp(second.flatten(0, 1), first.flatten(0, 1)).unflatten(0, (b, t))
        return first + carried

    def _share(self, weights: Float[Tensor, "t k"], knot: Int[Tensor, " t"]) -> Tensor:
        """The basis' weight of each time's knot; zero for knots that do not exist."""
        count = weights.shape[1]
        inside = (knot >= 0) & (knot < count)
        rows = torch.arange(weights.shape[0], device=weights.device)
        values = weights[rows, knot.clamp(0, count - 1)] * inside
        return values[:, None, None, None]


def _solve(
    inputs: Float[Tensor, "b t 7 h w"], guess: Flows
) -> tuple[Float[Tensor, "b t 4 h w"], Float[Tensor, "b t 1 h w"]]:
    """One solution of the fixed point: flows to both ends, and confidence in it in (0, 1].

    ``inputs`` are, on a knot's grid, the flows to both ends, the shift of its points until tau, and
    the forward-backward error of its step to the other knot.
    """
    b, t = guess.shape[:2]
    flat = inputs.flatten(0, 1)
    back = guess.flatten(0, 1)
    for _ in range(2):
        back = -backward_warp(flat[:, 4:6], back)
    seen = backward_warp(flat, back)
    miss = flow_length(back + seen[:, 4:6])
    flows = seen[:, :4] + back.repeat(1, 2, 1, 1)
    return flows.unflatten(0, (b, t)), torch.exp(-miss - seen[:, 6:]).unflatten(0, (b, t))


def forward_backward_error(there: Fields, back: Fields) -> Float[Tensor, "b k 1 h w"]:
    """Pixels by which a point that goes one step and returns misses where it was."""
    b, k = there.shape[:2]
    returned = backward_warp(back.flatten(0, 1), there.flatten(0, 1)).unflatten(0, (b, k))
    return flow_length(there + returned)
