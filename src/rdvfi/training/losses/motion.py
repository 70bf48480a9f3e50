"""Losses on motion: supervision by exact flow, of the trajectory and of the adjacent motions.

Flows are compared with exact ones by a robust distance (the end-point error to the power 0.8), in
latent pixels; points that the other frame does not show count less, because only smoothness can
tell where they went.
"""

from jaxtyping import Float
from torch import Tensor

from rdvfi.training.losses.evidence import Evidence, Loss, Needs, losses

OCCLUDED_WEIGHT = 0.2
"""Weight of points that are occluded or outside in the frame that the flow points to."""


def flow_loss(
    flow: Float[Tensor, "*n 2 h w"], exact: Float[Tensor, "*n 2 h w"], visible: Float[Tensor, "*n h w"]
) -> Tensor:
    """Weighted mean of the robust end-point error; flows in latent pixels."""
    error = ((flow - exact).square().sum(-3) + 1e-3).pow(0.4)
    weight = OCCLUDED_WEIGHT + (1.0 - OCCLUDED_WEIGHT) * visible
    return (weight * error).sum() / weight.sum()


@losses.register("flow")
class ExactFlow(Loss):
    """Flows to both ends against exact ones: of the trajectory, or of the generator's own line."""

    needs = Needs.FLOW

    def forward(self, evidence: Evidence) -> Tensor:
        assert evidence.flow is not None
        return flow_loss(evidence.flow.made, evidence.flow.exact, evidence.flow.visible)


@losses.register("adjacent")
class AdjacentFlow(Loss):
    """Motion between neighbouring keyframes (phi_1) against exact flow."""

    needs = Needs.ADJACENT

    def forward(self, evidence: Evidence) -> Tensor:
        assert evidence.adjacent is not None
        return flow_loss(evidence.adjacent.made, evidence.adjacent.exact, evidence.adjacent.visible)
