"""Detection of interlaced and telecined video from its fields.

Telecine shows 24 frames of film as 30 of video: fields of each four frames are spread over five, so
that among five frames one repeats the upper field of the one before, and another the lower (3:2, 2:3
and 2:3:3:2 patterns). With the mean differences u and l of upper and lower fields of neighbouring
frames, a field is repeated where one of the two is less than `_STILL` of the other.

A film that is interlaced is not always marked as such. The rows of one field are compared with those
of the other field around them, at the same place where there is motion: in whole frames the field of
the same frame fits far better than that of the frame before or after, in interlaced ones it does not.
"""

import av
import numpy as np
from jaxtyping import Int16

from rdvfi.media.colour import plane_rows

_STILL = 0.35
"""A field of which less than this share of the other one's difference is left is repeated."""
_MOVING, _LEAST = 12, 0.002
"""Difference, of 255, of pixels that move, and the share of them from which on a frame tells anything."""
_FITS = 1.25
"""In whole frames, other frames' fields fit worse by at least this factor."""
_EQUAL = 0.08
"""Noise and fine detail fit any frame alike, up to this."""
_FRAMES = 10
"""Frames with motion that are needed for a judgement."""
_WIDEST = 480
"""Columns that are looked at, about."""

_Rows = Int16[np.ndarray, "_ _"]


class Fields:
    """Sees the frames of a film in order."""

    def __init__(self) -> None:
        self._before: list[_Rows] = []
        self._repeats: list[str] = []
        self._mixed = self._whole = 0

    def see(self, frame: av.VideoFrame) -> None:
        """The next frame; its brightness alone is looked at."""
        rows = _luma(frame)
        if rows is None or (self._before and self._before[-1].shape != rows.shape):
            self._before = []
            return
        if self._before:
            self._repeats.append(_repeat(self._before[-1], rows))
        self._before = [*self._before[-2:], rows]
        if len(self._before) == 3:
            self._compare(*self._before)

    def _compare(self, before: _Rows, rows: _Rows, after: _Rows) -> None:
        lower = rows[1::2]
        moves = (np.abs(lower - before[1::2]) > _MOVING) & (np.abs(after[1::2] - lower) > _MOVING)
        if moves.mean() < _LEAST:
            return
        own, *others = (_misfit(lower, upper[0::2], moves) for upper in (rows, before, after))
        ratios = [other / max(own, 1) for other in others]
        self._whole += min(ratios) >= _FITS
        self._mixed += min(ratios) < _FITS and max(abs(ratio - 1) for ratio in ratios) > _EQUAL

    @property
    def mixed(self) -> bool:
        """Whether nearly all frames are made of two times."""
        seen = self._mixed + self._whole
        return seen >= _FRAMES and self._mixed >= 0.75 * seen

    @property
    def telecined(self) -> bool:
        """Whether fields repeat as telecine repeats them."""
        counts = [dict.fromkeys("ul", 0) for _ in range(5)]
        for number, repeat in enumerate(self._repeats):
            if repeat in "ul" and repeat:
                counts[number % 5][repeat] += 1
        total = sum(sum(count.values()) for count in counts)
        upper, lower = (max(range(5), key=lambda k, which=which: counts[k][which]) for which in "ul")
        both = min(counts[upper]["u"], counts[lower]["l"])
        return both >= 2 and upper != lower and counts[upper]["u"] + counts[lower]["l"] >= 0.8 * total


def _luma(frame: av.VideoFrame) -> _Rows | None:
    """HdrMetadata in 8 bits, an even number of rows and about `_WIDEST` columns; None for other formats than YUV."""
    form = frame.format
    if form.is_rgb or form.has_palette or not frame.planes or not form.name.startswith(("yuv", "nv", "gray", "p0")):
        return None
    plane = frame.planes[0]
    deep = form.components[0].bits > 8
    stored = plane_rows(plane, np.uint16 if deep else np.uint8)
    part = stored[: plane.height // 2 * 2, :: max(1, plane.width // _WIDEST)]
    return (part >> (form.components[0].bits - 8) if deep else part).astype(np.int16)


def _repeat(before: _Rows, rows: _Rows) -> str:
    """The field that is repeated: ``u``, ``l`` or nothing."""
    upper, lower = (float(np.abs(rows[k::2] - before[k::2]).mean()) for k in (0, 1))
    if max(upper, lower) < 0.2:
        return ""
    return "u" if upper < _STILL * lower else "l" if lower < _STILL * upper else ""


def _misfit(lower: _Rows, upper: _Rows, moves: np.ndarray) -> float:
    """How little lower rows lie between the upper ones around them, where there is motion."""
    count = min(len(lower), len(upper) - 1)
    bend = np.abs(upper[:count] - 2 * lower[:count] + upper[1 : count + 1])
    return float(bend[moves[:count]].sum())
