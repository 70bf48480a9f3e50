"""Losses on motion.

Flows are compared with exact ones by a robust distance (the end-point error to the power 0.8), in
latent pixels; points that the other frame does not show count less, because only smoothness can
tell where they went.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Reads
from rdvfi.registry import flows
from rdvfi.training.losses.evidence import Evidence, Field, Loss, Needs, losses

HIDDEN_WEIGHT = 0.2
"""Weight of points that are hidden or outside in the frame that the flow points to."""


def flow_loss(
    flow: Float[Tensor, "*n 2 h w"],
    exact: Float[Tensor, "*n 2 h w"],
    visible: Float[Tensor, "*n h w"],
) -> Tensor:
    """Weighted mean of the robust end-point error; flows in latent pixels."""
    error = ((flow - exact).square().sum(-3) + 1e-3).pow(0.4)
    weight = HIDDEN_WEIGHT + (1.0 - HIDDEN_WEIGHT) * visible
    return (weight * error).sum() / weight.sum()


@losses.register("flow")
class ExactFlow(Loss):
    """Flows to both ends against exact ones: of the trajectory, or of the generator's own line."""

    needs = Needs.FLOW

    def forward(self, evidence: Evidence) -> Tensor:
        """See `flow_loss`."""
        assert evidence.flow is not None
        return flow_loss(evidence.flow.made, evidence.flow.exact, evidence.flow.visible)


@losses.register("adjacent")
class AdjacentFlow(Loss):
    """Motion between neighbouring keyframes (phi_1) against exact flow."""

    needs = Needs.ADJACENT

    def forward(self, evidence: Evidence) -> Tensor:
        """See `flow_loss`."""
        assert evidence.adjacent is not None
        return flow_loss(evidence.adjacent.made, evidence.adjacent.exact, evidence.adjacent.visible)


@losses.register("smoothness")
class Smoothness(Loss):
    """First differences of the flows, less where the picture has an edge.

    Args:
        edge: How much a difference of brightness forgives.
    """

    needs = Needs.FIELD

    def __init__(self, *, edge: float = 10.0) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean over both flows and both directions, in pixels of the flows' grid."""
        field = evidence.field
        assert field is not None
        flow = torch.cat((field.to_first, field.to_last), dim=1)
        image = resize_image(field.truth.float(), (flow.shape[-2], flow.shape[-1]))
        across = (flow[..., 1:] - flow[..., :-1]).abs()
        down = (flow[..., 1:, :] - flow[..., :-1, :]).abs()
        edge_across = (image[..., 1:] - image[..., :-1]).abs().mean(1, keepdim=True)
        edge_down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(1, keepdim=True)
        forgiven = (torch.exp(-self.edge * edge_across), torch.exp(-self.edge * edge_down))
        return 0.5 * ((forgiven[0] * across).mean() + (forgiven[1] * down).mean())


@losses.register("distillation")
class FlowDistillation(Loss):
    """Flows to both ends against a teacher's, fading out as training goes on.

    The teacher sees the true frame, which the model does not. Flows that come with the data (key
    ``teacher``, for example RIFE's, computed once) are used where there are any.

    Args:
        teacher: A registered flow estimator that reads pixels.
        until: Share of training after which it has faded out, linearly.
    """

    needs = Needs.FIELD

    def __init__(self, *, teacher: str = "dis", until: float = 0.5) -> None:
        super().__init__()
        if not 0 < until <= 1:
            raise ValueError(f"until must be in (0, 1]; got {until}")
        self.until, self._name = until, teacher
        # Made when it is first needed: data that brings a teacher's flows needs no estimator.
        self._teacher: list[torch.nn.Module] = []

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean absolute difference in pixels of the flows' grid, times what is left of it."""
        field = evidence.field
        assert field is not None
        left = max(0.0, 1.0 - evidence.progress / self.until)
        made = torch.cat((field.to_first, field.to_last), dim=1)
        if left == 0.0:
            return 0.0 * made.sum()
        wanted = self._opinion(field) if field.teacher is None else field.teacher
        return left * F.l1_loss(made, wanted.detach())

    @torch.no_grad()
    def _opinion(self, field: Field) -> Float[Tensor, "n 4 h w"]:
        if not self._teacher:
            teacher = flows.create(self._name)
            if teacher.reads is not Reads.PIXELS:
                raise ValueError(f"the teacher {self._name!r} must read pixels")
            self._teacher.append(teacher.to(field.truth.device).eval())
        size = (field.to_first.shape[-2], field.to_first.shape[-1])
        found = [self._teacher[0](field.truth, end) for end in (field.first, field.last)]
        return torch.cat([resize_flow(flow.float(), size) for flow in found], dim=1)
