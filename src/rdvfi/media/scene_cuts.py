"""Scene cuts inside a window of frames, for training and evaluation alike.

With ``d_i`` the mean absolute difference of neighbouring frames, reduced to 48x27 pixels and
smoothed, a step is a cut if ``d_i`` is at least `CUT_FLOOR` and at least `CUT_RATIO` times the
median of the other steps. Steady motion, however fast, has steps of like size and is no cut, and so
is a cut that hardly stands out of it; dissolves and fades, where every step is alike, are none
either.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from rdvfi.media.pixels import Picture

CUT_FLOOR = 0.05
"""Smallest mean difference, of a range of 1, that can be a cut."""
CUT_RATIO = 4.0
"""How far a cut stands above the median step of its window."""


def has_cut(frames: Sequence[Picture] | UInt8[np.ndarray, "n H W 3"]) -> bool:
    """Whether the scene changes inside a window of frames of one size.

    Raises:
        ValueError: If there are fewer than three frames, so that no step has others beside it.
    """
    if len(frames) < 3:
        raise ValueError(f"a window of {len(frames)} frames; at least 3 show whether one is a cut")
    *rest, largest = np.sort(_steps(frames))
    return bool(largest >= max(CUT_FLOOR, CUT_RATIO * float(np.median(rest))))


def _steps(frames: Sequence[Picture] | UInt8[np.ndarray, "n H W 3"]) -> Float[np.ndarray, " m"]:
    """Mean absolute difference of neighbouring frames at 48x27, smoothed, in [0, 1]."""
    import cv2

    def small(frame: Picture) -> Float[np.ndarray, "27 48 3"]:
        reduced = cv2.resize(frame, (48, 27), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(reduced.astype(np.float32) / 255.0, (0, 0), 1.0)

    reduced = np.stack([small(frame) for frame in frames])
    return np.abs(np.diff(reduced, axis=0)).mean(axis=(1, 2, 3))
