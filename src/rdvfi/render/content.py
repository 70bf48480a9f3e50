"""Drawing by what was found in a pair beyond motion (`rdvfi.content`), with any renderer.

Bars are covered by the picture and overlays lifted off before frames are drawn; afterwards overlays
are laid back, and bars and static pixels restored. Light and rest belong to the maps that frames are drawn with:
`rdvfi.render.base.WarpInputs.adapted`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from rdvfi.content import Content, Overlay
from rdvfi.interfaces import Motion, Renderer, Trajectory
from rdvfi.ops.occlusion import pull_push
from rdvfi.types import Flows, Image, Times, Video


class BackgroundTrajectory(Trajectory):
    """A trajectory whose flows under an overlay are those of the surroundings.

    Args:
        trajectory: Of the whole picture, on a TARGET grid.
        overlay: What stands still in front of it.
    """

    def __init__(self, trajectory: Trajectory, overlay: Overlay) -> None:
        self.trajectory, self.overlay, self.grid = trajectory, overlay, trajectory.grid

    def at(self, times: Times) -> tuple[Flows, Flows]:
        """See `rdvfi.interfaces.Trajectory.at`."""
        flows = torch.cat(self.trajectory.at(times), dim=2)
        b, t, _, h, w = flows.shape
        beside = 1.0 - self.overlay.flow_mask((h, w))[:, None].expand(b, t, 1, h, w).flatten(0, 1)
        flat = flows.flatten(0, 1)
        continued = torch.where(beside > 0.5, flat, pull_push(flat, beside)).unflatten(0, (b, t))
        return continued[:, :, :2], continued[:, :, 2:]


def draw(renderer: Renderer, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
    """Frames at ``timesteps``, drawn by ``renderer``; see `rdvfi.interfaces.Renderer.forward`."""
    content = motion.content
    if content is None:
        return renderer(img0, img1, motion, timesteps)
    inside0, inside1 = content.bars.filled(img0), content.bars.filled(img1)
    frames = _without_bars(renderer, inside0, inside1, motion, content, timesteps)
    return content.restored(frames, img0, img1, timesteps)


def _without_bars(
    renderer: Renderer, img0: Tensor, img1: Tensor, motion: Motion, content: Content, timesteps: Times
) -> Video:
    if content.overlay is None:
        return renderer(img0, img1, motion, timesteps)
    lifted = content.overlay.lifted(img0, img1)
    background = replace(motion, trajectory=BackgroundTrajectory(motion.trajectory, content.overlay))
    return lifted.laid_back(renderer(lifted.img0, lifted.img1, background, timesteps), img0, img1, timesteps)
