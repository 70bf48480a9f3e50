"""Renderers without a network: `warp`, and the cross-fade baseline `blend`.

`warp` draws both end frames along the trajectory and blends them by nearness in time and by
consistency: with ``c`` the trajectory's confidence in the flow to an end, its share is

    (1 - t) (c_0 + floor)  :  t (c_1 + floor).

So at t = 0 and t = 1 the blend is the end frame itself, and its flow is zero there.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import FlowGrid, Motion, Renderer, Trajectory
from rdvfi.ops.render import render
from rdvfi.registry import renderers
from rdvfi.types import Flows, Image, Times, Video

CONFIDENCE_FLOOR = 0.15
"""Share of trust that even an inconsistent flow keeps: two-way errors are noisy themselves."""


def consistent_shares(
    trajectory: Trajectory, timesteps: Times, flows: tuple[Flows, Flows]
) -> tuple[Float[Tensor, "b t 1 h w"], Float[Tensor, "b t 1 h w"]]:
    """Unnormalised shares of the first and of the last frame in the blend."""
    trust = trajectory.confidence(timesteps, flows=flows) + CONFIDENCE_FLOOR
    t = timesteps.to(trust)[None, :, None, None, None]
    return (1.0 - t) * trust[:, :, :1], t * trust[:, :, 1:]


class WarpRenderer(Renderer):
    """Both warped frames, weighted by time and consistency."""

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """See `rdvfi.interfaces.Renderer.forward`."""
        flow0, flow1 = flows = motion.trajectory.at(timesteps)
        first, last = consistent_shares(motion.trajectory, timesteps, flows)
        residual = torch.zeros_like(flow0[:, :, :1]).expand(-1, -1, 3, -1, -1)
        return render(img0, img1, flow0, flow1, first / (first + last), residual)


class BlendRenderer(Renderer):
    """Cross-fade: no motion at all. A baseline."""

    grids = frozenset({FlowGrid.TARGET, FlowGrid.SOURCE})

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """See `rdvfi.interfaces.Renderer.forward`."""
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
