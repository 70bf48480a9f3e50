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
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.content.light import Light
from rdvfi.content.rest import SLACK, SLOW, WINDOW, at_rest
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Motion, Renderer, Trajectory
from rdvfi.ops import render
from rdvfi.ops.inference import operator
from rdvfi.ops.paths import follow
from rdvfi.ops.refinement import each_time
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flows, Image, Times, Video

CONFIDENCE_FLOOR = 0.15
"""Confidence that even an inconsistent flow keeps: forward-backward errors are noisy themselves."""


@dataclass(frozen=True, eq=False)
class WarpInputs:
    """What frames are drawn with, on the trajectory's grid: see `rdvfi.ops.render`."""

    flow0: Flows
    flow1: Flows
    mask: Float[Tensor, "b t 1 h w"]
    residual: Float[Tensor, "b t 3 h w"]

    def adapted(
        self, img0: Image, img1: Image, motion: Motion, timesteps: Times, small: tuple[Tensor, Tensor] | None = None
    ) -> "WarpInputs":
        """What frames are drawn with by what the pair shows: at rest, in the light of its time, or a cross-fade.

        Args:
            img0: First frames, as they are.
            img1: Last ones.
            motion: Of the pair; without ``content`` only its scene counts.
            timesteps: Of the frames.
            small: Both frames on this grid, if they are there already.
        """
        maps = (self.flow0, self.flow1, self.mask, self.residual)
        if motion.content is None:
            return WarpInputs(*_faded(*maps, timesteps, motion.scene.weight))
        light = motion.content.light
        small0, small1 = small or _on_grid(img0, img1, self.flow0)
        gain = None if light is None else light.gain
        joined = adapted_maps(small0, small1, gain, *maps, timesteps, motion.scene.weight)
        return WarpInputs(*joined.split((2, 2, 1, 3), dim=2))

    def draw(self, img0: Image, img1: Image) -> Video:
        """The frames at full size."""
        return render(img0, img1, self.flow0, self.flow1, self.mask, self.residual)


def consistency_mask(
    trajectory: Trajectory, timesteps: Times, flows: tuple[Flows, Flows]
) -> Float[Tensor, "b t 1 h w"]:
    """Share of the first frame by nearness in time and by the confidence in ``flows``, in [0, 1]."""
    return blend_shares(trajectory.confidence(timesteps, flows=flows), timesteps, CONFIDENCE_FLOOR)


@operator("adaptation")
def blend_shares(confidence: Tensor, times: Tensor, floor: float) -> Tensor:
    """Share of the first frame by the confidence in both flows, (b, t, 2, h, w), and nearness in time."""
    confidence = confidence + floor
    t = times.to(confidence)[None, :, None, None, None]
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
        small, content = None, motion.content
        seen = img0, img1
        if content is not None and content.light is not None:  # as a network compares them: in one light
            small = _on_grid(img0, img1, content.light.gain)
            seen = content.light.between(*small)
        refined = self.refine(*seen, motion, timesteps)
        return refined.adapted(img0, img1, motion, timesteps, small).draw(img0, img1)


def _on_grid(img0: Image, img1: Image, like: Tensor) -> tuple[Tensor, Tensor]:
    """Both frames at the size of a map."""
    size = (like.shape[-2], like.shape[-1])
    return resize_image(img0.float(), size), resize_image(img1.float(), size)


@operator("adaptation", launches=3, settings={"slow": SLOW, "slack": SLACK, "window": WINDOW})
def adapted_maps(
    small0: Tensor,
    small1: Tensor,
    gain: Tensor | None,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    times: Tensor,
    weight: Tensor,
) -> Tensor:
    """The maps of `WarpInputs` side by side, (b, t, 8, h, w), adapted to a pair.

    Where nothing moves flows are zero (`rdvfi.content.rest`); where the blend leans to one frame, the light of
    that frame is corrected by a colour (`rdvfi.content.light`); pairs of two scenes get a cross-fade.

    Args:
        small0: First frames on this grid, (b, 3, h, w).
        small1: Last ones.
        gain: The change of light, (b, 1, h, w); None if there is none.
        flow0: As in `WarpInputs`.
        flow1: The same.
        mask: The same.
        residual: The same.
        times: Of the frames, (t,).
        weight: Share of the motion in what is drawn, (b,).
    """
    light = None if gain is None else Light(gain)
    first, last = (small0, small1) if light is None else light.between(small0, small1)
    moves = 1.0 - at_rest(first, last, flow0, flow1)
    flow0, flow1, residual = moves * flow0, moves * flow1, moves * residual
    if light is not None:
        residual = _lit(light, small0, small1, flow0, flow1, mask, residual, times)
    return torch.cat(_faded(flow0, flow1, mask, residual, times, weight), dim=2)


def _faded(
    flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor, times: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    share = weight.to(mask)[:, None, None, None, None]
    plain = (1.0 - times).to(mask)[None, :, None, None, None]
    return share * flow0, share * flow1, torch.lerp(plain.expand_as(mask), mask, share), share * residual


def _lit(
    light: Light,
    small0: Tensor,
    small1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    times: Tensor,
) -> Tensor:
    b, t = mask.shape[:2]
    now = light.at(times)
    added = now * residual
    pairs = ((small0, flow0, mask), (small1, flow1, 1.0 - mask))
    for (image, flow, share), end in zip(pairs, light.ends(), strict=True):
        warped = backward_warp(each_time(image, t), flow.flatten(0, 1)).unflatten(0, (b, t))
        added = added + share * (now / end[:, None] - 1.0) * warped
    return added


def warped_neighbours(motion: Motion, timesteps: Times, flows: tuple[Flows, Flows]) -> Float[Tensor, "bt c hz wz"]:
    """Both neighbouring keyframes' latents, warped to each time: (b * t, 2c, hz, wz)."""
    keyframes = motion.keyframes
    knots = keyframes.times
    left = torch.searchsorted(knots, timesteps.to(knots), right=True).sub(1)
    left = left.clamp(0, knots.numel() - 2)
    size = (keyframes.latents.shape[-2], keyframes.latents.shape[-1])
    index = torch.cat((left, left + 1))  # both neighbours of all times at once
    there = motion.trajectory.at_knots(knots, index)
    here = torch.cat((flows[0], flows[0]), dim=1), torch.cat((flows[1], flows[1]), dim=1)
    shift = follow(here, there, timesteps.to(knots).repeat(2), knots[index])
    coarse = resize_flow(shift.flatten(0, 1), size)
    warped = backward_warp(keyframes.latents[:, index].flatten(0, 1), coarse)
    both, t = warped.unflatten(0, (len(keyframes.latents), -1)), timesteps.numel()
    return torch.cat((both[:, :t], both[:, t:]), dim=2).flatten(0, 1)
