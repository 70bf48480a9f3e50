"""Detection of interlaced and telecined video from its fields.

Telecine shows 24 frames of film as 30 of video: the fields of every four frames are spread over five, so that of
five frames one repeats the upper field of the frame before, and another one the lower field (3:2, 2:3 and 2:3:3:2
patterns). With the mean differences u and l of the upper and lower fields of neighbouring frames, a field is
repeated if one of the two is less than `_REPEATED` of the other.

Interlaced video is not always marked as such. The rows of one field are compared with the adjacent rows of the other
field, where there is motion: in progressive frames the other field of the same frame fits far better than that of
the frame before or after, in interlaced frames it does not.
"""

from enum import Enum

import av
import numpy as np
from jaxtyping import Int16

from rdvfi.media.colour import plane_rows

_REPEATED = 0.35
"""A field is repeated if its difference is below this share of the other field's difference."""
_MIN_DIFFERENCE = 0.2
"""Mean difference, of 255, below which a frame is a still and no field counts as repeated."""
_MOTION_DIFFERENCE, _MIN_MOVING_SHARE = 12, 0.002
"""Difference, of 255, of a pixel that moves, and the share of such pixels that a frame needs to be judged."""
_PROGRESSIVE_RATIO = 1.25
"""In progressive frames, the fields of other frames fit worse by at least this factor."""
_EQUAL_FIT = 0.08
"""Ratios this close to 1 come from noise and fine detail, which fit any frame alike."""
_MIN_JUDGED_FRAMES = 10
_MAX_COLUMNS = 480
"""Approximate number of columns that are compared."""

_Rows = Int16[np.ndarray, "_ _"]


class _Repeat(Enum):
    """Which field of a frame repeats that of the frame before."""

    NONE, UPPER, LOWER = range(3)


class FieldAnalysis:
    """Statistics of the fields of a video, whose frames are added in order."""

    def __init__(self) -> None:
        self._recent: list[_Rows] = []
        self._repeats: list[_Repeat] = []
        self._interlaced_frames = self._progressive_frames = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Add the next frame; only its luma is read."""
        rows = _luma(frame)
        if rows is None or (self._recent and self._recent[-1].shape != rows.shape):
            self._recent = []
            return
        if self._recent:
            self._repeats.append(_repeated_field(self._recent[-1], rows))
        self._recent = [*self._recent[-2:], rows]
        if len(self._recent) == 3:
            self._compare(*self._recent)

    def _compare(self, before: _Rows, rows: _Rows, after: _Rows) -> None:
        lower = rows[1::2]
        moving = np.abs(lower - before[1::2]) > _MOTION_DIFFERENCE
        moving &= np.abs(after[1::2] - lower) > _MOTION_DIFFERENCE
        if moving.mean() < _MIN_MOVING_SHARE:
            return
        own, *others = (_misfit(lower, upper[0::2], moving) for upper in (rows, before, after))
        ratios = [other / max(own, 1) for other in others]
        progressive = min(ratios) >= _PROGRESSIVE_RATIO
        self._progressive_frames += progressive
        self._interlaced_frames += not progressive and max(abs(ratio - 1) for ratio in ratios) > _EQUAL_FIT

    @property
    def looks_interlaced(self) -> bool:
        """Whether the fields of nearly all frames belong to two times."""
        judged = self._interlaced_frames + self._progressive_frames
        return judged >= _MIN_JUDGED_FRAMES and self._interlaced_frames >= 0.75 * judged

    @property
    def is_telecined(self) -> bool:
        """Whether fields repeat in the pattern of telecine."""
        upper, lower = (np.zeros(5, int) for _ in range(2))  # repeats by number of the frame modulo 5
        for number, repeat in enumerate(self._repeats):
            upper[number % 5] += repeat is _Repeat.UPPER
            lower[number % 5] += repeat is _Repeat.LOWER
        total = int(upper.sum() + lower.sum())
        both = min(upper.max(), lower.max())
        return bool(both >= 2 and upper.argmax() != lower.argmax() and upper.max() + lower.max() >= 0.8 * total)


def _luma(frame: av.VideoFrame) -> _Rows | None:
    """Luma in 8 bits, an even number of rows and about `_MAX_COLUMNS` columns; None for other formats than YUV."""
    pixel_format = frame.format
    is_yuv = pixel_format.name.startswith(("yuv", "nv", "gray", "p0"))
    if pixel_format.is_rgb or pixel_format.has_palette or not frame.planes or not is_yuv:
        return None
    plane, bits = frame.planes[0], pixel_format.components[0].bits
    stored = plane_rows(plane, np.uint16 if bits > 8 else np.uint8)
    sampled = stored[: plane.height // 2 * 2, :: max(1, plane.width // _MAX_COLUMNS)]
    return (sampled >> (bits - 8) if bits > 8 else sampled).astype(np.int16)


def _repeated_field(before: _Rows, rows: _Rows) -> _Repeat:
    upper, lower = (float(np.abs(rows[k::2] - before[k::2]).mean()) for k in (0, 1))
    if max(upper, lower) < _MIN_DIFFERENCE:
        return _Repeat.NONE
    if upper < _REPEATED * lower:
        return _Repeat.UPPER
    return _Repeat.LOWER if lower < _REPEATED * upper else _Repeat.NONE


def _misfit(lower: _Rows, upper: _Rows, moving: np.ndarray) -> float:
    """Sum of the second differences of lower rows and the upper rows around them, over moving pixels."""
    count = min(len(lower), len(upper) - 1)
    second_difference = np.abs(upper[:count] - 2 * lower[:count] + upper[1 : count + 1])
    return float(second_difference[moving[:count]].sum())
