"""State of the page: loaded models, and the current pair of each visitor."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import torch

from rdvfi.config import build
from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import Picture, Pixels, to_picture, to_pixels, to_tensor
from rdvfi.serve.motion_layers import Layer, PointPaths, draw_layer, flow_scale
from rdvfi.video.model_loading import choose_placement, prepare_model

DISPLAY_SIDE = 960
"""Longest side of displayed frames, in pixels: about the space on a page. Saved frames have the pictures' size."""


class Models:
    """The models that can be chosen; each is loaded on first use.

    Args:
        names: Names, folders or hub ids for `rdvfi.create_model`.
        recipes: Recipes for `rdvfi.build`.
        device: Where they run; CUDA if there is a device, else the CPU.
        dtype: The type of their networks; float16 on CUDA, float32 elsewhere.
        allow_untrained: Accept untrained learned parts.
    """

    def __init__(
        self,
        names: Sequence[str],
        recipes: Sequence[str] = (),
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        allow_untrained: bool = False,
    ) -> None:
        self._placement = choose_placement(device, dtype)
        self._allow_untrained = allow_untrained
        labels = {f"{name} (recipe)": name for name in recipes}
        self._recipes = labels
        self.choices = [*names, *labels]
        if not self.choices:
            raise ValueError("no model to choose: give a model or a recipe")
        self._loaded: dict[str, Interpolator] = {}
        self._loading = threading.Lock()
        self.render_lock = threading.Lock()
        """Held during model calls: concurrent ones would only slow each other down."""

    def get(self, choice: str) -> Interpolator:
        """The model of this name; raises ValueError if it is not among the choices or is untrained."""
        if choice not in self.choices:
            raise ValueError(f"model is {choice!r}; expected one of {', '.join(self.choices)}")
        with self._loading:
            if choice not in self._loaded:
                self._loaded[choice] = self._load(choice)
            return self._loaded[choice]

    def _load(self, choice: str) -> Interpolator:
        device, dtype = self._placement
        if choice in self._recipes:
            model = build(self._recipes[choice]).eval().requires_grad_(False).to(device, dtype)
            return prepare_model(model, None, None, allow_untrained=self._allow_untrained)
        return prepare_model(choice, device, dtype, allow_untrained=self._allow_untrained)

    def warm_up(self) -> None:
        """Load the first model and render a frame, so that the first visitor does not wait for that."""
        pixels = torch.rand(1, 3, 720, 1280).mul(255).byte()[0].permute(1, 2, 0).numpy()
        OpenedPair.of((pixels, pixels), self, self.choices[0]).display(0.5, Layer.NONE, paths=False)


@dataclass(frozen=True, eq=False)
class PairMotion:
    """Two pictures as tensors, and their motion."""

    model: Interpolator
    images: tuple[torch.Tensor, torch.Tensor]
    motion: Motion
    render_lock: threading.Lock

    @classmethod
    @torch.inference_mode()
    def estimate(cls, pixels: tuple[Pixels, Pixels], model: Interpolator, render_lock: threading.Lock) -> "PairMotion":
        """Estimate the motion."""
        first, last = (to_tensor(each, device=model.device, dtype=model.dtype) for each in pixels)
        if first.dtype != last.dtype:
            first, last = first.float(), last.float()
        with render_lock:
            return cls(model, (first, last), model.estimate(first, last), render_lock)

    @torch.inference_mode()
    def frame(self, time: float, *, deep: bool) -> Pixels:
        """The frame at a time in [0, 1]."""
        with self.render_lock:
            drawn = self.model.render(*self.images, self.motion, [time])
        return to_pixels(drawn[0, 0], deep=deep)


@dataclass(frozen=True, eq=False)
class OpenedPair:
    """Two pictures with their motion at the display size, and at their own size once a frame is saved."""

    pixels: tuple[Pixels, Pixels]
    displayed: PairMotion

    @classmethod
    @torch.inference_mode()
    def of(cls, pixels: tuple[Pixels, Pixels], models: Models, choice: str) -> "OpenedPair":
        """Estimate the motion of two pictures of one size.

        Raises:
            ValueError: If the model is unavailable or the pictures are too small.
        """
        small = _shrink_to_display(pixels[0]), _shrink_to_display(pixels[1])
        return cls(pixels, PairMotion.estimate(small, models.get(choice), models.render_lock))

    @cached_property
    def _paths(self) -> PointPaths:
        """Computed on first use: they take as long as three frames."""
        images, device = self.displayed.images, self.displayed.model.device
        with self.displayed.render_lock:
            return PointPaths.from_trajectory(
                self.displayed.motion.trajectory, (images[0].shape[-2], images[0].shape[-1]), device
            )

    @cached_property
    def _flow_scale(self) -> float:
        return flow_scale(self.displayed.motion.trajectory, torch.zeros(1, device=self.displayed.model.device))

    @cached_property
    def _full_size(self) -> PairMotion:
        """The motion at the pictures' own size."""
        if _shrink_to_display(self.pixels[0]) is self.pixels[0]:
            return self.displayed
        return PairMotion.estimate(self.pixels, self.displayed.model, self.displayed.render_lock)

    @property
    def is_one_scene(self) -> bool:
        """Whether both pictures show one scene; if not, frames are cross-faded."""
        return bool(self.displayed.motion.scene.same_scene[0])

    def frame(self, time: float) -> Pixels:
        """The frame at a time in [0, 1], with the size and bit depth of the pictures."""
        return self._full_size.frame(time, deep=any(each.dtype.itemsize > 1 for each in self.pixels))

    @torch.inference_mode()
    def display(self, time: float, layer: Layer, *, paths: bool) -> Picture:
        """The frame at a time at display size, with a layer and optionally the paths over it."""
        picture = to_picture(self.displayed.frame(time, deep=False))
        times = torch.tensor([time], device=self.displayed.model.device)
        picture = draw_layer(picture, self.displayed.motion.trajectory, layer, times, self._flow_scale)
        return self._paths.draw(picture, time) if paths else picture

    def summary(self) -> str:
        """Size, scene decision and confidence of the pair, on one line."""
        (height, width), (h, w) = self.pixels[0].shape[:2], self.displayed.images[0].shape[-2:]
        size = f"{width}x{height}" + ("" if h == height else f" (shown at {w}x{h}, saved whole)")
        scene = self.displayed.motion.scene
        if not self.is_one_scene:
            return f"{size}: {scene.reason()}, so the pictures are cross-faded"
        return f"{size}, mean confidence of the motion {float(scene.confidence[0]):.2f}"


def _shrink_to_display(pixels: Pixels) -> Pixels:
    """A picture reduced to the display size if it is larger."""
    height, width = pixels.shape[:2]
    scale = DISPLAY_SIDE / max(height, width)
    if scale >= 1.0 or min(height, width) * scale < MINIMUM_SIDE:
        return pixels
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


class Session:
    """The state of one visitor; no other visitor can reach it.

    Attributes:
        first_picture: A single picture, until the second one is dropped.
        pictures: Both pictures.
        pair: The pictures with their motion.
        clip: A video file.
        cancelled: Stops the interpolation of the clip when set.
    """

    def __init__(self) -> None:
        self.first_picture: Path | None = None
        self.pictures: tuple[Pixels, Pixels] | None = None
        self.pair: OpenedPair | None = None
        self.clip: Path | None = None
        self.cancelled = threading.Event()

    def __deepcopy__(self, memo: object) -> "Session":
        """A new session: Gradio copies the initial value for each visitor."""
        return Session()

    def clear(self) -> None:
        """Remove everything and cancel running work."""
        self.cancelled.set()
        self.first_picture = self.pictures = self.pair = self.clip = None
