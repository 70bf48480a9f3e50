"""`Interpolator`: the data flow through the three stages.

``estimate`` runs once per pair of frames: both are reduced to motion size, the generator makes
keyframes between them, and the trajectory model turns these into a continuous motion. ``render``
runs once per new frame: full-size frames are drawn along that motion at any times.

Precision: on the CPU everything is computed in float32, whatever the type of the images. On other devices
the networks run in the type of the model's parameters; times, flows and coordinates are
always float32. Returned frames have the type of the images.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rdvfi import _inputs
from rdvfi._memory import WORK_BYTES, ChunkedDrawing
from rdvfi.content import Bars, find_bars
from rdvfi.execution import ExecutableModel
from rdvfi.geometry import MotionSize, choose_motion_size, replicate_pad, resize_image
from rdvfi.interfaces import KeyframeGenerator, Keyframes, Motion, Reads, Renderer, TrajectoryModel
from rdvfi.render.content import draw as draw_by_content
from rdvfi.saved_models.staged_model import MOTION_AREA
from rdvfi.types import Image, SmallImage, Times, Timesteps, Video


class Interpolator(ExecutableModel):
    """Frames between two frames, at any times.

    Args:
        generator: Makes keyframes between two small frames.
        trajectory: Turns keyframes into a continuous motion.
        renderer: Draws full-size frames along it.
        motion_area: Approximate number of pixels of the frames at motion size; larger frames are reduced to it.

    Attributes:
        content_rules: Whether content is analysed (`rdvfi.content`): bars, overlays, illumination, static regions.
            True by default.

    Raises:
        ValueError: If the stages do not fit together.
    """

    def __init__(
        self,
        generator: KeyframeGenerator,
        trajectory: TrajectoryModel,
        renderer: Renderer,
        *,
        motion_area: int = MOTION_AREA,
    ) -> None:
        super().__init__(generator, trajectory, renderer, motion_area=motion_area)
        self._chunks = ChunkedDrawing()
        self.content_rules = True

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        timesteps: Timesteps,
        *,
        seed: int = 0,
        scene_threshold: float | None = None,
        same_scene: bool | Tensor | None = None,
    ) -> Video:
        """Frames between ``img0`` and ``img1`` at ``timesteps``: `estimate`, then `render`."""
        times = _inputs.read_times(timesteps, self.device)  # before the expensive part
        motion = self.estimate(img0, img1, seed=seed, scene_threshold=scene_threshold, same_scene=same_scene)
        return self._render(img0, img1, motion, times)

    if TYPE_CHECKING:  # the signature, which torch's own ``__call__`` lacks
        __call__ = forward

    def estimate(
        self,
        img0: Tensor,
        img1: Tensor,
        *,
        seed: int = 0,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        after: Motion | None = None,
        scene_threshold: float | None = None,
        same_scene: bool | Tensor | None = None,
        static: Tensor | None = None,
    ) -> Motion:
        """Estimate the motion between two frames; once per pair.

        Args:
            img0: First frames, (B, 3, H, W), floats in [0, 1], both sides at least 16 pixels.
            img1: Last frames, of the same shape and type.
            seed: Seed of the noise, the same for every sample of a batch.
            generator: Generator that draws the noise, instead of a seed; advanced sample by sample.
            noise: The noise itself, of shape ``self.noise_shape(img0)``.
            after: In a stream, the motion of the previous pair, whose last frames are ``img0``: their latents
                are reused.
            scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames are
                counted as two scenes, between which `render` cross-fades; 0 interpolates every
                pair. By default `rdvfi.scene_decision.SCENE_THRESHOLD`.
            same_scene: The decision itself: True interpolates, False cross-fades; or a boolean tensor
                (B,) with the decision for each pair.
            static: A boolean tensor (B, 1, H, W) on the model's device, True for static foreground pixels, such as
                logos. New frames copy them from the input frame nearer in time, bit for bit.

        Raises:
            ValueError: If an argument is not of the shape, type, range or device expected.
        """
        _inputs.check_pair(img0, img1, self.device)
        _inputs.check_static(static, img0)
        _inputs.check_values("img0", img0)
        _inputs.check_values("img1", img1)
        _inputs.check_scene(scene_threshold, same_scene, len(img0), self.device)
        shape = self.noise_shape(img0)
        on_meta = self.device.type == "meta"
        noise = _inputs.draw_noise(shape, seed=seed, generator=generator, noise=noise, on_meta=on_meta)
        noise = noise.to(self.device, self.dtype, non_blocking=noise.device.type == "cpu")
        latent0 = None
        if after is not None:
            self._check_motion(after, len(img0), self._size(img0))
            # A copy, since replaying a captured graph overwrites the result of its last call.
            latent0 = after.keyframes.latents[:, -1].clone()
        bars_before = None if after is None or after.content is None else after.content.bars.clone()
        motion = self._run("estimate", img0, img1, noise, latent0, scene_threshold, same_scene, static)
        if bars_before is not None and motion.content is not None and bool(motion.content.bars.differs(bars_before)):
            # The reused latents were computed with other bars.
            motion = self._run("estimate", img0, img1, noise, None, scene_threshold, same_scene, static)
        return motion

    def render(self, img0: Tensor, img1: Tensor, motion: Motion, timesteps: Timesteps) -> Video:
        """Draw frames at ``timesteps`` along the motion that `estimate` returned for the same frames.

        Args:
            img0: First frames.
            img1: Last frames.
            motion: The result of ``estimate(img0, img1)``.
            timesteps: Times in [0, 1], shared by the batch: a number, a list of numbers, or a 1-D array or tensor.

        Returns:
            Frames (B, T, 3, H, W) in the type of the images; 0 and 1 return the inputs.

        Raises:
            ValueError: If an argument is not of the shape, type, range or device expected.
        """
        times = self._check_render_arguments(img0, img1, motion, timesteps)
        return self._render(img0, img1, motion, times)

    def render_parts(
        self, img0: Tensor, img1: Tensor, motion: Motion, timesteps: Timesteps, *, at_most: int | None = None
    ) -> Iterator[Video]:
        """`render` in parts: yields frames (B, t, 3, H, W) of a few timesteps at a time, in order.

        For streams, which write frames as they are drawn instead of keeping the frames of all timesteps in memory.

        Args:
            img0: First frames.
            img1: Last frames.
            motion: The result of ``estimate(img0, img1)``.
            timesteps: Times in [0, 1], shared by the batch: a number, a list of numbers, or a 1-D array or tensor.
            at_most: Maximum number of timesteps drawn at once; by default as many as memory allows.

        Raises:
            ValueError: If an argument is not of the shape, type, range or device expected.
        """
        times = self._check_render_arguments(img0, img1, motion, timesteps)
        draw, bytes_each = self._frame_renderer(img0, img1, motion)
        if at_most is not None:
            _inputs.check_count("at_most", at_most)
        return self._chunks.parts(draw, times, bytes_each=bytes_each, at_most=at_most)

    @property
    def drawn_at_once(self) -> int | None:
        """Number of timesteps drawn at once since memory ran out; None if it never did."""
        return self._chunks.at_once

    def _check_render_arguments(self, img0: Tensor, img1: Tensor, motion: Motion, timesteps: Timesteps) -> Times:
        """The times as a tensor; raises ValueError if an argument of `render` is not valid."""
        _inputs.check_pair(img0, img1, self.device)
        self._check_motion(motion, len(img0), self._size(img0))
        return _inputs.read_times(timesteps, self.device)

    def _render(self, img0: Tensor, img1: Tensor, motion: Motion, times: Times) -> Video:
        if len(times) == 0:
            return img0.new_empty(len(img0), 0, *img0.shape[1:])
        draw, bytes_each = self._frame_renderer(img0, img1, motion)
        if torch.compiler.is_compiling():  # the enclosing graph plans its memory itself
            return draw(times)
        return self._chunks.draw(draw, times, bytes_each=bytes_each)

    def _frame_renderer(self, img0: Tensor, img1: Tensor, motion: Motion) -> tuple[Callable[[Times], Video], int]:
        """A function that draws frames at given times, and the bytes that it needs per frame."""

        def draw(part: Times) -> Video:
            return self._run("render", img0, img1, motion, part)

        size = self._size(img0)
        pixels = WORK_BYTES * size.motion[0] * size.motion[1]
        frame = 3 * size.padded[0] * size.padded[1] * max(img0.element_size(), 4)
        return draw, len(img0) * (pixels + frame)

    def noise_shape(self, images: Image) -> tuple[int, int, int, int, int]:
        """Shape of the noise that `estimate` draws for a batch of frames."""
        h, w = self._size(images).motion
        return self.generator.noise_shape(len(images), h, w)

    def _computations(self) -> dict[str, Callable[..., Any]]:
        return {"estimate": self._compute_motion, "render": self._compute_frames}

    def _compute_motion(
        self,
        img0: Tensor,
        img1: Tensor,
        noise: Tensor,
        latent0: Tensor | None = None,
        scene_threshold: float | None = None,
        same_scene: bool | Tensor | None = None,
        static: Tensor | None = None,
    ) -> Motion:
        """The computation of `estimate`: tensor code without side effects, compiled as one graph.

        ``latent0`` are latents of ``img0`` that are known from the previous pair.
        """
        bars = find_bars(img0, img1) if self.content_rules else None if static is None else Bars.none(img0)
        if bars is not None:
            img0, img1 = bars.fill(img0), bars.fill(img1)
        small0, small1 = self._reduce(img0), self._reduce(img1)
        keyframes = self.generator(small0, small1, noise, latent0=latent0)
        if self.trajectory.reads is Reads.PIXELS and keyframes.images is None:
            keyframes = self._add_images(keyframes, small0, small1)
        trajectory = self.trajectory(keyframes)
        motion = Motion.of(
            keyframes,
            trajectory,
            pictures=(small0, small1) if self.content_rules else None,
            bars=bars,
            scene_threshold=scene_threshold,
            same_scene=same_scene,
            static=None if static is None else self._reduce(static.float().expand_as(img0))[:, :1],
        )
        return motion if static is None else motion.with_static(static)

    def _compute_frames(self, img0: Tensor, img1: Tensor, motion: Motion, times: Times) -> Video:
        """The computation of `render`: tensor code without side effects, compiled as one graph."""
        h, w = img0.shape[-2:]
        padded = self._size(img0).padded
        first, last = (replicate_pad(self._to_working_type(image), padded) for image in (img0, img1))
        return draw_by_content(self.renderer, first, last, motion, times)[..., :h, :w].to(img0.dtype)

    def _size(self, images: Tensor) -> MotionSize:
        return choose_motion_size(
            images.shape[-2], images.shape[-1], area=self.motion_area, multiple=self.generator.size_multiple
        )

    def _to_working_type(self, image: Tensor) -> Image:
        """The image in the type in which full-size frames are computed."""
        return image.float() if self.device.type == "cpu" else image

    def _reduce(self, image: Tensor) -> SmallImage:
        """A full-size frame reduced to motion size, in the type of the networks."""
        size = self._size(image)
        padded = replicate_pad(self._to_working_type(image), size.padded)
        return resize_image(padded, size.motion).clamp(0.0, 1.0).to(self.dtype)

    def _add_images(self, keyframes: Keyframes, small0: SmallImage, small1: SmallImage) -> Keyframes:
        """Keyframes with images: the input frames at both ends, and decoded latents between them."""
        images = [small0[:, None], small1[:, None]]
        if len(keyframes.times) > 2:
            images.insert(1, self.generator.decode_between(keyframes.latents).to(small0.dtype))
        return replace(keyframes, images=torch.cat(images, dim=1))

    def _check_motion(self, motion: Motion, batch: int, size: MotionSize) -> None:
        """Raise ValueError unless the motion was estimated for frames of this size, by a model such as this."""
        if not isinstance(motion, Motion):
            raise ValueError(f"motion must be the result of estimate; got a {type(motion).__name__}")
        latents = motion.keyframes.latents
        if latents.device != self.device:
            raise ValueError(f"this motion is on {latents.device}, but the model is on {self.device}")
        grid = tuple(side // self.generator.stride for side in size.motion)
        if len(latents) != batch or tuple(latents.shape[-2:]) != grid:
            raise ValueError(
                f"this motion was estimated for {len(latents)} pairs on a latent grid of "
                f"{tuple(latents.shape[-2:])}; these {batch} pairs need {grid}: use the motion "
                "that estimate returned for the same frames"
            )
        if motion.trajectory.grid not in self.renderer.grids:
            drawable = ", ".join(grid.name for grid in self.renderer.grids)
            raise ValueError(
                f"{type(self.renderer).__name__} draws trajectories on the {drawable} grid; this "
                f"one is on the {motion.trajectory.grid.name} grid"
            )
