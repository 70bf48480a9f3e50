"""Statistics of the timestamps of all frames of a video: shortest step, and gaps where frames seem to be missing."""

from array import array
from fractions import Fraction
from numbers import Rational
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

_MIN_REGULAR_SHARE = 0.9
"""Share of equal steps in a video of constant frame rate."""
_ROUNDING_TICKS = 1
"""Ticks by which timestamps may be off because they were rounded."""


class MissingFrames(NamedTuple):
    """Frames that a video of constant frame rate lacks."""

    frames: int
    first_time: Fraction
    """When the first of them should be shown, in seconds."""


class FrameTimes:
    """Timestamps of frames in whole ticks: 16 MB for ten hours at 60 frames per second."""

    def __init__(self) -> None:
        self._time_base = Fraction(1)
        self._ticks = array("q")

    def add(self, timestamp: int | None, time_base: Rational, shift: Fraction) -> None:
        """Add a frame's timestamp, in ticks of ``time_base`` seconds, moved by ``shift`` seconds; None is ignored."""
        if timestamp is not None:
            self._time_base = Fraction(time_base)
            self._ticks.append(timestamp + (round(shift / self._time_base) if shift else 0))

    def __bool__(self) -> bool:
        return bool(self._ticks)

    @property
    def first(self) -> Fraction:
        """When the first frame is shown, in seconds."""
        return min(self._ticks) * self._time_base

    @property
    def span(self) -> Fraction:
        """Seconds from the first frame to the last."""
        return (max(self._ticks) - min(self._ticks)) * self._time_base

    def shortest_step(self) -> Fraction | None:
        """Shortest time from one frame to the next, in seconds; None if there is a single frame."""
        steps = self._steps()
        return int(steps.min()) * self._time_base if len(steps) else None

    def fits_mean_rate(self) -> bool:
        """Whether rounding to the mean frame rate gives the frames the numbers 0, 1, 2, ..."""
        times = np.unique(np.frombuffer(self._ticks, np.int64))
        if len(times) < 3:
            return True
        numbers = (times - times[0]) * ((len(times) - 1) / float(times[-1] - times[0]))
        return bool((np.abs(numbers - np.arange(len(times))) < 0.5).all())

    def missing_frames(self) -> MissingFrames | None:
        """The frames that seem to be missing; None if there are none.

        Frames are missing if nearly all steps are equal and the others are multiples of them.
        """
        steps = self._steps()
        if len(steps) < 2:
            return None
        usual = float(np.median(steps))
        multiples = np.rint(steps / usual)
        tolerance = np.maximum(_ROUNDING_TICKS, 0.01 * usual * multiples)
        regular = np.abs(steps - multiples * usual) <= tolerance
        long = multiples > 1
        if not regular.all() or not long.any() or np.count_nonzero(~long) < _MIN_REGULAR_SHARE * len(steps):
            return None
        steps_before = steps[: int(np.flatnonzero(long)[0])]
        first_time = (min(self._ticks) + int(steps_before.sum()) + usual) * self._time_base
        return MissingFrames(int((multiples[long] - 1).sum()), Fraction(first_time).limit_denominator(1000))

    def _steps(self) -> Int64[np.ndarray, " n"]:
        return np.diff(np.unique(np.frombuffer(self._ticks, np.int64)))
