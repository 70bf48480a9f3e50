"""Timestamps of all frames of a film: closest distance, and gaps where frames seem to be missing."""

from array import array
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

_REGULAR = 0.9
"""Share of the steps that are alike in a film of constant frame rate."""
_ROUNDED = 1
"""Ticks by which times may be off because they were rounded."""


class FrameTimes:
    """Times of frames in whole ticks: 16 MB for ten hours at 60 frames per second."""

    def __init__(self) -> None:
        self._base = Fraction(1)
        self._ticks = array("q")

    def add(self, time: int | None, base: Fraction, shift: Fraction) -> None:
        """A frame at ``time`` ticks of ``base`` seconds, moved by ``shift`` seconds."""
        if time is not None:
            self._base = base
            self._ticks.append(time + (round(shift / base) if shift else 0))

    def __bool__(self) -> bool:
        return bool(self._ticks)

    @property
    def first(self) -> Fraction:
        """When the first frame is shown, in seconds."""
        return min(self._ticks) * self._base

    @property
    def span(self) -> Fraction:
        """Seconds from the first frame to the last."""
        return (max(self._ticks) - min(self._ticks)) * self._base

    def shortest_step(self) -> Fraction | None:
        """Shortest time from one frame to the next; None if there is a single one."""
        steps = self._steps()
        return int(steps.min()) * self._base if len(steps) else None

    def fits_mean_rate(self) -> bool:
        """Whether frames that are fits_mean_rate at their mean rate each keep their own number."""
        times = np.unique(np.frombuffer(self._ticks, np.int64))
        if len(times) < 3:
            return True
        places = (times - times[0]) * ((len(times) - 1) / float(times[-1] - times[0]))
        return bool((np.abs(places - np.arange(len(times))) < 0.5).all())

    def absent(self) -> tuple[int, Fraction] | None:
        """How many frames seem to be missing, and when the first was due; None where none does.

        They are missed where nearly all steps are alike and the others are multiples of them.
        """
        steps = self._steps()
        if len(steps) < 2:
            return None
        usual = float(np.median(steps))
        times = np.rint(steps / usual)
        regular = np.abs(steps - times * usual) <= np.maximum(_ROUNDED, 0.01 * usual * times)
        long = times > 1
        if not regular.all() or not long.any() or np.count_nonzero(~long) < _REGULAR * len(steps):
            return None
        before = int(np.flatnonzero(long)[0])
        due = (min(self._ticks) + int(steps[:before].sum()) + usual) * self._base
        return int((times[long] - 1).sum()), Fraction(due).limit_denominator(1000)

    def _steps(self) -> Int64[np.ndarray, " n"]:
        return np.diff(np.unique(np.frombuffer(self._ticks, np.int64)))
