"""The straight line: where every trajectory starts, and a trajectory of its own.

`starting_line` gives the flows at every knot that a trajectory model starts from, on a grid of half
the motion size: uniform straight motion along the coarse end-to-end flow of the generator (if there
is none, along the chain of the adjacent motions), bent as the generator bent it. `straight` registers it as a trajectory without learning: with it, the
pipeline is coarse flow + warp.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Basis, Keyframes, Reads, Trajectory, TrajectoryModel
from rdvfi.ops.compose import chain, straight_flows
from rdvfi.motion.trajectory import KnotTrajectory, MovedKnotTrajectory
from rdvfi.registry import trajectories
from rdvfi.types import Flows

FIELD_STRIDE = 2
"""Motion-size pixels per pixel of a trajectory's fields."""


@dataclass(frozen=True, eq=False)
class Line:
    """Flows to both ends at the knots, in pixels of their grid."""

    to_first: Flows
    to_last: Flows


def starting_line(
    keyframes: Keyframes, adjacent: Float[Tensor, "b2 s 2 hz wz"] | None = None
) -> Line:
    """Straight motion at every knot, with the generator's own bends.

    Args:
        keyframes: Their ``end_flows`` are the line, if there are any.
        adjacent: Motion from each knot to the one before, forward and backward in one batch, used
            in their absence.

    Raises:
        ValueError: If neither is there.
    """
    if keyframes.end_flows is not None:
        h, w = keyframes.end_flows.shape[-2:]
        size = (h // FIELD_STRIDE, w // FIELD_STRIDE)
        forward = resize_flow(keyframes.end_flows[:, 0].float(), size)
        backward = resize_flow(keyframes.end_flows[:, 1].float(), size)
    elif adjacent is not None:
        whole = adjacent[:, 0]
        for i in range(1, adjacent.shape[1]):
            whole = chain(adjacent[:, i], whole)
        backward, forward = whole.chunk(2)
    else:
        raise ValueError(
            "these keyframes carry no coarse motion (end_flows), which the straight line needs; "
            "use a backbone with a coarse flow, or the trajectory 'iterative'"
        )
    to_first, to_last = straight_flows(forward, backward, keyframes.times)
    if keyframes.bends is None:
        return Line(to_first, to_last)
    size = (to_first.shape[-2], to_first.shape[-1])
    bends = resize_flow(keyframes.bends.flatten(0, 2).float(), size)
    bends = bends.unflatten(0, keyframes.bends.shape[:3])
    return Line(to_first + bends[:, :, 0], to_last + bends[:, :, 1])


class StraightTrajectory(TrajectoryModel):
    """Uniform straight motion along the generator's coarse flow.

    Args:
        basis: Interpolation in time.
        moved: Whether points are followed between knots.
    """

    reads = Reads.LATENTS

    def __init__(self, basis: Basis, moved: bool) -> None:
        super().__init__()
        self.basis, self.moved = basis, moved

    def forward(self, keyframes: Keyframes) -> Trajectory:
        """See `rdvfi.interfaces.TrajectoryModel.forward`."""
        line = starting_line(replace(keyframes, bends=None))
        kind = MovedKnotTrajectory if self.moved else KnotTrajectory
        return kind(line.to_first, line.to_last, keyframes.times, self.basis)


@trajectories.register("straight")
def straight(*, basis: Basis, moved: bool = True) -> TrajectoryModel:
    """Uniform straight motion along the coarse flow; needs no training.

    Args:
        basis: Interpolation in time.
        moved: Follow points between knots, instead of interpolating at fixed pixels.
    """
    return StraightTrajectory(basis, moved)
