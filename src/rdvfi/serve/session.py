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
from rdvfi.serve.motion_layers import Layer, PointPaths, draw_layer, longest_flow
from rdvfi.video.model_loading import choose_placement, prepare_model

SHOWN = 960
"""Longest side of what is shown, in pixels: about the room that a page has. Saved frames are of the pictures' size."""


class Models:
    """The models that can be chosen, each built when it is asked for first.

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
        self._place = choose_placement(device, dtype)
        self._allow_untrained = allow_untrained
        labels = {f"{name} (recipe)": name for name in recipes}
        self._recipes = labels
        self.choices = [*names, *labels]
        if not self.choices:
            raise ValueError("no model to choose: give a model or a recipe")
        self._built: dict[str, Interpolator] = {}
        self._building = threading.Lock()
        self.drawing = threading.Lock()
        """Held while frames of a pair are made: two at once would only wait for each other."""

    def get(self, choice: str) -> Interpolator:
        """The model of this name; raises ValueError if it is not among the choices, or is not trained."""
        if choice not in self.choices:
            raise ValueError(f"model is {choice!r}; expected one of {', '.join(self.choices)}")
        with self._building:
            if choice not in self._built:
                self._built[choice] = self._build(choice)
            return self._built[choice]

    def _build(self, choice: str) -> Interpolator:
        device, dtype = self._place
        if choice in self._recipes:
            model = build(self._recipes[choice]).eval().requires_grad_(False).to(device, dtype)
            return prepare_model(model, None, None, allow_untrained=self._allow_untrained)
        return prepare_model(choice, device, dtype, allow_untrained=self._allow_untrained)

    def warm_up(self) -> None:
        """Build the first model and draw with it, so that the first visitor need not wait for it."""
        pixels = torch.rand(1, 3, 720, 1280).mul(255).byte()[0].permute(1, 2, 0).numpy()
        OpenedPair.of((pixels, pixels), self, self.choices[0]).shown(0.5, Layer.NONE, paths=False)


@dataclass(frozen=True, eq=False)
class Drawable:
    """Two pictures as tensors and their motion: frames of any time, from one estimate."""

    model: Interpolator
    images: tuple[torch.Tensor, torch.Tensor]
    motion: Motion
    drawing: threading.Lock

    @classmethod
    @torch.inference_mode()
    def of(cls, pixels: tuple[Pixels, Pixels], model: Interpolator, drawing: threading.Lock) -> "Drawable":
        """Estimate the motion."""
        first, last = (to_tensor(each, device=model.device, dtype=model.dtype) for each in pixels)
        if first.dtype != last.dtype:
            first, last = first.float(), last.float()
        with drawing:
            return cls(model, (first, last), model.estimate(first, last), drawing)

    @torch.inference_mode()
    def frame(self, time: float, *, deep: bool) -> Pixels:
        """The frame of a time in [0, 1]."""
        with self.drawing:
            drawn = self.model.render(*self.images, self.motion, [time])
        return to_pixels(drawn[0, 0], deep=deep)


@dataclass(frozen=True, eq=False)
class OpenedPair:
    """Two pictures and the motion between them, at the size that is shown, and at their own when a frame is saved."""

    pixels: tuple[Pixels, Pixels]
    shown_at: Drawable

    @classmethod
    @torch.inference_mode()
    def of(cls, pixels: tuple[Pixels, Pixels], models: Models, choice: str) -> "OpenedPair":
        """Estimate the motion of two pictures of one size.

        Raises:
            ValueError: If the model cannot be had, or the pictures are too small.
        """
        model = models.get(choice)
        return cls(pixels, Drawable.of((_shrunk(pixels[0]), _shrunk(pixels[1])), model, models.drawing))

    @cached_property
    def _paths(self) -> PointPaths:
        """Only of pairs whose paths are asked for: they take as long as three frames."""
        images, device = self.shown_at.images, self.shown_at.model.device
        with self.shown_at.drawing:
            return PointPaths.of(self.shown_at.motion.trajectory, (images[0].shape[-2], images[0].shape[-1]), device)

    @cached_property
    def _longest(self) -> float:
        return longest_flow(self.shown_at.motion.trajectory, torch.zeros(1, device=self.shown_at.model.device))

    @cached_property
    def _whole(self) -> Drawable:
        """At the pictures' own size."""
        if _shrunk(self.pixels[0]) is self.pixels[0]:
            return self.shown_at
        return Drawable.of(self.pixels, self.shown_at.model, self.shown_at.drawing)

    @property
    def one_scene(self) -> bool:
        """Whether both pictures are of one scene; else frames between are cross-faded."""
        return bool(self.shown_at.motion.scene.same_scene[0])

    def frame(self, time: float) -> Pixels:
        """The frame of a time in [0, 1], in the size and depth of the pictures."""
        return self._whole.frame(time, deep=any(each.dtype.itemsize > 1 for each in self.pixels))

    @torch.inference_mode()
    def shown(self, time: float, layer: Layer, *, paths: bool) -> Picture:
        """The frame of a time as it is shown, with a layer and the paths of points over it."""
        picture = to_picture(self.shown_at.frame(time, deep=False))
        times = torch.tensor([time], device=self.shown_at.model.device)
        picture = draw_layer(picture, self.shown_at.motion.trajectory, layer, times, self._longest)
        return self._paths.draw(picture, time) if paths else picture

    def line(self) -> str:
        """What is known of the pair, on one line."""
        (height, width), (h, w) = self.pixels[0].shape[:2], self.shown_at.images[0].shape[-2:]
        size = f"{width}x{height}" + ("" if h == height else f" (shown at {w}x{h}, saved whole)")
        scene = self.shown_at.motion.scene
        if not self.one_scene:
            return f"{size}: {scene.reason()}, so the pictures are cross-faded"
        return f"{size}, mean confidence of the motion {float(scene.confidence[0]):.2f}"


def _shrunk(pixels: Pixels) -> Pixels:
    """A picture of at most the size that is shown; a smaller one as it is."""
    height, width = pixels.shape[:2]
    scale = SHOWN / max(height, width)
    if scale >= 1.0 or min(height, width) * scale < MINIMUM_SIDE:
        return pixels
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


class Session:
    """What one visitor has on the page; nobody else can reach it.

    Attributes:
        waiting: A single picture, whose partner is still to come.
        opened: The two pictures.
        pair: Their motion.
        clip: A video file.
        stopped: Set to stop the work on a clip.
    """

    def __init__(self) -> None:
        self.waiting: Path | None = None
        self.opened: tuple[Pixels, Pixels] | None = None
        self.pair: OpenedPair | None = None
        self.clip: Path | None = None
        self.stopped = threading.Event()

    def __deepcopy__(self, memo: object) -> "Session":
        """Every visitor starts with an empty one."""
        return Session()

    def clear(self) -> None:
        """Forget everything, and stop what is going on."""
        self.stopped.set()
        self.waiting = self.opened = self.pair = self.clip = None
