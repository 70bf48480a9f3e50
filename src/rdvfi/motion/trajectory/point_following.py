"""Motion-moved knots: the basis interpolates the path of a point, not the flow at a fixed pixel.

Let ``p_j`` be the position at knot j of the point that is at ``y_i`` at knot i. Its position at tau is ``y_i +
d_i(y_i)`` with ``d_i = sum_j W[tau, j] (p_j - p_i)`` by the basis. The point visible at pixel y solves the fixed-point
equation ``y_i = y - d_i(y_i)``, and the flow is ``(y_i - y) + F_i(y_i)``. Near the boundary of a moving object there
are two solutions, the object and its background, and the iteration converges to the one closer to its starting point.
So it is run from both neighbouring knots and from two starting points each: the motion at y at that knot, and at the
other one. The solutions are averaged with weights that decrease with the distance in time, with the residual of the
equation, and with the forward-backward error of the step between the knots, which is large for a surface that is
occluded at one of them. At the time of a knot the result is the field of that knot.

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

MAX_REACH = 2
"""Number of steps over which points are followed, and therefore the largest reach of a basis."""


@dataclass(frozen=True, eq=False)
class MovedKnotTrajectory(KnotTrajectory):
    """Flow fields to both ends at knots, interpolated along the paths of the points."""

    steps: "Once[Steps]" = field(default_factory=lambda: Once(), repr=False)
    """Displacements of the points from knot to knot, computed from the fields on first use."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        """Raise a ValueError if the reach of the basis is larger than `MAX_REACH`."""
        check_reach(self.basis, self.knots.numel(), MAX_REACH)

    def at(self, times: Times) -> tuple[Flows, Flows]:
        """Flows to both ends at each time, along the paths of the points."""
        times = times.to(self.knots)
        if self._all_on_knots(times):
            return super().at(times)
        flows = self._steps().at(times, self.basis)
        return flows[:, :, :2], flows[:, :, 2:]

    def at_knots(self, knots: Float[Tensor, " k"], index: Int64[Tensor, " t"]) -> tuple[Flows, Flows]:
        """The fields themselves, unless the basis uses some of the knots only."""
        count = self.knots.numel()
        if knots.numel() != count or len(self.basis.used(count)) != count:
            return super().at_knots(knots, index)
        return self.from_first[:, index], self.from_last[:, index]

    def _all_on_knots(self, times: Times) -> bool:
        """Whether all times are times of knots, so that no point has to be followed; False where reading would wait."""
        if torch.compiler.is_compiling() or self.knots.device.type != "cpu":
            return False
        return bool(torch.isin(times, _select_used(self.knots, 0, self.basis)).all())

    def prepared(self) -> "MovedKnotTrajectory":
        """The same with the steps computed: for compiled graphs, and where they are always needed."""
        return replace(self, steps=Once(self._steps()))

    def _steps(self) -> "Steps":
        return self.steps.get(self._compute_steps)

    def _compute_steps(self) -> "Steps":
        both = torch.cat((self.from_first, self.from_last), dim=2)
        knots = _select_used(self.knots, 0, self.basis)
        return Steps.between(_select_used(both, 1, self.basis), knots)


def _select_used(values: Tensor, dim: int, basis: Basis) -> Tensor:
    """The knots' entries along ``dim`` that the basis uses."""
    count = values.shape[dim]
    used = basis.used(count)
    if len(used) == count:
        return values
    return torch.stack([values.select(dim, index) for index in used], dim=dim)


@dataclass(frozen=True, eq=False)
class Steps:
    """Displacements of points between neighbouring knots, as implied by the fields."""

    fields: Float[Tensor, "b k 4 h w"]
    """Flows to the first frame, then to the last, at each knot."""
    knots: Float[Tensor, " k"]
    ahead: Float[Tensor, "b s 2 h w"]
    """Flow from each knot but the last to the next."""
    behind: Float[Tensor, "b s 2 h w"]
    """Flow from each knot but the first to the previous one."""
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
        """Flows to both ends at each time, from the solutions of the fixed-point equation."""
        weights = basis.weights(self.knots, times)
        steps, errors = (self.ahead, self.behind), (self.ahead_error, self.behind_error)
        return flows_at(self.fields, steps, errors, self.knots, times, weights)


def forward_backward_error(there: Fields, back: Fields) -> Float[Tensor, "b k 1 h w"]:
    """Forward-backward error of a step, in pixels."""
    return return_error(there.flatten(0, 1), back.flatten(0, 1)).unflatten(0, there.shape[:2])
