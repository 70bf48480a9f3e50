"""Losses on motion against exact flow: of trajectories, of adjacent motions, and of a learned coarse flow.

Flows are compared with exact ones by a robust distance (the end-point error to the power 0.8), in
latent pixels; points that the other frame does not show count less, because only smoothness can
tell where they went.

Matches have the cross-entropy of where a point went. An error of a mean flow says little about
which of many matches was wrong; the cross-entropy says it at once (LoFTR; Sun et al., 2021,
https://arxiv.org/abs/2104.00680). A point that lands between four cells is shared by them,
bilinearly.

Every estimate of a coarse flow between the matches and the finished flow is compared with the flow on its own grid,
the later the more it counts (RAFT; Teed and Deng, 2020, https://arxiv.org/abs/2003.12039), by a
robust distance as in PWC-Net (Sun et al., 2018, https://arxiv.org/abs/1709.02371).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import pixel_grid
from rdvfi.training.losses.evidence import Estimates, Evidence, Loss, Needs, losses

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


def matching_loss(
    logits: Float[Tensor, "n m m"], exact: Float[Tensor, "n 2 h w"], visible: Float[Tensor, "n h w"]
) -> Tensor:
    """Mean cross-entropy over the cells whose point is visible and lands among the cells, in nats.

    Args:
        logits: Of the matches of every source cell.
        exact: Where the points of its cells go, in cells.
        visible: 1 where the other picture shows the point.
    """
    h, w = exact.shape[-2:]
    grid = pixel_grid(h, w, device=exact.device)
    last = grid.new_tensor([w - 1, h - 1])[:, None, None]
    place = grid + exact
    within = ((place > -0.5) & (place < last + 0.5)).all(1)
    first = torch.minimum(place.clamp(min=0.0), last).floor()
    share = (torch.minimum(place.clamp(min=0.0), last) - first).flatten(2)
    far = torch.minimum(first + 1.0, last)
    known = logits.float().log_softmax(2)
    total = torch.zeros_like(share[:, 0])
    for x, across in ((first, 1.0 - share[:, 0]), (far, share[:, 0])):
        for y, down in ((first, 1.0 - share[:, 1]), (far, share[:, 1])):
            cell = (y[:, 1] * w + x[:, 0]).long().flatten(1)
            total = total - across * down * known.gather(2, cell[..., None])[..., 0]
    weight = (visible * within).flatten(1)
    return (weight * total).sum() / weight.sum().clamp(min=1.0)


@losses.register("matching")
class MatchingLoss(Loss):
    """Matches of the coarse flow `matching` against exact flow."""

    needs = Needs.MATCHES

    def forward(self, evidence: Evidence) -> Tensor:
        matches = evidence.matches
        assert matches is not None
        return matching_loss(matches.logits, matches.exact, matches.visible)


def estimates_loss(estimates: Estimates, *, first: float, occluded: float) -> Tensor:
    """Sum of the weighted means of ``(e + 0.1)^0.7`` over all estimates, ``e`` in pixels.

    Args:
        estimates: What is compared.
        first: Weight of the first estimate; from there they rise evenly to 1, that of the last.
        occluded: Weight of points that the other picture does not show, where their flow is known.
    """
    count, total = len(estimates.pairs), estimates.exact.new_zeros(())
    unseen = occluded * estimates.exact[:, None, None]
    for index, pair in enumerate(estimates.pairs):
        error = ((pair.made.float() - pair.exact).square().sum(1) + 1e-8).sqrt()
        plain = estimates.matched and index == 0
        weight = pair.visible if plain else torch.maximum(pair.visible, unseen)
        mean = (weight * (error + 0.1).pow(0.7)).sum() / weight.sum().clamp(min=1.0)
        share = index / (count - 1) if count > 1 else 1.0
        total = total + (first + (1.0 - first) * share) * mean
    return total


@losses.register("estimates", renamed={"hidden": "occluded"})
class EveryEstimate(Loss):
    """All estimates of the coarse flow against that of pairs.

    Args:
        first: Weight of the first estimate, that of the last being 1.
        occluded: Weight of occluded points, that of visible ones being 1.
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
