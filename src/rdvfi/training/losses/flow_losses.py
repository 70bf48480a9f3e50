"""Losses on motion against exact flow: of trajectories, of adjacent motions, and of a learned coarse flow.

Flows are compared with exact ones by a robust distance (the end-point error to the power 0.8) in
latent pixels. Occluded points have a lower weight, because their motion can only be guessed from their
surroundings.

Matches are supervised by cross-entropy (LoFTR; Sun et al., 2021, https://arxiv.org/abs/2104.00680): unlike the
error of the mean flow it has a gradient for every match. The target of a point between four cells is
distributed over them bilinearly.

Every estimate of a coarse flow, from the matches to the final flow, is compared with the exact flow on its own
grid, with weights that rise from the first to the last (RAFT; Teed and Deng, 2020,
https://arxiv.org/abs/2003.12039), by a robust distance as in PWC-Net (Sun et al., 2018,
https://arxiv.org/abs/1709.02371).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import pixel_grid
from rdvfi.training.losses.evidence import Estimates, Evidence, Loss, Needs, losses

OCCLUDED_WEIGHT = 0.2
"""Weight of points that are occluded in, or outside of, the target frame."""


def flow_loss(
    flow: Float[Tensor, "*n 2 h w"], exact: Float[Tensor, "*n 2 h w"], visible: Float[Tensor, "*n h w"]
) -> Tensor:
    """Weighted mean of the robust end-point error; flows in latent pixels."""
    error = ((flow - exact).square().sum(-3) + 1e-3).pow(0.4)
    weight = OCCLUDED_WEIGHT + (1.0 - OCCLUDED_WEIGHT) * visible
    return (weight * error).sum() / weight.sum()


@losses.register("flow")
class ExactFlowLoss(Loss):
    """Flows to both ends against exact ones: those of the trajectory, or of the generator's residual motion."""

    needs = Needs.FLOW

    def forward(self, evidence: Evidence) -> Tensor:
        assert evidence.flow is not None
        return flow_loss(evidence.flow.predicted, evidence.flow.exact, evidence.flow.visible)


@losses.register("adjacent")
class AdjacentFlowLoss(Loss):
    """Motion between neighbouring keyframes (phi_1) against exact flow."""

    needs = Needs.ADJACENT

    def forward(self, evidence: Evidence) -> Tensor:
        assert evidence.adjacent is not None
        return flow_loss(evidence.adjacent.predicted, evidence.adjacent.exact, evidence.adjacent.visible)


def matching_loss(
    logits: Float[Tensor, "n m m"], exact: Float[Tensor, "n 2 h w"], visible: Float[Tensor, "n h w"]
) -> Tensor:
    """Mean cross-entropy, in nats, over the source cells whose point is visible and inside the target grid.

    Rows of the logits are source cells, columns target cells; the exact flow of source cells is in cells.
    """
    h, w = exact.shape[-2:]
    grid = pixel_grid(h, w, device=exact.device)
    last = grid.new_tensor([w - 1, h - 1])[:, None, None]
    target = grid + exact
    is_inside = ((target > -0.5) & (target < last + 0.5)).all(1)
    target = torch.minimum(target.clamp(min=0.0), last)
    lower = target.floor()
    upper = torch.minimum(lower + 1.0, last)
    fraction = (target - lower).flatten(2)
    log_probabilities = logits.float().log_softmax(2)
    cross_entropy = torch.zeros_like(fraction[:, 0])
    for x, weight_x in ((lower, 1.0 - fraction[:, 0]), (upper, fraction[:, 0])):
        for y, weight_y in ((lower, 1.0 - fraction[:, 1]), (upper, fraction[:, 1])):
            cell = (y[:, 1] * w + x[:, 0]).long().flatten(1)
            cross_entropy = cross_entropy - weight_x * weight_y * log_probabilities.gather(2, cell[..., None])[..., 0]
    weight = (visible * is_inside).flatten(1)
    return (weight * cross_entropy).sum() / weight.sum().clamp(min=1.0)


@losses.register("matching")
class MatchingLoss(Loss):
    """Matches of the coarse flow `matching` against exact flow."""

    needs = Needs.MATCHES

    def forward(self, evidence: Evidence) -> Tensor:
        matches = evidence.matches
        assert matches is not None
        return matching_loss(matches.logits, matches.exact, matches.visible)


def estimates_loss(estimates: Estimates, *, first: float, occluded: float) -> Tensor:
    """Sum over all estimates of the weighted mean of ``(e + 0.1)^0.7``, with the end-point error ``e`` in pixels.

    Weights of estimates rise linearly from ``first`` to 1; ``occluded`` is that of occluded points with known flow.
    """
    count, total = len(estimates.pairs), estimates.exact.new_zeros(())
    occluded_weight = occluded * estimates.exact[:, None, None]
    for index, pair in enumerate(estimates.pairs):
        error = ((pair.predicted.float() - pair.exact).square().sum(1) + 1e-8).sqrt()
        is_matching = estimates.matched and index == 0
        weight = pair.visible if is_matching else torch.maximum(pair.visible, occluded_weight)
        mean = (weight * (error + 0.1).pow(0.7)).sum() / weight.sum().clamp(min=1.0)
        position = index / (count - 1) if count > 1 else 1.0
        total = total + (first + (1.0 - first) * position) * mean
    return total


@losses.register("estimates", renamed={"hidden": "occluded"})
class EstimatesLoss(Loss):
    """All estimates of the coarse flow against the flow of pairs.

    Args:
        first: Weight of the first estimate; that of the last is 1.
        occluded: Weight of occluded points; that of visible ones is 1.
    """

    needs = Needs.ESTIMATES

    def __init__(self, *, first: float = 0.15, occluded: float = 0.3) -> None:
        super().__init__()
        for name, weight in (("first", first), ("occluded", occluded)):
            if not 0.0 <= weight <= 1.0:
                raise ValueError(f"{name} must be in [0, 1]; got {weight}")
        self.first, self.occluded = first, occluded

    def forward(self, evidence: Evidence) -> Tensor:
        assert evidence.estimates is not None
        return estimates_loss(evidence.estimates, first=self.first, occluded=self.occluded)
