"""Models and Python functions as methods."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdvfi.evaluation.evaluation_window import as_images
from rdvfi.evaluation.method import Method
from rdvfi.geometry import choose_motion_size, resize_flow
from rdvfi.interfaces import FlowGrid
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import to_pixels
from rdvfi.types import Flows, Image, Times, Video

FlowFunction = Callable[[Image, Image, Times], tuple[Flows, Flows]]


class ModelMethod(Method):
    """A model of this library: motion is estimated once per pair, then all frames are rendered."""

    def __init__(self, model: Interpolator, *, name: str) -> None:
        self._model = model
        self.name = name

    @property
    def model(self) -> Interpolator:
        return self._model

    @torch.inference_mode()
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        motion = self.model.estimate(img0, img1)
        return self.model.render(img0, img1, motion, times)

    @torch.inference_mode()
    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows] | None:
        """The trajectory at ``times``, resized to the images; None if it is on the SOURCE grid."""
        trajectory = self.model.estimate(img0, img1).trajectory
        if trajectory.grid is not FlowGrid.TARGET:
            return None
        h, w = img0.shape[-2:]
        multiple = self.model.generator.size_multiple
        padded = choose_motion_size(h, w, area=self.model.motion_area, multiple=multiple).padded
        first, last = (
            resize_flow(flows[0].float(), padded)[None, ..., :h, :w] for flows in trajectory.at(times.to(img0.device))
        )
        return first, last


class FunctionMethod(Method):
    """A Python function as a method.

    Args:
        function: Called with both end frames and the times of the frames between. It takes and returns
            tensors: frames (1, 3, H, W), floats in [0, 1], and times (t,); the result is (1, t, 3, H, W) or
            (t, 3, H, W). With ``arrays`` it takes and returns arrays: frames (H, W, 3), 8 bits, and a list
            of times; the result is t such frames, as an array or a sequence.
        name: Its name in the report; by default that of the function.
        arrays: Whether the function works with arrays.
        flows: Optional function whose motion is measured: it returns flows from each interpolated frame to the
            first and to the last one, (1, t, 2, H, W), in pixels of the frames; called with tensors.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        arrays: bool = False,
        flows: FlowFunction | None = None,
    ) -> None:
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.function, self.arrays, self._flows = function, arrays, flows

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at ``times``; raises ValueError if the function does not return frames of the input's size."""
        if self.arrays:
            first, last = (to_pixels(image[0], deep=False) for image in (img0, img1))
            frames = self._stack_arrays(list(self.function(first, last, times.tolist())))
        else:
            frames = self.function(img0, img1, times)
            if not isinstance(frames, Tensor):
                raise ValueError(f"{self.name} gave a {type(frames).__name__}; expected a tensor, or say arrays=True")
        frames = frames[None] if frames.dim() == 4 else frames
        return self.check_frames(frames, img0, times).to(img0)

    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows] | None:
        return None if self._flows is None else self._flows(img0, img1, times)

    def _stack_arrays(self, frames: Sequence[Any]) -> Tensor:
        for frame in frames:
            if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
                got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
                raise ValueError(f"{self.name} gave {got}; expected 8-bit frames (H, W, 3)")
        if len({frame.shape for frame in frames}) != 1:
            raise ValueError(f"{self.name} gave frames of sizes {sorted({frame.shape for frame in frames})}")
        return as_images(np.stack(frames))
