"""Plausible inputs for checks: smooth textures, keyframes of a smooth motion, and that motion.

The checks of `rdvfi.testing` use them; your own tests can, too.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import FlowGrid, Keyframes, Motion, MotionPrior, Trajectory
from rdvfi.types import Flows, Times


@dataclass(frozen=True, eq=False)
class SmoothTrajectory(Trajectory):
    """A smooth curved motion; both flows are zero at their own end."""

    straight: Float[Tensor, "b 2 h w"]
    curve: Float[Tensor, "b 2 h w"]
    grid: FlowGrid = FlowGrid.TARGET

    def at(self, times: Times) -> tuple[Flows, Flows]:
        t = times.float()[None, :, None, None, None]
        curve = t * (1 - t) * self.curve[:, None]
        return curve - t * self.straight[:, None], curve + (1 - t) * self.straight[:, None]


def smooth_noise(b: int, c: int, h: int, w: int, *, seed: int) -> Float[Tensor, "b c h w"]:
    """Smooth random fields of about unit variance."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(b, c, h // 8 + 3, w // 8 + 3, generator=generator)
    return F.interpolate(coarse, (h, w), mode="bicubic", align_corners=False)


def some_keyframes(
    size: tuple[int, int], *, batch: int = 2, count: int = 9, channels: int = 16, stride: int = 8, images: bool = False
) -> Keyframes:
    """Plausible keyframes of a smooth motion between two textures, with end-to-end flows."""
    h, w = size
    times = torch.linspace(0, 1, count)
    share = times[None, :, None, None, None]

    def between(c: int, rows: int, columns: int, seed: int) -> Tensor:
        ends = [smooth_noise(batch, c, rows, columns, seed=seed + i)[:, None] for i in (0, 1)]
        return (1 - share) * ends[0] + share * ends[1]

    pixels = between(3, h, w, 20).sigmoid() if images else None
    ends = torch.stack([3 * smooth_noise(batch, 2, h, w, seed=seed) for seed in (12, 13)], dim=1)
    return Keyframes(between(channels, h // stride, w // stride, 10), times, pixels, MotionPrior(ends))


def some_motion(
    size: tuple[int, int],
    *,
    flow_size: tuple[int, ...] | None = None,
    batch: int = 2,
    channels: int = 16,
    stride: int = 8,
    grid: FlowGrid = FlowGrid.TARGET,
    same_scene: bool = True,
) -> Motion:
    """A smooth curved motion of up to a tenth of the image, with flows at ``flow_size``."""
    h, w = size if flow_size is None else flow_size
    straight, curve = (0.03 * w * smooth_noise(batch, 2, h, w, seed=seed) for seed in (4, 5))
    keyframes = some_keyframes(size, batch=batch, channels=channels, stride=stride)
    return Motion.of(keyframes, SmoothTrajectory(straight, curve, grid), same_scene=same_scene)
