"""phi_s: fusion of the warped end frames with the keyframes, at reduced size.

The network reads both end frames warped along the trajectory, the two neighbouring keyframes warped
to the same instant, the flows and their consistency, and predicts small corrections of the flows,
of the blend, and of the colours, and how much of each flow to give up where it cannot be trusted
(`rdvfi.render.refined` says how the frame is drawn from them). The answers come from a last layer
that starts at zero: before training the renderer is `warp`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import RDVFI_S
from rdvfi.geometry import resize_image
from rdvfi.interfaces import Motion, Renderer
from rdvfi.layers import ResidualBlock, conv, zero_conv
from rdvfi.ops.warp import backward_warp
from rdvfi.registry import renderers
from rdvfi.render.refined import (
    Refined,
    RefiningRenderer,
    around,
    doubt,
    spread,
    warped_neighbours,
)
from rdvfi.render.renderer import consistent_shares
from rdvfi.types import Flows, Image, Times

_FACTS = 15
_ANSWERS = 10
_LATENT_WIDTH = 24


class SynthesisRenderer(RefiningRenderer):
    """The learned renderer.

    Args:
        latent_channels: Channels of the keyframes' latents.
        width: Channels of the network at a quarter of the motion size.
    """

    def __init__(self, latent_channels: int, width: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        wide = width + width // 2
        self.latents = nn.Conv2d(2 * latent_channels, _LATENT_WIDTH, 1)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.enter = conv(4 * _FACTS + _LATENT_WIDTH, width)
        self.fine = ResidualBlock(width)
        self.shrink = conv(width, wide, stride=2)
        self.coarse = nn.Sequential(ResidualBlock(wide), ResidualBlock(wide))
        self.grow = nn.Conv2d(wide, width, 1)
        self.finish = nn.Sequential(ResidualBlock(width), nn.SiLU())
        self.answer = nn.Sequential(zero_conv(width, 4 * _ANSWERS), nn.PixelShuffle(2))

    def refine(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Refined:
        """See `RefiningRenderer.refine`."""
        flow0, flow1 = flows = motion.trajectory.at(timesteps)
        first, last = consistent_shares(motion.trajectory, timesteps, flows)
        out = self._network(img0, img1, motion, timesteps, flow0, flow1, first / (first + last))
        t = timesteps.to(torch.float32)[None, :, None, None, None]
        out = out * (4.0 * t * (1.0 - t))
        lean = out[:, :, 4:5].exp()
        mask = first * lean / (first * lean + last / lean)
        flow0 = flow0 * (1.0 - out[:, :, 8:9]) + out[:, :, :2]
        flow1 = flow1 * (1.0 - out[:, :, 9:]) + out[:, :, 2:4]
        return Refined(flow0, flow1, mask, 0.1 * out[:, :, 5:8])

    def _network(
        self,
        img0: Image,
        img1: Image,
        motion: Motion,
        timesteps: Times,
        flow0: Flows,
        flow1: Flows,
        mask: Float[Tensor, "b t 1 h w"],
    ) -> Float[Tensor, "b t a h w"]:
        b, t, _, h, w = flow0.shape
        even = (h + h % 2, w + w % 2)
        small = [resize_image(image.float(), (h, w)) for image in (img0, img1)]
        warped = [
            backward_warp(spread(image, t), flow.flatten(0, 1))
            for image, flow in zip(small, (flow0, flow1), strict=True)
        ]
        time = timesteps.to(flow0)[None, :, None, None, None].expand(b, t, 1, h, w)
        apart = (warped[0] - warped[1]).abs().mean(1, keepdim=True)
        facts = torch.cat(
            (
                *warped,
                apart,
                around(apart),
                (0.05 * flow0).flatten(0, 1),
                (0.05 * flow1).flatten(0, 1),
                mask.flatten(0, 1),
                (time * (1.0 - time)).flatten(0, 1),
                (1.0 - 2.0 * time).flatten(0, 1),
            ),
            dim=1,
        )
        facts = F.pad(facts, (0, even[1] - w, 0, even[0] - h), mode="replicate")
        latents = warped_neighbours(motion, timesteps, (flow0, flow1))
        latents = self.latents(latents.to(self.latents.weight)).float()
        latents = resize_image(latents, (even[0] // 2, even[1] // 2))
        x = self.enter(torch.cat((self.unshuffle(facts), latents), dim=1).to(self.latents.weight))
        x = self.fine(x)
        y = self.grow(self.coarse(self.shrink(x)))
        x = x + F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=False)
        out = self.answer(self.finish(x))[..., :h, :w].float() * doubt(apart)
        return out.unflatten(0, (b, t))


@renderers.register("synthesis", about=RDVFI_S)
def synthesis(*, latent_channels: int = 16, width: int = 48) -> Renderer:
    """The learned fusion of warped frames and keyframes (the paper's phi_s).

    Args:
        latent_channels: Channels of the backbone's latents.
        width: Channels of the network at a quarter of the motion size.
    """
    return SynthesisRenderer(latent_channels, width)
