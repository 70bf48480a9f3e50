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
from rdvfi.training.losses.evidence import Evidence, Loss, MapSupervision, Needs, WarpMaps, losses

WINDOW = 7
"""Side in pixels of the small grid of the windows over which photometric errors are averaged."""
FULL_WEIGHT_MARGIN = 0.02
"""Difference of the errors, about five 8-bit levels, from which a target has full weight."""
FINAL_WEIGHT = 0.1
"""Weight at the end of training, relative to that at its beginning."""
_REGULARISING_PIXELS = 100.0
"""Added to the total weight of a batch, so that a few pixels cannot dominate a step."""
_SMOOTHED_ERROR = 0.1
"""End-point errors below this, in pixels, count quadratically."""


@losses.register("imitation")
class ImitationLoss(Loss):
    """Difference of the refined flows and mask of phi_s to those of a teacher, or to exact flow.

    Args:
        flow: Weight of a teacher's flows.
        blend: Weight of its blending mask.
        exact: Weight of exact flow, which has no mask and counts where a point is visible.
        reach: Upper bound of the end-point error, in pixels of the small grid.
        until: Fraction of training over which the weight falls linearly to a tenth.
    """

    needs = Needs.MAPS

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
        maps = evidence.maps
        assert maps is not None
        decay = max(FINAL_WEIGHT, 1.0 - evidence.progress / self.until)
        weight = target_weight(maps)
        flow_weight, scale = weight.expand(-1, 2, -1, -1), self.flow
        if maps.visible is not None:
            flow_weight, scale = flow_weight * maps.visible, self.exact
        squared = (maps.refined.flows - maps.target_flows).unflatten(1, (2, 2)).square().sum(2)
        error = ((squared + _SMOOTHED_ERROR**2).sqrt() - _SMOOTHED_ERROR).clamp(max=self.reach)
        total = scale * _weighted_mean(error, flow_weight)
        if maps.target_mask is not None:
            mask_error = (maps.refined.mask - maps.target_mask).abs()
            total = total + self.blend * _weighted_mean(mask_error, weight)
        return decay * total


@torch.no_grad()
def target_weight(maps: MapSupervision) -> Float[Tensor, "n 1 h w"]:
    """Weight of the targets in [0, 1]: how much lower their photometric error is than that of the initial maps."""
    mask = maps.initial.mask if maps.target_mask is None else maps.target_mask
    targets = WarpMaps(maps.target_flows, mask)
    gain = _photometric_error(maps, maps.initial) - _photometric_error(maps, targets)
    return (gain / FULL_WEIGHT_MARGIN).clamp(0.0, 1.0)


def _photometric_error(maps: MapSupervision, tested: WarpMaps) -> Float[Tensor, "n 1 h w"]:
    """Windowed mean absolute error of the frame that is rendered on the small grid with the tested maps."""
    to_first, to_last = tested.flows.split(2, dim=1)
    first, last = backward_warp(maps.first, to_first), backward_warp(maps.last, to_last)
    error = (torch.lerp(last, first, tested.mask) - maps.frame).abs().mean(1, keepdim=True)
    return F.avg_pool2d(error, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def _weighted_mean(error: Float[Tensor, "n c h w"], weight: Float[Tensor, "n c h w"]) -> Tensor:
    return (weight * error).sum() / (weight.sum() + _REGULARISING_PIXELS)
