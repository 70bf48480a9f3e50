"""Adjacent motions composed without a network: iterative fusion without learning.

From knot to knot the flow to the end frame is composed with one small motion, ``F_{k+1} = l + F_k(y + l)``
(`rdvfi.ops.chain`). The errors of all steps accumulate, so the result depends on the flow estimator: with a pretrained
one on decoded keyframes (``raft``), no training is required. The coarse end-to-end motion is not used.
"""

import torch

from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Basis, FlowEstimator, Keyframes, Reads, Trajectory, TrajectoryModel
from rdvfi.motion.trajectory.knots import KNOTS_BEFORE, Knots, basis_reach, trajectory_over
from rdvfi.motion.trajectory.straight_motion import FIELD_STRIDE
from rdvfi.ops import chain
from rdvfi.registry import trajectories


class ChainedTrajectory(TrajectoryModel):
    """The adjacent motions, chained to both ends.

    Args:
        flow: Motion between neighbouring keyframes.
        basis: Interpolation in time.
        knots: Along which paths the basis interpolates; see `rdvfi.motion.trajectory.knots`.
    """

    def __init__(self, flow: FlowEstimator, basis: Basis, knots: Knots) -> None:
        super().__init__()
        self.flow, self.basis, self.knots = flow, basis, knots
        self.basis_reach = basis_reach(knots)

    @property
    def reads(self) -> Reads:
        return self.flow.reads

    def forward(self, keyframes: Keyframes) -> Trajectory:
        pixels = self.reads is Reads.PIXELS
        values = keyframes.images if pixels else keyframes.latents
        if values is None:
            raise ValueError("the flow estimator reads pixels, but the keyframes have no images")
        b, k = values.shape[:2]
        both = torch.cat((values, values.flip(1)))
        steps = self.flow(both[:, 1:].flatten(0, 1), both[:, :-1].flatten(0, 1))
        steps = steps.unflatten(0, (2 * b, k - 1))
        found = [torch.zeros_like(steps[:, 0])]
        for i in range(k - 1):
            found.append(chain(steps[:, i], found[-1]))
        fields = torch.stack(found, dim=1)
        if pixels:
            h, w = fields.shape[-2:]
            small = resize_flow(fields.flatten(0, 1), (h // FIELD_STRIDE, w // FIELD_STRIDE))
            fields = small.unflatten(0, (2 * b, k))
        both_ends = (fields[:b], fields[b:].flip(1))
        return trajectory_over(self.knots, both_ends, keyframes.times, self.basis)


@trajectories.register("chained", renamed=KNOTS_BEFORE)
def chained(*, flow: FlowEstimator, basis: Basis, knots: Knots = Knots.MOVED) -> TrajectoryModel:
    """Adjacent motions composed without a network; needs no training if the flow needs none.

    Args:
        flow: Motion between neighbouring keyframes.
        basis: Interpolation in time.
        knots: `FIXED`, `MOVED` or `SOURCE`: along which paths the basis interpolates between the knots.
    """
    return ChainedTrajectory(flow, basis, knots)
