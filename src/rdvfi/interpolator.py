"""The whole data flow in a few lines: `Interpolator`.

``estimate`` is paid once per pair of frames: both are shrunk to motion size, the generator makes
keyframes between them, and the trajectory model turns these into a continuous motion. ``render``
is paid per frame made: full-size frames are drawn along that motion at any times.

Numbers. On the CPU all work is done in float32, whatever the type of the images. On other devices
the networks run in the type of the model's parameters, while times, flows and coordinates are
float32 always. Frames come back in the type of the images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rdvfi import _inputs
from rdvfi._memory import WORK_BYTES, Chunks
from rdvfi.checkpoint import STAGES
from rdvfi.geometry import MotionSize, choose_motion_size, replicate_pad, resize_image
from rdvfi.graphs import Recorder
from rdvfi.interfaces import (
    KeyframeGenerator,
    Keyframes,
    Motion,
    Reads,
    Renderer,
    TrajectoryModel,
)
from rdvfi.pretrained import MOTION_AREA, Staged
from rdvfi.types import Image, SmallImage, Times, Video


class Interpolator(Staged):
    """Frames between two frames, at any times.

    Args:
        generator: Makes keyframes between two small frames.
        trajectory: Turns keyframes into a continuous motion.
        renderer: Draws full-size frames along it.
        motion_area: Pixels of the small frames, about; larger frames are shrunk to it.

    Raises:
        ValueError: If the stages do not fit together.
    """

    _anchor: Tensor

    def __init__(
        self,
        generator: KeyframeGenerator,
        trajectory: TrajectoryModel,
        renderer: Renderer,
        *,
        motion_area: int = MOTION_AREA,
    ) -> None:
        super().__init__(generator, trajectory, renderer, motion_area=motion_area)
        self._compiled: dict[str, Callable[..., Any]] = {}
        self._recorder: Recorder | None = None
        self._chunks = Chunks()
        self.register_load_state_dict_post_hook(_weights_loaded)
        # Says where the model is even if no stage has a parameter.
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        timesteps: Sequence[float | int] | Tensor,
        *,
        seed: int = 0,
        scene_threshold: float | None = None,
        same_scene: bool | Tensor | None = None,
    ) -> Video:
        """Frames between ``img0`` and ``img1`` at ``timesteps``: `estimate`, then `render`."""
        _inputs.check_pair(img0, img1, self.device)
        _inputs.read_times(timesteps, self.device)  # before the expensive part
        motion = self.estimate(img0, img1, seed=seed, scene_threshold=scene_threshold, same_scene=same_scene)
        return self.render(img0, img1, motion, timesteps)

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
    ) -> Motion:
        """The motion between two frames: paid once per pair.

        Args:
            img0: First frames, (B, 3, H, W), floats in [0, 1], both sides at least 16 pixels.
            img1: Last frames, the same.
            seed: Seed of the noise, the same for every sample of a batch.
            generator: Draws the noise instead of a seed; advanced sample by sample.
            noise: The noise itself, of shape ``self.noise_shape(img0)``.
            after: In a stream, what this returned for the pair before, whose last frames are
                ``img0``: their latents are known then, and not made again.
            scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames are
                taken to be of two scenes, between which `render` cross-fades; 0 interpolates every
                pair. By default `rdvfi.scene_decision.SCENE_THRESHOLD`.
            same_scene: Decides instead: True interpolates, False cross-fades; or a boolean tensor
                (B,) that says so for each pair.

        Raises:
            ValueError: If an argument is not of the shape, type, range or device expected.
        """
        _inputs.check_pair(img0, img1, self.device)
        _inputs.check_values("img0", img0)
        _inputs.check_values("img1", img1)
        _inputs.check_scene(scene_threshold, same_scene, len(img0), self.device)
        shape = self.noise_shape(img0)
        noise = _inputs.draw_noise(shape, seed=seed, generator=generator, noise=noise)
        noise = noise.to(self.device, self.dtype, non_blocking=noise.device.type == "cpu")
        known = None
        if after is not None:
            self._check_motion(after, len(img0), self._size(img0))
            # A copy: the next call of a captured graph may write where the last one's result is.
            known = after.keyframes.latents[:, -1].clone()
        return self._run("estimate", self._motion, img0, img1, noise, known, scene_threshold, same_scene)

    def render(self, img0: Tensor, img1: Tensor, motion: Motion, timesteps: Sequence[float | int] | Tensor) -> Video:
        """Draw frames at ``timesteps`` along a motion that `estimate` found for the same frames.

        Args:
            img0: First frames.
            img1: Last frames.
            motion: What ``estimate(img0, img1)`` returned.
            timesteps: Times in [0, 1], shared by the batch: a list of floats or a 1-D tensor.

        Returns:
            Frames (B, T, 3, H, W) in the type of the images; 0 and 1 return the inputs.

        Raises:
            ValueError: If an argument is not of the shape, type, range or device expected.
        """
        draw, times, bytes_each = self._drawing(img0, img1, motion, timesteps)
        if len(times) == 0:
            return img0.new_empty(len(img0), 0, *img0.shape[1:])
        if torch.compiler.is_compiling():  # inside another graph memory is not ours to divide
            return draw(times)
        return self._chunks.draw(draw, times, bytes_each=bytes_each)

    def render_parts(
        self,
        img0: Tensor,
        img1: Tensor,
        motion: Motion,
        timesteps: Sequence[float | int] | Tensor,
        *,
        at_most: int | None = None,
    ) -> Iterator[Video]:
        """`render` a few timesteps at a time: (B, t, 3, H, W) after (B, t, 3, H, W), in order.

        For streams, which write frames as they come and need not hold those of all timesteps.

        Args:
            img0: First frames.
            img1: Last frames.
            motion: What ``estimate(img0, img1)`` returned.
            timesteps: Times in [0, 1], shared by the batch: a list of floats or a 1-D tensor.
            at_most: Timesteps at once; by default as many as memory allows.

        Raises:
            ValueError: If an argument is not of the shape, type, range or device expected.
        """
        draw, times, bytes_each = self._drawing(img0, img1, motion, timesteps)
        if at_most is not None and at_most < 1:
            raise ValueError(f"at_most is {at_most}; it must be at least 1")
        return self._chunks.parts(draw, times, bytes_each=bytes_each, at_most=at_most)

    @property
    def drawn_at_once(self) -> int | None:
        """Timesteps that are drawn at once since memory ran out; None if it never did."""
        return self._chunks.at_once

    def _drawing(
        self, img0: Tensor, img1: Tensor, motion: Motion, timesteps: Sequence[float | int] | Tensor
    ) -> tuple[Callable[[Times], Video], Times, int]:
        """What draws frames at some times, all times, and the bytes that each needs."""
        _inputs.check_pair(img0, img1, self.device)
        times = _inputs.read_times(timesteps, self.device)
        size = self._size(img0)
        self._check_motion(motion, len(img0), size)

        def draw(part: Times) -> Video:
            return self._run("render", self._frames, img0, img1, motion, part)

        pixels = WORK_BYTES * size.motion[0] * size.motion[1]
        frame = 3 * size.padded[0] * size.padded[1] * max(img0.element_size(), 4)
        return draw, times, len(img0) * (pixels + frame)

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        backend: str = "inductor",
        mode: str | None = None,
        dynamic: bool | None = None,
        fullgraph: bool = True,
    ) -> "Interpolator":
        """Compile the work of `estimate` and of `render` with `torch.compile`; nothing else does.

        Both compile at their first call, and again for other sizes and numbers of times. Checks of
        the input stay outside. Inductor needs a C++ compiler on the CPU and Triton on CUDA. What
        is compiled is not saved, and a copy of the model is not compiled.

        Args:
            backend: A backend of `torch.compile`.
            mode: Of inductor: "max-autotune", or "reduce-overhead" for CUDA graphs, whose results
                the next call overwrites. Not yet run on a GPU.
            dynamic: Whether graphs are made for any size; by default, when a size changes.
            fullgraph: Refuse components that do not compile in one piece, instead of leaving
                parts of them to Python.

        Returns:
            This model.
        """
        options = {"backend": backend, "mode": mode, "dynamic": dynamic, "fullgraph": fullgraph}
        self._compiled = {
            "estimate": torch.compile(self._motion, **options),
            "render": torch.compile(self._frames, **options),
        }
        self._forget_graphs()
        return self

    def optimize(self, *, graphs: bool = True, reuse_results: bool = False) -> "Interpolator":
        """Make inference fast without a compiler; returns itself.

        What is constant in inference is computed once, in every stage that can; results stay the same
        up to rounding. On CUDA `estimate` and `render` are recorded as CUDA graphs, one per size, type
        and number of times, at the first call that needs it, and replayed after that: the same results
        bit by bit, without the time that launching takes. What cannot be recorded is named in a warning
        and runs as before. See `rdvfi.graphs`.

        ``train()`` undoes it. Moving the model, or loading weights, forgets the graphs only.

        Args:
            graphs: Record CUDA graphs.
            reuse_results: Let the next call of the same kind overwrite results, instead of copying
                them: for loops that are done with a motion, or frames, before they ask for the next.

        Raises:
            RuntimeError: If the model is being trained.
        """
        if self.training:
            raise RuntimeError("optimize() is for inference; call model.eval().requires_grad_(False) before")
        self._recorder = Recorder(reuse_results=reuse_results) if graphs else None
        for name in STAGES.values():
            prepare = getattr(getattr(self, name), "optimize", None)
            if prepare is not None:
                prepare()
        return self

    def noise_shape(self, images: Image) -> tuple[int, int, int, int, int]:
        """Shape of the noise that `estimate` draws for a batch of frames."""
        h, w = self._size(images).motion
        return self.generator.noise_shape(len(images), h, w)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the networks compute in."""
        floats = (p.dtype for p in self.parameters() if p.is_floating_point())
        return next(floats, torch.float32)

    def train(self, mode: bool = True) -> "Interpolator":
        """As of every module; training undoes what `optimize` did."""
        if mode:
            self._recorder = None
        super().train(mode)
        return self

    def _run(self, name: str, stage: Callable[..., Any], *args: Any) -> Any:
        """A stage, by what was compiled or recorded of it."""
        function = self._compiled.get(name, stage)
        if self._recorder is None or not self._records(args[:2]):
            return function(*args)
        with torch.cuda.device_of(args[0]):
            return self._recorder.run(name, function, *args, watched=function is stage)

    def _records(self, images: Sequence[Tensor]) -> bool:
        """Whether graphs are recorded now: not on a CPU, within another graph, or for gradients."""
        if self.device.type != "cuda" or torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
            return False
        return not (torch.is_grad_enabled() and any(x.requires_grad for x in (*images, *self.parameters())))

    def _forget_graphs(self) -> None:
        if self._recorder is not None:
            self._recorder.clear()

    def _motion(
        self,
        img0: Tensor,
        img1: Tensor,
        noise: Tensor,
        known: Tensor | None = None,
        scene_threshold: float | None = None,
        same_scene: bool | Tensor | None = None,
    ) -> Motion:
        """The work of `estimate`: pure tensor code that compiles whole."""
        small0, small1 = self._shrink(img0), self._shrink(img1)
        keyframes = self.generator(small0, small1, noise, latent0=known)
        if self.trajectory.reads is Reads.PIXELS and keyframes.images is None:
            keyframes = self._with_images(keyframes, small0, small1)
        trajectory = self.trajectory(keyframes)
        return Motion.of(keyframes, trajectory, scene_threshold=scene_threshold, same_scene=same_scene)

    def _frames(self, img0: Tensor, img1: Tensor, motion: Motion, times: Times) -> Video:
        """The work of `render`, likewise."""
        h, w = img0.shape[-2:]
        padded = self._size(img0).padded
        first, last = (replicate_pad(self._working(image), padded) for image in (img0, img1))
        return self.renderer(first, last, motion, times)[..., :h, :w].to(img0.dtype)

    def _size(self, images: Tensor) -> MotionSize:
        return choose_motion_size(
            images.shape[-2],
            images.shape[-1],
            area=self.motion_area,
            multiple=self.generator.size_multiple,
        )

    def _working(self, image: Tensor) -> Image:
        """The image in a type that full-size work is done in."""
        return image.float() if self.device.type == "cpu" else image

    def _shrink(self, image: Tensor) -> SmallImage:
        """A full-size frame at motion size, in the type that the networks compute in."""
        size = self._size(image)
        padded = replicate_pad(self._working(image), size.padded)
        return resize_image(padded, size.motion).clamp(0.0, 1.0).to(self.dtype)

    def _with_images(self, keyframes: Keyframes, small0: SmallImage, small1: SmallImage) -> Keyframes:
        """Keyframes with pixels: the real small frames at the ends, decoded ones between."""
        images = [small0[:, None], small1[:, None]]
        if len(keyframes.times) > 2:
            images.insert(1, self.generator.decode_between(keyframes.latents).to(small0.dtype))
        return replace(keyframes, images=torch.cat(images, dim=1))

    def _check_motion(self, motion: Motion, batch: int, size: MotionSize) -> None:
        latents = motion.keyframes.latents
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

    def __getstate__(self) -> dict[str, Any]:
        """A copy is not compiled or recorded: graphs belong to the model that they were made from."""
        return {**super().__getstate__(), "_compiled": {}, "_recorder": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Interpolator":
        """Every move or cast of a module comes here; on the CPU the networks stay float32."""
        self._forget_graphs()

        def convert(tensor: Tensor) -> Any:
            moved = fn(tensor)
            half = moved.dtype in (torch.float16, torch.bfloat16)
            return moved.float() if half and moved.device.type == "cpu" else moved

        return super()._apply(convert, recurse)


def _weights_loaded(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Interpolator)
    module._forget_graphs()
