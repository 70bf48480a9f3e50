"""Shared parts of the renderers: drawing a frame from maps on the trajectory's small grid.

The networks of a renderer never run at full size. For a time t a renderer computes, on the grid of the trajectory (half
the motion size), flows F_0 and F_1 to both end frames, a blending mask m and a colour residual r. `rdvfi.ops.render`
upsamples them and draws the frame

    I_t(y) = m(y) I_0(y + F_0(y)) + (1 - m(y)) I_1(y + F_1(y)) + r(y)

at full size, so a larger image costs memory bandwidth only. The small grid loses little: RIFE's flows and mask, reduced
to it, give the same quality on the clip "bikes" as RIFE at full size (benchmarks/README.md).

The mask is initialised from the distance in time and the forward-backward consistency: with ``c_0`` and ``c_1`` the
trajectory's confidence in its flows,

    m = (1 - t) (c_0 + floor) / ((1 - t) (c_0 + floor) + t (c_1 + floor)),

so at t = 0 and t = 1 the frame is the end frame itself, whose flow is zero there.

Every correction by a learned renderer is multiplied by the envelope ``4 t (1 - t)``, so times 0 and 1 return the inputs
whatever a network has learned. It is also attenuated where both warped frames agree, so that a static scene stays
exact.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.content.illumination import IlluminationChange
from rdvfi.content.static_regions import SLACK, SLOW, WINDOW, static_mask
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Motion, Renderer, Trajectory
from rdvfi.ops import render
from rdvfi.ops.inference import operator
from rdvfi.ops.paths import follow
from rdvfi.ops.refinement import repeat_per_time
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flows, Image, Times, Video

CONFIDENCE_FLOOR = 0.15
"""Least confidence of a flow, since forward-backward errors are noisy themselves."""


@dataclass(frozen=True, eq=False)
class WarpInputs:
    """Input of `rdvfi.ops.render`, on the trajectory's grid."""

    flow0: Flows
    flow1: Flows
    mask: Float[Tensor, "b t 1 h w"]
    residual: Float[Tensor, "b t 3 h w"]
    small: tuple[Image, Image] | None = None
    """Both frames on this grid, where they have been computed already."""

    def adapt(
        self, img0: Image, img1: Image, motion: Motion, timesteps: Times, small: tuple[Tensor, Tensor] | None = None
    ) -> "WarpInputs":
        """The maps after the content rules: static regions, interpolated illumination, cross-fade between two scenes.

        Args:
            img0: First frames, not normalised.
            img1: Last frames, not normalised.
            motion: Motion of the pair; without ``content`` only its scene decision is applied.
            timesteps: Times of the frames.
            small: Both frames on this grid, in the place of ``self.small``.
        """
        maps = (self.flow0, self.flow1, self.mask, self.residual)
        if motion.content is None:
            return WarpInputs(*_cross_fade(*maps, timesteps, motion.scene.weight))
        change = motion.content.illumination
        small0, small1 = small or self.small or _on_grid(img0, img1, self.flow0)
        gain = None if change is None else change.gain
        joined = adapted_maps(small0, small1, gain, *maps, timesteps, motion.scene.weight)
        flow0, flow1, mask, residual = joined.split((2, 2, 1, 3), dim=2)
        return WarpInputs(flow0, flow1, mask, residual)

    def draw(self, img0: Image, img1: Image) -> Video:
        """The frames at full size."""
        return render(img0, img1, self.flow0, self.flow1, self.mask, self.residual)


def consistency_mask(
    trajectory: Trajectory, timesteps: Times, flows: tuple[Flows, Flows]
) -> Float[Tensor, "b t 1 h w"]:
    """Blending weight of the first frame, in [0, 1], from the distance in time and the confidence in ``flows``."""
    return blend_shares(trajectory.confidence(timesteps, flows=flows), timesteps, CONFIDENCE_FLOOR)


@operator("adaptation")
def blend_shares(confidence: Tensor, times: Tensor, floor: float) -> Tensor:
    """Blending weight of the first frame from the confidence in both flows, (b, t, 2, h, w), and the time."""
    confidence = confidence + floor
    t = times.to(confidence)[None, :, None, None, None]
    first, last = (1.0 - t) * confidence[:, :, :1], t * confidence[:, :, 1:]
    return first / (first + last)


class WarpingRenderer(Renderer):
    """A renderer that computes maps on the trajectory's grid, and one full-size pass draws with them."""

    @abstractmethod
    def maps(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> WarpInputs:
        """Flows, mask and residual of the frames at ``timesteps``; both end frames may be of any size."""

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """Frames at ``timesteps``, drawn with `maps`."""
        if timesteps.numel() == 0:
            return img0.new_empty(img0.shape[0], 0, *img0.shape[1:])
        return self.maps(img0, img1, motion, timesteps).draw(img0, img1)


class RefiningRenderer(WarpingRenderer):
    """A learned renderer: `refine`, then one full-size pass."""

    @abstractmethod
    def refine(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> WarpInputs:
        """Refined flows, mask and residual at ``timesteps``, of which there is at least one."""

    def maps(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> WarpInputs:
        """The maps of `refine` after the content rules."""
        small, content = None, motion.content
        compared = img0, img1
        if content is not None and content.illumination is not None:  # networks compare normalised frames
            small = _on_grid(img0, img1, content.illumination.gain)
            compared = content.illumination.normalise(*small)
        refined = self.refine(*compared, motion, timesteps)
        return refined.adapt(img0, img1, motion, timesteps, small)


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
    """The maps of `WarpInputs`, concatenated, (b, t, 8, h, w), after the content rules.

    Flows of static regions are set to zero (`rdvfi.content.static_regions`), the residual restores the interpolated
    illumination where the mask prefers one frame (`rdvfi.content.illumination`), and pairs of two scenes become a
    cross-fade.

    Args:
        small0: First frames on this grid, (b, 3, h, w).
        small1: Last frames on this grid.
        gain: Log gain of the illumination change, (b, 1, h, w); None if there is none.
        flow0: See `WarpInputs`.
        flow1: See `WarpInputs`.
        mask: See `WarpInputs`.
        residual: See `WarpInputs`.
        times: Times of the frames, (t,).
        weight: Weight of the motion against a cross-fade, (b,); see `rdvfi.scene_decision`.
    """
    change = None if gain is None else IlluminationChange(gain)
    first, last = (small0, small1) if change is None else change.normalise(small0, small1)
    moves = 1.0 - static_mask(first, last, flow0, flow1)
    flow0, flow1, residual = moves * flow0, moves * flow1, moves * residual
    if change is not None:
        residual = _illuminated_residual(change, small0, small1, flow0, flow1, mask, residual, times)
    return torch.cat(_cross_fade(flow0, flow1, mask, residual, times, weight), dim=2)


def _cross_fade(
    flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor, times: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    share = weight.to(mask)[:, None, None, None, None]
    plain = (1.0 - times).to(mask)[None, :, None, None, None]
    return share * flow0, share * flow1, torch.lerp(plain.expand_as(mask), mask, share), share * residual


def _illuminated_residual(
    change: IlluminationChange,
    small0: Tensor,
    small1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    times: Tensor,
) -> Tensor:
    """The residual under the illumination of each time, plus its difference to that of the blended frames."""
    b, t = mask.shape[:2]
    now = change.at(times)
    added = now * residual
    pairs = ((small0, flow0, mask), (small1, flow1, 1.0 - mask))
    for (image, flow, share), end in zip(pairs, change.end_illumination(), strict=True):
        warped = backward_warp(repeat_per_time(image, t), flow.flatten(0, 1)).unflatten(0, (b, t))
        added = added + share * (now / end[:, None] - 1.0) * warped
    return added


def warped_neighbours(motion: Motion, timesteps: Times, flows: tuple[Flows, Flows]) -> Float[Tensor, "bt c hz wz"]:
    """Latents of both neighbouring keyframes, warped to each time: (b * t, 2c, hz, wz)."""
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
