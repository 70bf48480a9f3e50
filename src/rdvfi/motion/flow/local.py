"""phi_1: small motion between neighbouring keyframes, from their latents.

Keyframes are close in time, so their motion is a few latent pixels: a local cost volume of learned
features covers it. Two updates refine it, the second on features warped by the first. All pairs
and both directions go through in one batch. Starts at zero flow.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import RDVFI_S1
from rdvfi.interfaces import Count, FlowEstimator, Reads
from rdvfi.layers import ResidualBlock, conv, zero_conv
from rdvfi.ops import backward_warp, correlation
from rdvfi.registry import flows

MATCHED = 16
"""Channels of the features that are compared."""


class LocalFlow(FlowEstimator):
    """Local matching of latents.

    Args:
        latent_channels: Channels of the latents.
        width: Channels of the network.
        radius: Reach of the cost volume, in latent pixels.
    """

    reads = Reads.LATENTS

    def __init__(self, latent_channels: int, width: int, radius: int) -> None:
        super().__init__()
        self.radius, self.latent_channels = radius, latent_channels
        self.features = nn.Sequential(conv(latent_channels, width), ResidualBlock(width), nn.Conv2d(width, MATCHED, 1))
        inputs = (2 * radius + 1) ** 2 + MATCHED + 2
        self.updates = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 1), ResidualBlock(width), zero_conv(width, 2)) for _ in range(2)
        )

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        n = source.shape[0]
        near, far = self.features(torch.cat((source, target))).split(n)
        flow = torch.zeros_like(source[:, :2], dtype=torch.float32)
        for update in self.updates:
            scores = correlation(near, backward_warp(far, flow), self.radius)
            flow = flow + update(torch.cat((scores, near, flow.to(near)), dim=1)).float()
        return flow


@flows.register("local", about=RDVFI_S1)
def local(*, latent_channels: int = 16, width: int = 32, radius: Count = 3) -> FlowEstimator:
    """Learned local matching of latents (the paper's phi_1).

    Args:
        latent_channels: Channels of the backbone's latents.
        width: Channels of the network.
        radius: Reach of the cost volume, in latent pixels.
    """
    return LocalFlow(latent_channels, width, radius)
