"""phi_s: fusion of the warped end frames with the keyframes, at reduced size.

The network never sees the full size. On the trajectory's grid (half the motion size) it reads both
end frames warped along the trajectory, the two neighbouring keyframes warped to the same instant,
the flows and their consistency, and predicts small corrections of the flows, of the blend, and of
the colours, and how much of each flow to give up where it cannot be trusted. One full-size pass
(`rdvfi.ops.render`) then draws the frame, so a larger picture costs memory bandwidth and nothing
else.

Where both warped frames agree there is nothing to correct, and corrections fade: a still picture
stays exact. They carry the envelope ``4 t (1 - t)`` and come from a last layer that starts at zero:
before training the renderer is `warp`, and at times 0 and 1 it returns the inputs whatever it has
learned.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import RDVFI_S
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Motion, Renderer
from rdvfi.layers import ResidualBlock, conv, zero_conv
from rdvfi.ops.render import render
from rdvfi.ops.warp import backward_warp, follow
from rdvfi.registry import renderers
from rdvfi.render.renderer import consistent_shares
from rdvfi.types import Flows, Image, Times, Video

_FACTS = 15
_ANSWERS = 10
_LATENT_WIDTH = 24
_AGREEMENT = 0.03
"""Difference of the warped frames, about eight 8-bit levels, that leaves half of a correction."""


class SynthesisRenderer(Renderer):
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

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """See `rdvfi.interfaces.Renderer.forward`."""
        if timesteps.numel() == 0:
            return img0.new_empty(img0.shape[0], 0, *img0.shape[1:])
        flow0, flow1 = flows = motion.trajectory.at(timesteps)
        first, last = consistent_shares(motion.trajectory, timesteps, flows)
        out = self._network(img0, img1, motion, timesteps, flow0, flow1, first / (first + last))
        t = timesteps.to(torch.float32)[None, :, None, None, None]
        out = out * (4.0 * t * (1.0 - t))
        lean = out[:, :, 4:5].exp()
        mask = first * lean / (first * lean + last / lean)
        flow0 = flow0 * (1.0 - out[:, :, 8:9]) + out[:, :, :2]
        flow1 = flow1 * (1.0 - out[:, :, 9:]) + out[:, :, 2:4]
        return render(img0, img1, flow0, flow1, mask, 0.1 * out[:, :, 5:8])

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
            backward_warp(_spread(image, t), flow.flatten(0, 1))
            for image, flow in zip(small, (flow0, flow1), strict=True)
        ]
        time = timesteps.to(flow0)[None, :, None, None, None].expand(b, t, 1, h, w)
        apart = (warped[0] - warped[1]).abs().mean(1, keepdim=True)
        facts = torch.cat(
            (
                *warped,
                apart,
                _around(apart),
                (0.05 * flow0).flatten(0, 1),
                (0.05 * flow1).flatten(0, 1),
                mask.flatten(0, 1),
                (time * (1.0 - time)).flatten(0, 1),
                (1.0 - 2.0 * time).flatten(0, 1),
            ),
            dim=1,
        )
        facts = F.pad(facts, (0, even[1] - w, 0, even[0] - h), mode="replicate")
        latents = self._neighbours(motion, timesteps, (flow0, flow1))
        latents = self.latents(latents.to(self.latents.weight)).float()
        latents = resize_image(latents, (even[0] // 2, even[1] // 2))
        x = self.enter(torch.cat((self.unshuffle(facts), latents), dim=1).to(self.latents.weight))
        x = self.fine(x)
        y = self.grow(self.coarse(self.shrink(x)))
        x = x + F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=False)
        out = self.answer(self.finish(x))[..., :h, :w].float() * _doubt(apart)
        return out.unflatten(0, (b, t))

    def _neighbours(
        self, motion: Motion, timesteps: Times, flows: tuple[Flows, Flows]
    ) -> Float[Tensor, "bt c hz wz"]:
        """Both neighbouring keyframes' latents, warped to each time: (b * t, 2c, hz, wz)."""
        keyframes = motion.keyframes
        knots = keyframes.times
        left = torch.searchsorted(knots, timesteps.to(knots), right=True).sub(1)
        left = left.clamp(0, knots.numel() - 2)
        size = (keyframes.latents.shape[-2], keyframes.latents.shape[-1])
        warped = []
        for index in (left, left + 1):
            there = motion.trajectory.at(knots[index])
            shift = follow(flows, there, timesteps.to(knots), knots[index])
            coarse = resize_flow(shift.flatten(0, 1), size)
            warped.append(backward_warp(keyframes.latents[:, index].flatten(0, 1), coarse))
        return torch.cat(warped, dim=1)


def _around(apart: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    return F.avg_pool2d(apart, 5, 1, 2, count_include_pad=False)


def _doubt(apart: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Room for corrections: none where the warped frames agree, 1 where they do not."""
    rise = _around(apart).pow(4)
    return rise / (rise + _AGREEMENT**4)


def _spread(image: Float[Tensor, "b 3 h w"], t: int) -> Float[Tensor, "bt 3 h w"]:
    b, c, h, w = image.shape
    return image[:, None].expand(b, t, c, h, w).flatten(0, 1)


@renderers.register("synthesis", about=RDVFI_S)
def synthesis(*, latent_channels: int = 16, width: int = 48) -> Renderer:
    """The learned fusion of warped frames and keyframes (the paper's phi_s).

    Args:
        latent_channels: Channels of the backbone's latents.
        width: Channels of the network at a quarter of the motion size.
    """
    return SynthesisRenderer(latent_channels, width)
