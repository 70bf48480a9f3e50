"""Evaluation on a clip: every ``gap``-th frame is given, the frames between are compared.

Inputs are frames ``start, start + gap, start + 2 gap, ...``; an `EvaluationWindow` is two neighbouring inputs
with the ``gap - 1`` true frames between them, at times ``i / gap``. At a gap of 8 every time falls
on a knot of a model with seven keyframes; at 9 none does: measure both.

Across a scene cut there is no motion to find, and in a long film such windows would decide the
mean. `rdvfi.media.scene_cuts.has_cut` looks at the **true** frames, so it is the same for every method.
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

LONG_CLIP = 1000
"""Clips of more frames than this are films: windows with cuts are left out unless asked for."""


@dataclass(frozen=True, eq=False)
class TrueMotion:
    """Where each pixel of the frames between is found in both ends: exact flows on the TARGET grid, in pixels."""

    to_first: Float[Tensor, "t 2 H W"]
    to_last: Float[Tensor, "t 2 H W"]
    visible: Bool[Tensor, "t 2 H W"]
    """Whether the point is seen in the first frame (channel 0) and in the last."""


@dataclass(frozen=True, eq=False)
class EvaluationWindow:
    """Two input frames and the truth between them. ``first`` is the number of the first input."""

    first: int
    frames: UInt8[np.ndarray, "n H W 3"]
    clip: str = ""
    """Which clip of a set it is from."""
    draw_motion: Callable[[], TrueMotion] | None = None
    """Gives the exact motion, where the scene is generated."""

    @cached_property
    def motion(self) -> TrueMotion | None:
        """The exact motion, if it is known."""
        return None if self.draw_motion is None else self.draw_motion()

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


def windows(
    frames: Iterator[Picture], gap: int, *, start: int = 0, pairs: int | None = None
) -> Iterator[EvaluationWindow]:
    """Windows of a stream of frames. At most one window is held in memory.

    Args:
        frames: Frames in order.
        gap: Distance between inputs, in frames; ``gap - 1`` frames are made in each window.
        start: Number of the first frame of the stream, to label windows with.
        pairs: Stop after this many windows.
    """
    if gap < 2:
        raise ValueError(f"gap is {gap}; it must be at least 2, so that a frame lies between")
    if pairs is not None and pairs < 1:
        raise ValueError(f"pairs is {pairs}; it must be at least 1")
    return _windows(frames, gap, start, pairs)


def _windows(frames: Iterator[Picture], gap: int, start: int, pairs: int | None) -> Iterator[EvaluationWindow]:
    held: list[Picture] = []
    count = 0
    for frame in frames:
        held.append(frame)
        if len(held) <= gap:
            continue
        yield EvaluationWindow(start + count * gap, np.stack(held))
        count += 1
        if count == pairs:
            return
        held = held[-1:]
