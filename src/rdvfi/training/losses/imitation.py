"""Distillation of flows and blending masks of a teacher into phi_s.

The flow by which a point moved is not always the one that draws it best, and photometric gradients
of a renderer are short-sighted: they see a pixel or two. Another interpolator's intermediate flows
and blend are a direct answer, and so is exact flow where it is known. This is the privileged
distillation of RIFE (Huang et al., 2022, https://arxiv.org/abs/2011.06294), from a model that is
trained already instead of a branch that sees the true frame.

They are followed only where they draw a better picture than the trajectory's own maps do: on the
small grid, in the mean over a window. So a teacher that is wrong teaches nothing.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.warp import backward_warp
from rdvfi.training.losses.evidence import Drawing, Evidence, Loss, Maps, Needs, losses

WINDOW = 7
"""Side of the windows in which pictures are compared, in pixels of the small grid."""
MARGIN = 0.02
"""A picture that is better by so much, about five 8-bit levels, counts in full."""
LAST = 0.1
"""Final weight, relative to the initial one."""
_FEW = 100.0
"""Pixels; a batch with fewer to learn from counts less, so that a handful cannot rule a step."""
_ROUND = 0.1
"""Errors below so many pixels are rounded off."""


@losses.register("imitation")
class Imitation(Loss):
    """Refined flows and blend of phi_s against a teacher's, or against exact flow.

    The weights are relative to each other: a pixel of flow is much, a whole blend is 1.

    Args:
        flow: Weight of a teacher's flows.
        blend: Weight of its blend.
        exact: Weight of exact flow, which has no blend and counts where a point can be seen.
        reach: Errors of flow, in pixels of the small grid, that are larger count as this.
        until: Share of training after which only a tenth of the weight is left, after a linear
            fall.
    """

    needs = Needs.DRAWING

    def __init__(
        self,
        *,
        flow: float = 0.1,
        blend: float = 0.5,
        exact: float = 0.05,
        reach: float = 20.0,
        until: float = 0.8,
    ) -> None:
        super().__init__()
        if not 0 < until <= 1:
            raise ValueError(f"until must be in (0, 1]; got {until}")
        self.flow, self.blend, self.exact = flow, blend, exact
        self.reach, self.until = reach, until

    def forward(self, evidence: Evidence) -> Tensor:
        """Weighted means of the robust distances, times what is left of them."""
        drawing = evidence.drawing
        assert drawing is not None
        left = max(LAST, 1.0 - evidence.progress / self.until)
        gate = better(drawing)
        seen = gate.expand(-1, 2, -1, -1)
        share = self.flow
        if drawing.visible is not None:
            seen, share = seen * drawing.visible, self.exact
        apart = (drawing.refined.flows - drawing.wanted).unflatten(1, (2, 2)).square().sum(2)
        error = ((apart + _ROUND**2).sqrt() - _ROUND).clamp(max=self.reach)
        found = share * _mean(error, seen)
        if drawing.wanted_mask is not None:
            off = (drawing.refined.mask - drawing.wanted_mask).abs()
            found = found + self.blend * _mean(off, gate)
        return left * found


@torch.no_grad()
def better(drawing: Drawing) -> Float[Tensor, "n 1 h w"]:
    """How much better a picture is drawn with what is wanted than with plain maps, in [0, 1]."""
    mask = drawing.plain.mask if drawing.wanted_mask is None else drawing.wanted_mask
    plain, wanted = drawing.plain, Maps(drawing.wanted, mask)
    return ((_error(drawing, plain) - _error(drawing, wanted)) / MARGIN).clamp(0.0, 1.0)


def _error(drawing: Drawing, maps: Maps) -> Float[Tensor, "n 1 h w"]:
    """Mean absolute error, over a window, of a picture that is drawn on the small grid."""
    to_first, to_last = maps.flows.split(2, dim=1)
    first, last = backward_warp(drawing.first, to_first), backward_warp(drawing.last, to_last)
    error = (torch.lerp(last, first, maps.mask) - drawing.truth).abs().mean(1, keepdim=True)
    return F.avg_pool2d(error, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def _mean(error: Float[Tensor, "n c h w"], weight: Float[Tensor, "n c h w"]) -> Tensor:
    return (weight * error).sum() / (weight.sum() + _FEW)
