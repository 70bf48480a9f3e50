"""The interfaces of the library: read this file and `rdvfi.keyframes` first.

Two values pass through three stages::

    img0, img1 --KeyframeGenerator--> Keyframes --TrajectoryModel--> Trajectory --Renderer--> frames

`Keyframes` holds the latents of a few instants between the two frames, and of the frames themselves. `Trajectory` is a
function of time: for any instant, the flow from each pixel to both end frames. Two smaller components plug into the
second stage: a `FlowEstimator` (motion between neighbouring keyframes) and a `Basis` (interpolation in time). Every
stage is a registered implementation of one of the abstract classes below; classes are either abstract (here) or final
(where they are implemented).

Flow conventions. On a TARGET grid, the flow ``F_0(y)`` at time ``tau`` says where pixel ``y`` of that instant is
sampled in the first frame: ``frame(y) = img0(y + F_0(y))``. On a SOURCE grid it says where pixel ``x`` of the first
frame moves to. ``F_0`` is zero at tau = 0, ``F_1`` at tau = 1.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rdvfi.content import Bars, Content, ContentInputs, analyse_content
from rdvfi.keyframes import (
    Condition,
    Denoised,
    KeyframeGenerator,
    Keyframes,
    MotionPrior,
    NoiseProcess,
    Predict,
    check_declared,
)
from rdvfi.ops import paths
from rdvfi.scene_decision import SceneDecision
from rdvfi.types import Flow, Flows, Image, SmallImage, Times, Video, move_tensors, short_repr

__all__ = [
    "Basis",
    "Condition",
    "Denoised",
    "FlowEstimator",
    "FlowGrid",
    "KeyframeGenerator",
    "Keyframes",
    "Motion",
    "MotionPrior",
    "NoiseProcess",
    "Predict",
    "Reads",
    "Renderer",
    "SceneDecision",
    "Trajectory",
    "TrajectoryModel",
]


class FlowGrid(Enum):
    """The grid that flows are defined on, and hence how frames are drawn with them."""

    TARGET = "target"
    """Backward warping: the new frame samples an end frame at ``y + F(y)`` (`rdvfi.ops.backward_warp`)."""
    SOURCE = "source"
    """Forward warping: pixel ``x`` of an end frame moves to ``x + F(x)`` (splatting, `rdvfi.ops.splat`)."""


class Reads(Enum):
    """The input of a flow estimator."""

    LATENTS = "latents"
    PIXELS = "pixels"


class Basis(nn.Module, ABC):
    """Interpolation in time that is linear in the values at the knots, and therefore given by a matrix."""

    reach: int | None = None
    """Number of knots on either side of a time that have a non-zero weight; None for any number."""

    @abstractmethod
    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Float[Tensor, "t k"]:
        """The matrix that maps values at ``knots`` to values at ``times``; rows sum to one.

        Args:
            knots: Increasing times of the given values, from 0 to 1.
            times: Requested times in [0, 1].
        """

    def used(self, count: int) -> list[int]:
        """Indices, out of ``count`` knots, of those that have a non-zero weight at some time; both ends included."""
        return list(range(count))


class Trajectory(ABC):
    """Continuous motion of every pixel between two frames: a function of time."""

    grid: FlowGrid

    @abstractmethod
    def at(self, times: Times) -> tuple[Flows, Flows]:
        """Flows to the first and to the last frame at each time, in pixels of this grid."""

    def at_knots(self, knots: Float[Tensor, " k"], index: Int64[Tensor, " t"]) -> tuple[Flows, Flows]:
        """`at` for times of keyframes; trajectories that store their flows at knots return them without computation.

        Args:
            knots: Times of the keyframes that the trajectory was estimated from.
            index: Indices of the requested keyframes, (t,).
        """
        return self.at(knots[index])

    def across(self, like: Times) -> tuple[Flow, Flow]:
        """Flow from the first frame to the last, and from the last to the first, each on its own grid.

        Args:
            like: A tensor of the type and device of times.
        """
        to_first, to_last = self.at(torch.arange(2, dtype=like.dtype, device=like.device))
        return to_last[:, 0], to_first[:, 1]

    def shift(self, start: Times, end: Times) -> Flows:
        """Displacement from ``start[i]`` to ``end[i]`` of the point that is visible at each pixel at ``start[i]``.

        On a TARGET grid a point is identified by its position in the first and in the last frame; see
        `rdvfi.ops.paths.follow`. On a SOURCE grid a pixel *is* a point.
        """
        here, there = self.at(start), self.at(end)
        if self.grid is FlowGrid.SOURCE:
            return there[0] - here[0]
        return paths.follow(here, there, start.to(here[0]), end.to(here[0]))

    def velocity(self, times: Times, *, step: float = 1e-3) -> Flows:
        """Velocity of the surface visible at each pixel, in pixels of this grid per unit time.

        On a SOURCE grid it is the time derivative of the flow. On a TARGET grid different points pass a
        fixed pixel, but ``y(tau) + F(y, tau)`` is constant along the path of a point, so the velocity is
        ``-(I + dF/dy)^-1 dF/dtau``.
        """
        low, high = (times - step).clamp(min=0.0), (times + step).clamp(max=1.0)
        ahead, behind = self.at(high)[0], self.at(low)[0]
        rate = (ahead - behind) / (high - low).to(ahead)[None, :, None, None, None]
        if self.grid is FlowGrid.SOURCE:
            return rate
        flow = self.at(times)[0]
        dx = torch.gradient(flow, dim=-1)[0]
        dy = torch.gradient(flow, dim=-2)[0]
        a, c = 1.0 + dx[:, :, 0], dx[:, :, 1]
        b, d = dy[:, :, 0], 1.0 + dy[:, :, 1]
        determinant = a * d - b * c
        # The determinant is zero where the flow folds: keep its sign and bound its size instead of dividing by zero.
        determinant = torch.where(determinant < 0, -1.0, 1.0) * determinant.abs().clamp(min=0.1)
        u, v = rate[:, :, 0], rate[:, :, 1]
        return torch.stack((-(d * u - b * v), -(a * v - c * u)), dim=2) / determinant[:, :, None]

    def confidence(self, times: Times, *, flows: tuple[Flows, Flows] | None = None) -> Float[Tensor, "b t 2 h w"]:
        """Confidence in the flow to the first (channel 0) and to the last frame (channel 1), in (0, 1].

        It is ``exp(-e / 2)``, where ``e`` is a forward-backward error in pixels: the flow from an instant to one end
        frame, followed by the end-to-end flow, is compared with the direct flow to the other end frame. At tau = 0 this
        is the usual forward-backward consistency check. For flows that point out of the frame, ``e`` grows by the
        distance to the border, since the point is not visible there.

        Args:
            times: Times at which to compute it.
            flows: ``self.at(times)``, where it has been computed already.
        """
        first, last = self.at(times) if flows is None else flows
        first_to_last, last_to_first = self.across(times)
        return paths.confidence(first, last, first_to_last, last_to_first)


@dataclass(frozen=True, eq=False)
class Motion:
    """The result of `Interpolator.estimate`, computed once per pair: keyframes, trajectory, scene and content."""

    keyframes: Keyframes
    trajectory: Trajectory
    scene: SceneDecision
    """Whether both frames show one scene. Renderers apply this decision and make none of their own."""
    content: Content | None = None
    """Bars, overlays and illumination changes, for the renderers; None if they were not analysed."""

    __repr__ = short_repr

    def to(self, device: str | torch.device) -> "Motion":
        """The same motion on another device.

        Raises:
            TypeError: If the trajectory, of a plug-in, is not a dataclass of tensors.
        """
        return move_tensors(self, device)

    def with_static(self, static: Bool[Tensor, "b 1 H W"]) -> "Motion":
        """The same motion, with pixels that are declared static and are copied unchanged from the input frames.

        Raises:
            ValueError: If the content was not analysed.
        """
        if self.content is None:
            raise ValueError("static pixels are part of a motion's content; estimate with content_rules = True")
        return replace(self, content=replace(self.content, static=static))

    @classmethod
    def of(
        cls,
        keyframes: Keyframes,
        trajectory: Trajectory,
        *,
        pictures: tuple[SmallImage, SmallImage] | None = None,
        bars: Bars | None = None,
        scene_threshold: float | None = None,
        same_scene: bool | Bool[Tensor, " b"] | None = None,
        static: Float[Tensor, "b 1 h w"] | None = None,
    ) -> "Motion":
        """The motion of a trajectory, with the scene decision that follows from its confidence.

        Args:
            keyframes: Keyframes of the pair.
            trajectory: The trajectory that they define.
            pictures: Both frames at motion size, bars filled, whose content is analysed; None for no analysis.
            bars: Bars of the frames; required with ``pictures``.
            scene_threshold: Mean confidence, in [0, 1], below which two frames count as two scenes.
            same_scene: The decision itself, for all pairs or for each.
            static: 1 at motion size where pixels are declared static, 0 elsewhere.
        """
        middle = torch.full((1,), 0.5, dtype=torch.float32, device=keyframes.latents.device)
        flows = trajectory.at(middle)
        at_middle = trajectory.confidence(middle, flows=flows)
        confidence, content = at_middle.mean((1, 2, 3, 4)), None if bars is None else Content(bars)
        if pictures is not None and bars is not None and trajectory.grid is FlowGrid.TARGET:
            first, last = trajectory.at(torch.arange(2, dtype=torch.float32, device=middle.device))
            pair = ContentInputs(*pictures, flows[0][:, 0], flows[1][:, 0], last[:, 0], first[:, 1], at_middle[:, 0])
            content, explained = analyse_content(pair, bars, static)
            confidence = torch.minimum(confidence, explained)
        scene = SceneDecision.of(confidence, threshold=scene_threshold, same_scene=same_scene)
        return cls(keyframes, trajectory, scene, content)


class FlowEstimator(nn.Module, ABC):
    """Optical flow between two images or latents."""

    reads: Reads
    latent_channels: int | None = None
    """Channels of the latents that it reads; None if it reads pixels, or latents of any number of channels."""
    pretrained: bool = False
    """Whether its weights come trained for this use, so that no training is required."""

    @abstractmethod
    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """Flow on the grid of ``source``: ``target(x + F(x))`` corresponds to ``source(x)``.

        ``(dx, dy)`` in pixels of that grid, float32.
        """

    def both_ways(
        self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
        """Forward flow (first to second) and backward flow (second to first), each as `forward` gives it.

        Estimators that share work between both directions override it.
        """
        both = self(torch.cat((first, second)), torch.cat((second, first)))
        onward, back = both.chunk(2)
        return onward, back


@dataclass(frozen=True)
class Slot:
    """In the annotation of a factory's parameter: the group of a recipe that fills it."""

    group: str


CoarseFlow = Annotated[FlowEstimator, Slot("coarse")]
"""A parameter that takes the coarse flow between the two end frames: a recipe's group ``coarse``."""


@dataclass(frozen=True)
class Range:
    """In the annotation of a factory's parameter: the values that make sense, both ends included."""

    least: int
    most: int


Count = Annotated[int, Range(1, 128)]
"""Of blocks, heads, levels: a slip in a recipe or a saved model must not ask for a million."""
Repeats = Annotated[int, Range(0, 128)]
"""Of something that is done again and again, or not at all."""


class TrajectoryModel(nn.Module, ABC):
    """Turns keyframes into a continuous trajectory.

    It is time-symmetric: flipped keyframes give swapped, mirrored flows.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_declared(cls, {"needs_end_flows": "needs_prior, and keyframes.end_flows by keyframes.prior.end_flows"})

    grid: FlowGrid = FlowGrid.TARGET
    """The grid of the trajectories that it makes."""
    latent_channels: int | None = None
    """Channels of the latents that its own networks read; None for any number."""
    needs_prior: bool = False
    """Whether it can do nothing with keyframes that carry no `MotionPrior`."""
    basis_reach: int | None = None
    """How far, in knots, its bases may look (`Basis.reach`); None for any distance."""

    @property
    @abstractmethod
    def reads(self) -> Reads:
        """Whether it needs the keyframes' latents only or their images too."""

    @abstractmethod
    def forward(self, keyframes: Keyframes) -> Trajectory:
        """The trajectory that the keyframes define."""


class Renderer(nn.Module, ABC):
    """Draws full-size frames at any times from the end frames and the motion."""

    grids: frozenset[FlowGrid] = frozenset({FlowGrid.TARGET})
    """The trajectory grids that it can draw."""
    latent_channels: int | None = None
    """Channels of the latents that it reads; None for any number, or if it reads none."""
    follows_motion: bool = True
    """Whether what moves is drawn where the motion takes it; a cross-fade says no."""

    @abstractmethod
    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """Frames at ``timesteps``; times 0 and 1 return the inputs."""
