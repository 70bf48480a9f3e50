"""Renderers without a network: `warp`, and the cross-fade baseline `blend`.

`warp` draws both end frames along the trajectory and blends them by nearness in time and by
consistency: with ``c`` the trajectory's confidence in the flow to an end, its share is

    (1 - t) (c_0 + floor)  :  t (c_1 + floor).

So at t = 0 and t = 1 the blend is the end frame itself, and its flow is zero there.

Whether a pair is of one scene was decided when its motion was estimated (`Motion.scene`). For a pair
of two scenes the motion fades out, and what is left is the cross-fade (`WarpInputs.faded`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import FlowGrid, Motion, Renderer, Trajectory
from rdvfi.ops import render
from rdvfi.registry import renderers
from rdvfi.scene_decision import SceneDecision
from rdvfi.types import Flows, Image, Times, Video

CONFIDENCE_FLOOR = 0.15
"""Share of trust that even an inconsistent flow keeps: two-way errors are noisy themselves."""


@dataclass(frozen=True, eq=False)
class WarpInputs:
    """What frames are drawn with, on the trajectory's grid: see `rdvfi.ops.render`."""

    flow0: Flows
    flow1: Flows
    mask: Float[Tensor, "b t 1 h w"]
    residual: Float[Tensor, "b t 3 h w"]

    def faded(self, scene: SceneDecision, timesteps: Times) -> "WarpInputs":
        """The same for pairs of one scene; those of a cross-fade for pairs of two."""
        share = scene.weight.to(self.mask)[:, None, None, None, None]
        faded = (1.0 - timesteps).to(self.mask)[None, :, None, None, None]
        return WarpInputs(
            share * self.flow0,
            share * self.flow1,
            torch.lerp(faded.expand_as(self.mask), self.mask, share),
            share * self.residual,
        )

    def draw(self, img0: Image, img1: Image) -> Video:
        """The frames at full size."""
        return render(img0, img1, self.flow0, self.flow1, self.mask, self.residual)


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
        inputs = WarpInputs(flow0, flow1, first / (first + last), residual)
        return inputs.faded(motion.scene, timesteps).draw(img0, img1)


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
