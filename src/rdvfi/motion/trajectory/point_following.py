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

Steps between neighbouring knots follow from the fields alone: see `rdvfi.ops.paths.follow`.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rdvfi.interfaces import Basis
from rdvfi.motion.trajectory.flow_fields import Fields, KnotTrajectory, Once, check_reach
from rdvfi.ops.occlusion import return_error
from rdvfi.ops.paths import flows_at, follow
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

    def at_knots(self, knots: Float[Tensor, " k"], index: Int64[Tensor, " t"]) -> tuple[Flows, Flows]:
        """The fields themselves, unless the basis looks at some of the knots only."""
        count = self.knots.numel()
        if knots.numel() != count or len(self.basis.used(count)) != count:
            return super().at_knots(knots, index)
        return self.from_first[:, index], self.from_last[:, index]

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
        weights = basis.weights(self.knots, times)
        steps, errors = (self.ahead, self.behind), (self.ahead_error, self.behind_error)
        return flows_at(self.fields, steps, errors, self.knots, times, weights)


def forward_backward_error(there: Fields, back: Fields) -> Float[Tensor, "b k 1 h w"]:
    """Pixels by which a point that goes one step and returns misses where it was."""
    return return_error(there.flatten(0, 1), back.flatten(0, 1)).unflatten(0, there.shape[:2])
