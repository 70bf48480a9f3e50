"""Distillation of flows and blending masks of a teacher into phi_s.

The true motion of a point is not always the flow that gives the best frame, and photometric gradients
with respect to flow are local: they reach a pixel or two. The intermediate flows and mask of another interpolation
model are direct targets, and so is exact flow where it is known. This is the privileged
distillation of RIFE (Huang et al., 2022, https://arxiv.org/abs/2011.06294), with a pretrained teacher
instead of a branch that reads the true frame.

Targets are used only where they give a lower photometric error than the trajectory's own maps, on the
small grid and averaged over a window, so wrong targets have no effect.
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
    """Difference of the refined flows and mask of phi_s to those of a teacher, or to exact flow.

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
        self, *, flow: float = 0.1, blend: float = 0.5, exact: float = 0.05, reach: float = 20.0, until: float = 0.8
    ) -> None:
        super().__init__()
        if not 0 < until <= 1:
            raise ValueError(f"until must be in (0, 1]; got {until}")
        self.flow, self.blend, self.exact = flow, blend, exact
        self.reach, self.until = reach, until

    def forward(self, evidence: Evidence) -> Tensor:
        """Weighted means of the robust distances, times the factor that decreases during training."""
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
    """Weight of the targets, in [0, 1]: how much lower their photometric error is than that of the plain maps."""
    mask = drawing.plain.mask if drawing.wanted_mask is None else drawing.wanted_mask
    plain, wanted = drawing.plain, Maps(drawing.wanted, mask)
    return ((_error(drawing, plain) - _error(drawing, wanted)) / MARGIN).clamp(0.0, 1.0)


def _error(drawing: Drawing, maps: Maps) -> Float[Tensor, "n 1 h w"]:
    """Mean absolute error over a window of a frame drawn on the small grid."""
    to_first, to_last = maps.flows.split(2, dim=1)
    first, last = backward_warp(drawing.first, to_first), backward_warp(drawing.last, to_last)
    error = (torch.lerp(last, first, maps.mask) - drawing.truth).abs().mean(1, keepdim=True)
    return F.avg_pool2d(error, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def _mean(error: Float[Tensor, "n c h w"], weight: Float[Tensor, "n c h w"]) -> Tensor:
    return (weight * error).sum() / (weight.sum() + _FEW)
