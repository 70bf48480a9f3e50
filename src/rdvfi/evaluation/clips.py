"""The evaluation protocol over a clip: keep every ``gap``-th frame, make the ones between.

Inputs are frames ``start, start + gap, start + 2 gap, ...``; a `Window` is two neighbouring inputs
with the ``gap - 1`` true frames between them, at times ``i / gap``. At a gap of 8 every time falls
on one of nine keyframes; at 9 none does: measure both.

Across a scene cut there is no motion to find, and in a long film such windows would decide the
mean. `has_cut` looks at the **true** frames, so it is the same for every method. With ``d_i`` the
mean absolute difference of neighbouring frames, reduced to 48x27 pixels and smoothed, a step is a
cut if ``d_i`` is at least `CUT_FLOOR` and at least `CUT_RATIO` times the median of the other steps.
Steady motion, however fast, has steps of like size and is kept, and with it a cut that hardly
stands out of it; dissolves and fades, where every step is alike, are kept too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rdvfi.evaluation.frames import Picture
from rdvfi.types import Image, Times

CUT_FLOOR = 0.05
"""Smallest mean difference, of a range of 1, that can be a cut."""
CUT_RATIO = 4.0
"""How far a cut stands above the median step of its window."""
LONG_CLIP = 1000
"""Clips of more frames than this are films: windows with cuts are left out unless asked for."""


@dataclass(frozen=True, eq=False)
class Window:
    """Two input frames and the truth between them. ``first`` is the number of the first input."""

    first: int
    frames: UInt8[np.ndarray, "n H W 3"]

    @property
    def times(self) -> Times:
        """Times of the true frames."""
        gap = len(self.frames) - 1
        return torch.arange(1, gap, dtype=torch.float32) / gap

    def inputs(self, device: torch.device) -> tuple[Image, Image]:
        """The two input frames, in [0, 1]."""
        return _tensor(self.frames[:1]).to(device), _tensor(self.frames[-1:]).to(device)

    def truth(self) -> Float[Tensor, "t 3 H W"]:
        """The true frames between them, in [0, 1]."""
        return _tensor(self.frames[1:-1])


def _tensor(frames: UInt8[np.ndarray, "n H W 3"]) -> Float[Tensor, "n 3 H W"]:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().float().div_(255.0)


def windows(
    frames: Iterator[Picture], gap: int, *, start: int = 0, pairs: int | None = None
) -> Iterator[Window]:
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


def _windows(
    frames: Iterator[Picture], gap: int, start: int, pairs: int | None
) -> Iterator[Window]:
    held: list[Picture] = []
    made = 0
    for frame in frames:
        held.append(frame)
        if len(held) <= gap:
            continue
        yield Window(start + made * gap, np.stack(held))
        made += 1
        if made == pairs:
            return
        held = held[-1:]


def has_cut(window: Window) -> bool:
    """Whether the scene changes inside a window, judged on its true frames."""
    *rest, largest = np.sort(_steps(window.frames))
    return bool(largest >= max(CUT_FLOOR, CUT_RATIO * float(np.median(rest))))


def _steps(frames: UInt8[np.ndarray, "n H W 3"]) -> Float[np.ndarray, " m"]:
    """Mean absolute difference of neighbouring frames at 48x27, smoothed, in [0, 1]."""
    import cv2

    def small(frame: Picture) -> np.ndarray:
        reduced = cv2.resize(frame, (48, 27), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(reduced.astype(np.float32) / 255.0, (0, 0), 1.0)

    reduced = np.stack([small(frame) for frame in frames])
    return np.abs(np.diff(reduced, axis=0)).mean(axis=(1, 2, 3))
