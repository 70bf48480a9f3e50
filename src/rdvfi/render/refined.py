"""What learned renderers share: small maps are refined, one full-size pass draws the frame.

A learned renderer never sees the full size. On the trajectory's grid (half the motion size) it
makes flows, a blend and colours to add, and `rdvfi.ops.render` draws with them, so that a larger
picture costs memory bandwidth and nothing else. Little is lost by the small grid: RIFE's flows and
blend, found at motion size and reduced to it, draw the clip "bikes" as well as RIFE does at full
size (benchmarks/README.md).

Corrections carry the envelope ``4 t (1 - t)``, so that at times 0 and 1 the inputs come back
whatever a network has learned, and fade where both warped frames agree: there is nothing to
correct, and a still picture stays exact.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Motion, Renderer
from rdvfi.ops.warp import backward_warp, follow
from rdvfi.render.renderer import WarpInputs
from rdvfi.types import Flows, Image, Times, Video

_AGREEMENT = 0.03
"""Difference of the warped frames, about eight 8-bit levels, that leaves half of a correction."""


class RefiningRenderer(Renderer):
    """A learned renderer: `refine`, then one full-size pass."""

    @abstractmethod
    def refine(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> WarpInputs:
        """Refined flows, blend and colours at ``timesteps``, of which there is at least one."""

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """See `rdvfi.interfaces.Renderer.forward`."""
        if timesteps.numel() == 0:
            return img0.new_empty(img0.shape[0], 0, *img0.shape[1:])
        refined = self.refine(img0, img1, motion, timesteps)
        return refined.faded(motion.scene, timesteps).draw(img0, img1)


def _around(apart: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Mean over a small window."""
    return F.avg_pool2d(apart, 5, 1, 2, count_include_pad=False)


def doubt(apart: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Room for corrections: none where the warped frames agree, 1 where they do not.

    Args:
        apart: Mean absolute difference of the warped frames.
    """
    rise = _around(apart).pow(4)
    return rise / (rise + _AGREEMENT**4)


def spread(image: Float[Tensor, "b 3 h w"], t: int) -> Float[Tensor, "bt 3 h w"]:
    """The image of each pair, once per time."""
    b, c, h, w = image.shape
    return image[:, None].expand(b, t, c, h, w).flatten(0, 1)


def warped_neighbours(motion: Motion, timesteps: Times, flows: tuple[Flows, Flows]) -> Float[Tensor, "bt c hz wz"]:
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
