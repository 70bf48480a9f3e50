"""Windows of an evaluation: two input frames, and the true frames between them.

The inputs of a clip are frames ``start, start + gap, start + 2 gap, ...``; an `EvaluationWindow` holds two
consecutive inputs and the ``gap - 1`` true frames between them, at times ``i / gap``. With seven keyframes, every
time of a gap of 8 is a knot and none of a gap of 9 is; measure both.

There is no motion across a scene cut, and in a film such windows would dominate the mean.
`rdvfi.media.scene_cuts.has_cut` decides by the **true** frames, so it skips the same windows for every method.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from rdvfi.media.pixels import Picture
from rdvfi.types import Image, Times

LONG_CLIP_FRAMES = 1000
"""In clips with more frames than this, windows with scene cuts are skipped by default."""


@dataclass(frozen=True, eq=False)
class TrueMotion:
    """Exact flows from the frames between to both end frames, on the TARGET grid, in pixels."""

    to_first: Float[Tensor, "t 2 H W"]
    to_last: Float[Tensor, "t 2 H W"]
    visible: Bool[Tensor, "t 2 H W"]
    """Whether the point is visible in the first frame (channel 0) and in the last (channel 1)."""


@dataclass(frozen=True, eq=False)
class EvaluationWindow:
    """Two input frames and the true frames between them. ``first`` is the number of the first input."""

    first: int
    frames: UInt8[np.ndarray, "n H W 3"]
    clip: str = ""
    """Name of the clip, in a set of several."""
    compute_motion: Callable[[], TrueMotion] | None = None
    """Computes the exact motion of a generated scene."""

    @cached_property
    def motion(self) -> TrueMotion | None:
        """The exact motion, or None if it is unknown."""
        return None if self.compute_motion is None else self.compute_motion()

    @property
    def times(self) -> Times:
        """Times of the true frames."""
        gap = len(self.frames) - 1
        return torch.arange(1, gap, dtype=torch.float32) / gap

    def inputs(self, device: torch.device) -> tuple[Image, Image]:
        """The two input frames, in [0, 1]."""
        return as_images(self.frames[:1]).to(device), as_images(self.frames[-1:]).to(device)

    def truth(self) -> Float[Tensor, "t 3 H W"]:
        """The true frames between them, in [0, 1]."""
        return as_images(self.frames[1:-1])


def as_images(frames: UInt8[np.ndarray, "n H W 3"]) -> Float[Tensor, "n 3 H W"]:
    """8-bit frames as images in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().float().div_(255.0)


def split_windows(
    frames: Iterator[Picture], gap: int, *, start: int = 0, pairs: int | None = None
) -> Iterator[EvaluationWindow]:
    """Split a stream of frames into windows. At most one window is held in memory.

    Args:
        frames: Frames in order.
        gap: Distance between inputs, in frames.
        start: Number of the first frame of the stream.
        pairs: Stop after this many windows.
    """
    if gap < 2:
        raise ValueError(f"gap is {gap}; it must be at least 2, so that there is a frame between")
    if pairs is not None and pairs < 1:
        raise ValueError(f"pairs is {pairs}; it must be at least 1")
    return _iterate_windows(frames, gap, start, pairs)


def _iterate_windows(frames: Iterator[Picture], gap: int, start: int, pairs: int | None) -> Iterator[EvaluationWindow]:
    buffer: list[Picture] = []
    count = 0
    for frame in frames:
        buffer.append(frame)
        if len(buffer) <= gap:
            continue
        yield EvaluationWindow(start + count * gap, np.stack(buffer))
        count += 1
        if count == pairs:
            return
        buffer = buffer[-1:]
