"""Drawing a pair by its content (`rdvfi.content`), with any renderer.

Before frames are drawn, bars are filled and overlays removed; afterwards overlays and bars are restored, and
static pixels copied from the input. Illumination and static regions concern the maps that frames are drawn with:
`rdvfi.render.base.WarpInputs.adapt`.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rdvfi.content import Content, Overlay
from rdvfi.geometry import replicate_pad
from rdvfi.interfaces import Motion, Renderer, Trajectory
from rdvfi.ops.compositing import restore_overlay_and_bars
from rdvfi.ops.occlusion import pull_push
from rdvfi.types import Flow, Flows, Image, Times, Video


class BackgroundTrajectory(Trajectory):
    """A trajectory whose flows under an overlay are continued from the surroundings.

    Args:
        trajectory: Trajectory of the frames with the overlay, on a TARGET grid.
        overlay: Static foreground.
    """

    def __init__(self, trajectory: Trajectory, overlay: Overlay) -> None:
        self.trajectory, self.overlay, self.grid = trajectory, overlay, trajectory.grid
        self._beside: Tensor | None = None

    def at(self, times: Times) -> tuple[Flows, Flows]:
        return self._continue_under_overlay(self.trajectory.at(times))

    def at_knots(self, knots: Float[Tensor, " k"], index: Int64[Tensor, " t"]) -> tuple[Flows, Flows]:
        return self._continue_under_overlay(self.trajectory.at_knots(knots, index))

    def across(self, like: Times) -> tuple[Flow, Flow]:
        onward, back = self.trajectory.across(like)
        onward, back = self._continue_under_overlay((onward[:, None], back[:, None]))
        return onward[:, 0], back[:, 0]

    def _continue_under_overlay(self, flows: tuple[Flows, Flows]) -> tuple[Flows, Flows]:
        joined = torch.cat(flows, dim=2)
        b, t, _, h, w = joined.shape
        if self._beside is None:
            self._beside = 1.0 - self.overlay.flow_mask((h, w))
        beside = self._beside[:, None].expand(b, t, 1, h, w).flatten(0, 1)
        joined = pull_push(joined.flatten(0, 1), beside).unflatten(0, (b, t))
        return joined[:, :, :2], joined[:, :, 2:]


def draw(renderer: Renderer, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
    """Frames at ``timesteps``, drawn by ``renderer``; see `rdvfi.interfaces.Renderer.forward`."""
    content = motion.content
    if content is None:
        return renderer(img0, img1, motion, timesteps)
    first, last, lifted = without_foreground(content, img0, img1)
    frames = renderer(first, last, background_motion(motion), timesteps)
    return composite(content, frames, img0, img1, timesteps, lifted)


def without_foreground(content: Content, img0: Image, img1: Image) -> tuple[Image, Image, list[Tensor]]:
    """Both frames with bars filled and the overlay removed, and what `rdvfi.ops.compositing.remove_overlay` returned.

    The list is empty without an overlay.
    """
    first, last = content.bars.fill(img0), content.bars.fill(img1)
    if content.overlay is None:
        return first, last, []
    lifted = content.overlay.remove_from(first, last)
    return lifted[0], lifted[1], lifted


def background_motion(motion: Motion) -> Motion:
    """The motion without that of the overlay, if there is one."""
    if motion.content is None or motion.content.overlay is None:
        return motion
    return replace(motion, trajectory=BackgroundTrajectory(motion.trajectory, motion.content.overlay))


def composite(
    content: Content, frames: Video, img0: Image, img1: Image, timesteps: Times, lifted: list[Tensor]
) -> Video:
    """Frames, padded or not, with the overlay, bars and static pixels of the input frames."""
    edges = content.bars.edges()
    if lifted or edges:
        frames = restore_overlay_and_bars(frames, img0, img1, timesteps, lifted, edges)
    if content.static is None:
        return frames
    keep = replicate_pad(content.static.to(frames), (frames.shape[-2], frames.shape[-1])) > 0.5
    nearer = torch.where((timesteps > 0.5)[None, :, None, None, None], img1[:, None], img0[:, None])
    return torch.where(keep[:, None], nearer, frames)
