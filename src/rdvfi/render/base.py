"""What renderers share: how a frame is drawn from maps on the trajectory's small grid.

A renderer never computes at full size. For a time t it makes, on the grid of the trajectory (half the
motion size), flows F_0 and F_1 to both end frames, a mask m and a residual r, and `rdvfi.ops.render`
draws the frame

    I_t(y) = m(y) I_0(y + F_0(y)) + (1 - m(y)) I_1(y + F_1(y)) + r(y)

at full size, so that a larger picture costs memory bandwidth and nothing else. Little is lost by the
small grid: RIFE's flows and mask, reduced to it, draw the clip "bikes" as well as RIFE does at full
size (benchmarks/README.md).

The mask starts from the shares of both frames by nearness in time and by consistency: with ``c_0`` and
``c_1`` the trajectory's confidence in its flows,

    m = (1 - t) (c_0 + floor) / ((1 - t) (c_0 + floor) + t (c_1 + floor)),

so at t = 0 and t = 1 the frame is the end frame itself, whose flow is zero there.

What a learned renderer changes carries the envelope ``4 t (1 - t)``, so that at times 0 and 1 the inputs
come back whatever a network has learned, and fades where both warped frames agree: there is nothing to
correct, and a static picture stays exact.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.content.light import Light
from rdvfi.content.rest import at_rest
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Motion, Renderer, Trajectory
from rdvfi.ops import render
from rdvfi.ops.paths import follow
from rdvfi.ops.warp import backward_warp
from rdvfi.scene_decision import SceneDecision
from rdvfi.types import Flows, Image, Times, Video

_AGREEMENT = 0.03
"""Difference of the warped frames, about eight 8-bit levels, that leaves half of a correction."""


CONFIDENCE_FLOOR = 0.15
"""Confidence that even an inconsistent flow keeps: forward-backward errors are noisy themselves."""


@dataclass(frozen=True, eq=False)
class WarpInputs:
    """What frames are drawn with, on the trajectory's grid: see `rdvfi.ops.render`."""

    flow0: Flows
    flow1: Flows
    mask: Float[Tensor, "b t 1 h w"]
    residual: Float[Tensor, "b t 3 h w"]

    def faded(self, scene: SceneDecision, timesteps: Times) -> "WarpInputs":
        """What pairs of one scene are drawn with; pairs of two scenes get a cross-fade."""
        share = scene.weight.to(self.mask)[:, None, None, None, None]
        faded = (1.0 - timesteps).to(self.mask)[None, :, None, None, None]
        return WarpInputs(
            share * self.flow0,
            share * self.flow1,
            torch.lerp(faded.expand_as(self.mask), self.mask, share),
            share * self.residual,
        )

    def adapted(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> "WarpInputs":
        """The same with what stands still at rest, and the blend in the light of its time.

        Args:
            img0: First frames, as they are.
            img1: Last ones.
            motion: Of the pair; without ``content`` nothing changes.
            timesteps: Of the frames.
        """
        if motion.content is None:
            return self
        size = (self.flow0.shape[-2], self.flow0.shape[-1])
        small0, small1 = (resize_image(image.float(), size) for image in (img0, img1))
        light = motion.content.light
        first, last = (small0, small1) if light is None else light.between(small0, small1)
        moves = 1.0 - at_rest(first, last, self.flow0, self.flow1)
        still = WarpInputs(moves * self.flow0, moves * self.flow1, self.mask, moves * self.residual)
        return still if light is None else still._lit(small0, small1, light, timesteps)

    def _lit(self, small0: Image, small1: Image, light: Light, timesteps: Times) -> "WarpInputs":
        """Where the blend leans to one frame, the light of that frame is corrected by a colour."""
        b, t = self.mask.shape[:2]
        now = light.at(timesteps)
        added = now * self.residual
        pairs = ((small0, self.flow0, self.mask), (small1, self.flow1, 1.0 - self.mask))
        for (image, flow, share), end in zip(pairs, light.ends(), strict=True):
            warped = backward_warp(spread(image, t), flow.flatten(0, 1)).unflatten(0, (b, t))
            added = added + share * (now / end[:, None] - 1.0) * warped
        return replace(self, residual=added)

    def draw(self, img0: Image, img1: Image) -> Video:
        """The frames at full size."""
        return render(img0, img1, self.flow0, self.flow1, self.mask, self.residual)


def consistency_mask(
    trajectory: Trajectory, timesteps: Times, flows: tuple[Flows, Flows]
) -> Float[Tensor, "b t 1 h w"]:
    """Share of the first frame by nearness in time and by the confidence in ``flows``, in [0, 1]."""
    confidence = trajectory.confidence(timesteps, flows=flows) + CONFIDENCE_FLOOR
    t = timesteps.to(confidence)[None, :, None, None, None]
    first, last = (1.0 - t) * confidence[:, :, :1], t * confidence[:, :, 1:]
    return first / (first + last)


class RefiningRenderer(Renderer):
    """A learned renderer: `refine`, then one full-size pass."""

    @abstractmethod
    def refine(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> WarpInputs:
        """Refined flows, blend and colours at ``timesteps``, of which there is at least one."""

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """Frames at ``timesteps``, drawn from what `refine` makes of the motion."""
        if timesteps.numel() == 0:
            return img0.new_empty(img0.shape[0], 0, *img0.shape[1:])
        seen0, seen1 = _in_one_light(img0, img1, motion)
        refined = self.refine(seen0, seen1, motion, timesteps).adapted(img0, img1, motion, timesteps)
        return refined.faded(motion.scene, timesteps).draw(img0, img1)


def _in_one_light(
    img0: Image, img1: Image, motion: Motion
) -> tuple[Float[Tensor, "b 3 _ _"], Float[Tensor, "b 3 _ _"]]:
    """Both frames as a network compares them: on the trajectory's grid, in the light between."""
    if motion.content is None or motion.content.light is None:
        return img0, img1
    light = motion.content.light
    size = (light.gain.shape[-2], light.gain.shape[-1])
    first, last = (resize_image(image.float(), size) for image in (img0, img1))
    return light.between(first, last)


def _local_mean(difference: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Mean over a small window."""
    return F.avg_pool2d(difference, 5, 1, 2, count_include_pad=False)


def uncertainty(difference: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """How much a learned renderer may correct: 0 where the warped frames agree, 1 where they do not.

    Args:
        difference: Mean absolute difference of the warped frames.
    """
    rise = _local_mean(difference).pow(4)
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
    index = torch.cat((left, left + 1))  # both neighbours of all times at once
    there = motion.trajectory.at(knots[index])
    here = torch.cat((flows[0], flows[0]), dim=1), torch.cat((flows[1], flows[1]), dim=1)
    shift = follow(here, there, timesteps.to(knots).repeat(2), knots[index])
    coarse = resize_flow(shift.flatten(0, 1), size)
    warped = backward_warp(keyframes.latents[:, index].flatten(0, 1), coarse)
    both, t = warped.unflatten(0, (len(keyframes.latents), -1)), timesteps.numel()
    return torch.cat((both[:, :t], both[:, t:]), dim=2).flatten(0, 1)
