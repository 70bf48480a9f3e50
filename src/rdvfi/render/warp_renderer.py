"""Renderers without a network: `warp`, and the cross-fade baseline `blend`.

`warp` draws both end frames along the trajectory with the mask of `rdvfi.render.base` and no residual.
"""

import torch

from rdvfi.interfaces import FlowGrid, Motion, Renderer
from rdvfi.registry import renderers
from rdvfi.render.base import WarpingRenderer, WarpInputs, consistency_mask
from rdvfi.types import Image, Times, Video


class WarpRenderer(WarpingRenderer):
    """Both warped frames, weighted by time and consistency."""

    def maps(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> WarpInputs:
        """The trajectory's flows, the mask and no residual."""
        flow0, flow1 = flows = motion.trajectory.at(timesteps)
        mask = consistency_mask(motion.trajectory, timesteps, flows)
        residual = torch.zeros_like(flow0[:, :, :1]).expand(-1, -1, 3, -1, -1)
        return WarpInputs(flow0, flow1, mask, residual).adapt(img0, img1, motion, timesteps)


class BlendRenderer(Renderer):
    """Cross-fade: no motion at all. A baseline."""

    grids = frozenset({FlowGrid.TARGET, FlowGrid.SOURCE})
    follows_motion = False

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """Frames at ``timesteps``, mixtures of both ends."""
        t = timesteps.to(torch.float32)[None, :, None, None, None]
        return torch.lerp(img0.float()[:, None], img1.float()[:, None], t).to(img0.dtype)


@renderers.register("warp")
def warp() -> Renderer:
    """Both warped frames, weighted by time and consistency; no network."""
    return WarpRenderer()


@renderers.register("blend")
def blend() -> Renderer:
    """Cross-fade of the two frames: the baseline without motion."""
    return BlendRenderer()
