"""A Python function as a method."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from rdvfi.evaluation.baselines import Method
from rdvfi.evaluation.clip_evaluation import as_images
from rdvfi.media.pixels import to_pixels
from rdvfi.types import Flows, Image, Times, Video

FlowFunction = Callable[[Image, Image, Times], tuple[Flows, Flows]]


class FunctionMethod(Method):
    """A function in the place of a method.

    Args:
        make: Called with both end frames and the times of the frames between. It gets and gives tensors:
            frames (1, 3, H, W), floats in [0, 1], and times (t,); back come (1, t, 3, H, W) or
            (t, 3, H, W). With ``arrays`` it gets and gives arrays: frames (H, W, 3), 8 bits, and a list
            of times; back come t such frames, as an array or a sequence.
        name: Of its row; by default that of the function.
        arrays: Whether it works with arrays.
        flows: Where its motion is to be measured as well: flows from each new frame to the first and to
            the last one, (1, t, 2, H, W), in pixels of the frames; called with tensors.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        *,
        name: str | None = None,
        arrays: bool = False,
        flows: FlowFunction | None = None,
    ) -> None:
        self.name = name or getattr(make, "__name__", type(make).__name__)
        self.make, self.arrays, self._flows = make, arrays, flows

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at ``times``; raises ValueError if what came back are not frames of the size of its input."""
        if self.arrays:
            made = self.make(to_pixels(img0[0], deep=False), to_pixels(img1[0], deep=False), times.tolist())
            frames = self._from_arrays(list(made))
        else:
            frames = self.make(img0, img1, times)
            if not isinstance(frames, Tensor):
                raise ValueError(f"{self.name} gave a {type(frames).__name__}; expected a tensor, or say arrays=True")
        frames = frames[None] if frames.dim() == 4 else frames
        expected = (1, len(times), *img0.shape[1:])
        if tuple(frames.shape) != expected:
            raise ValueError(f"{self.name} made frames of {tuple(frames.shape)}; expected {expected}")
        return frames.to(img0)

    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows] | None:
        return None if self._flows is None else self._flows(img0, img1, times)

    def _from_arrays(self, made: Sequence[Any]) -> Tensor:
        for frame in made:
            if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
                got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
                raise ValueError(f"{self.name} gave {got}; expected 8-bit frames (H, W, 3)")
        if len({frame.shape for frame in made}) != 1:
            raise ValueError(f"{self.name} gave frames of sizes {sorted({frame.shape for frame in made})}")
        return as_images(np.stack(made))
