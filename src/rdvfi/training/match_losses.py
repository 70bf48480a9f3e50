"""The loss on matches: the cross-entropy of where a point went.

An error of a mean flow says little about which of many matches was wrong; the cross-entropy says it
at once (LoFTR; Sun et al., 2021, https://arxiv.org/abs/2104.00680). A point that lands between four
cells is shared by them, bilinearly.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import pixel_grid
from rdvfi.training.evidence import Evidence, Loss, Needs, losses


def matching_loss(
    logits: Float[Tensor, "n m m"],
    exact: Float[Tensor, "n 2 h w"],
    visible: Float[Tensor, "n h w"],
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
class Matching(Loss):
    """Matches of the coarse flow `matching` against exact flow."""

    needs = Needs.MATCHES

    def forward(self, evidence: Evidence) -> Tensor:
        """See `matching_loss`."""
        matches = evidence.matches
        assert matches is not None
        return matching_loss(matches.logits, matches.exact, matches.visible)
