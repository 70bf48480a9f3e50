"""Horn and Schunck's flow (1981), coarse to fine.

It minimises ``|I_x u + I_y v + I_t|^2 + alpha^2 (|grad u|^2 + |grad v|^2)``: brightness is constant,
and flow is smooth. On each level of a pyramid the target is warped by the current flow, the first
term is linearised there, and fixed-point iterations solve for the new flow.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi import FlowEstimator, Reads, flows
from rdvfi.about import About
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.ops import backward_warp

_MIN_SIDE = 16


class HornSchunck(FlowEstimator):
    """Variational flow on the luma of images.

    Args:
        smoothness: Weight alpha of the smoothness, in units of 8-bit grey levels.
        warps: Linearisations per level.
        iterations: Fixed-point steps per linearisation.
    """

    reads = Reads.PIXELS

    def __init__(self, smoothness: float, warps: int, iterations: int) -> None:
        super().__init__()
        if smoothness <= 0.0:
            raise ValueError(f"smoothness must be positive; got {smoothness}")
        self.smoothness, self.warps, self.iterations = smoothness, warps, iterations

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """See `rdvfi.interfaces.FlowEstimator.forward`."""
        weights = source.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32)[:, None, None]
        source_luma, target_luma = (255.0 * (x.float() * weights).sum(1, keepdim=True) for x in (source, target))
        sizes = [(source_luma.shape[-2], source_luma.shape[-1])]
        while min(sizes[-1]) >= 2 * _MIN_SIDE:
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        flow = source_luma.new_zeros(source_luma.shape[0], 2, *sizes[-1])
        for size in reversed(sizes):
            flow = resize_flow(flow, size)
            flow = self._refine_level(resize_image(source_luma, size), resize_image(target_luma, size), flow)
        return flow

    def _refine_level(self, source_luma: Tensor, target_luma: Tensor, flow: Tensor) -> Float[Tensor, "n 2 h w"]:
        for _ in range(self.warps):
            warped = backward_warp(target_luma, flow)
            gy, gx = torch.gradient(0.5 * (source_luma + warped), dim=(-2, -1))
            gradient = torch.cat((gx, gy), dim=1)
            # Difference at zero flow, by the linearisation.
            difference = warped - source_luma - (gradient * flow).sum(1, keepdim=True)
            scale = self.smoothness**2 + gradient.square().sum(1, keepdim=True)
            for _ in range(self.iterations):
                mean = _neighbour_mean(flow)
                error = (gradient * mean).sum(1, keepdim=True) + difference
                flow = mean - gradient * error / scale
        return flow


def _neighbour_mean(flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 2 h w"]:
    """Weighted mean of the eight neighbours; diagonal ones have half the weight (Horn and Schunck, 1981)."""
    kernel = flow.new_tensor([[1.0, 2.0, 1.0], [2.0, 0.0, 2.0], [1.0, 2.0, 1.0]]) / 12.0
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel.expand(2, 1, 3, 3), groups=2)


@flows.register(
    "horn-schunck",
    about=About(citation="B. Horn, B. Schunck: Determining Optical Flow. 1981"),
)
def horn_schunck(*, smoothness: float = 16.0, warps: int = 4, iterations: int = 40) -> FlowEstimator:
    """Horn and Schunck's variational flow, coarse to fine; reads pixels, needs no training.

    Args:
        smoothness: Weight of the smoothness, in 8-bit grey levels.
        warps: Linearisations per level.
        iterations: Fixed-point steps per linearisation.
    """
    return HornSchunck(smoothness, warps, iterations)
