"""When each output frame is shown: exact, pure, streaming.

Time is a `Fraction` of a second everywhere, never a float and never a frame count times a mean
rate: that is how interpolated videos drift away from their sound. A source frame is shown from its
own timestamp until that of the next one; this span is an `Interval`. A `Retiming` turns every
interval into the `Moment`s of the output that fall into it::

    source     |---- interval 0 ----|-- interval 1 --|---- interval 2 (the last) ----|
    x4         |----|----|----|-----|---|---|---|----|-------------------------------|

* `Multiply` divides every interval by m. So n source frames give (n - 1) m + 1, a variable frame
  rate stays variable, every source frame is kept in its place, the span from the first to the last
  timestamp is exactly the source's and the last frame keeps its own duration.
* `Resample` shows a frame every 1/fps seconds from the first timestamp to the end of the last
  interval. No frame is invented after the last source frame: it is repeated, and its last showing
  is cut where the source ends.

Both need one interval at a time, so a plan never holds more than one pair of frames.
"""

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import SupportsFloat

from rdvfi.media.timestamps import Moment, Stamp


@dataclass(frozen=True)
class Interval:
    """The span in which one source frame is the latest one."""

    index: int
    """Number of the source frame at its start."""
    start: Fraction
    end: Fraction
    last: bool
    """Whether no source frame follows, so that there is nothing to interpolate towards."""


class Retiming(ABC):
    """A rule that maps source time to output frames."""

    @abstractmethod
    def moments(self, interval: Interval, origin: Fraction, *, hold: bool = False) -> Iterator[Moment]:
        """The output frames that start within ``interval``.

        Args:
            interval: The span.
            origin: Timestamp of the first source frame.
            hold: Show the frame at its start all the time, instead of new ones.
        """

    @abstractmethod
    def time_base(self, source: Fraction) -> Fraction:
        """A tick in which every output timestamp is whole, if the source's are in ``source``."""

    @abstractmethod
    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """How many frames come out of ``frames`` source frames.

        Args:
            frames: Number of source frames.
            span: From the first timestamp to the last.
            duration: How long the last frame is shown.
        """


@dataclass(frozen=True)
class Multiply(Retiming):
    """``multiplier`` - 1 new frames between every two source frames."""

    multiplier: int

    def __post_init__(self) -> None:
        if self.multiplier < 1:
            raise ValueError(f"multiplier is {self.multiplier}; it must be a whole number >= 1")

    def moments(self, interval: Interval, origin: Fraction, *, hold: bool = False) -> Iterator[Moment]:
        """The source frame, then evenly spaced new frames up to the next one."""
        count = 1 if interval.last or hold else self.multiplier
        step = (interval.end - interval.start) / count
        for j in range(count):
            yield Moment(interval.index, Fraction(j, count), interval.start + j * step, step)

    def time_base(self, source: Fraction) -> Fraction:
        """Every interval is a whole number of source ticks, and is divided by the multiplier."""
        return source / self.multiplier

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """(n - 1) m + 1, whatever the timestamps."""
        return max(0, (frames - 1) * self.multiplier + 1)


@dataclass(frozen=True)
class Resample(Retiming):
    """A constant ``fps`` frames per second."""

    fps: Fraction

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"target_fps is {self.fps}; it must be greater than 0")

    def moments(self, interval: Interval, origin: Fraction, *, hold: bool = False) -> Iterator[Moment]:
        """The multiples of 1/fps after ``origin`` that lie in [start, end)."""
        length = interval.end - interval.start
        first = math.ceil((interval.start - origin) * self.fps)
        stop = math.ceil((interval.end - origin) * self.fps)
        for k in range(first, stop):
            time = origin + k / self.fps
            still = interval.last or hold
            duration = 1 / self.fps
            if interval.last:
                # The output ends when the source ends, also inside the last frame's slot.
                duration = min(duration, interval.end - time)
            yield Moment(interval.index, Fraction(0) if still else (time - interval.start) / length, time, duration)

    def time_base(self, source: Fraction) -> Fraction:
        """The largest tick that divides both the source's and 1/fps."""
        return _common_divisor(source, 1 / self.fps)

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """One frame for every 1/fps that begins before the end."""
        return math.ceil((span + duration) * self.fps) if frames else 0


def intervals(stamps: Iterable[Stamp]) -> Iterator[Interval]:
    """The interval of every source frame, each as soon as the next frame is known.

    Raises:
        ValueError: If timestamps do not increase, or the last duration is not positive.
    """
    previous: Stamp | None = None
    index = 0
    for stamp in stamps:
        if previous is not None:
            if stamp.time <= previous.time:
                raise ValueError(
                    f"source frame {index + 1} is at {float(stamp.time):.6f} s, not after frame "
                    f"{index} at {float(previous.time):.6f} s"
                )
            yield Interval(index, previous.time, stamp.time, last=False)
            index += 1
        previous = stamp
    if previous is not None:
        if previous.duration <= 0:
            raise ValueError(f"the last source frame lasts {previous.duration} s, expected > 0")
        yield Interval(index, previous.time, previous.time + previous.duration, last=True)


def schedule(
    stamps: Iterable[Stamp], retiming: Retiming, *, max_gap: Fraction | None = None
) -> Iterator[tuple[Interval, Iterator[Moment]]]:
    """Every interval with its output frames, in order, lazily.

    Args:
        stamps: When source frames are shown.
        retiming: Where output frames are wanted.
        max_gap: Intervals of more than this many seconds are not filled: their first frame is held.
    """
    origin: Fraction | None = None
    for interval in intervals(stamps):
        origin = interval.start if origin is None else origin
        hold = max_gap is not None and not interval.last and interval.end - interval.start > max_gap
        yield interval, retiming.moments(interval, origin, hold=hold)


def choose_retiming(multiplier: SupportsFloat | None, target_fps: SupportsFloat | None) -> Retiming:
    """The rule that exactly one of the two arguments names.

    A float rate such as 29.97 is read as the fraction that it abbreviates, 30000/1001.
    """
    if (multiplier is None) == (target_fps is None):
        raise ValueError("give either multiplier or target_fps, not both and not neither")
    if target_fps is not None:
        return Resample(exact_rate(target_fps))
    assert multiplier is not None
    return Multiply(whole_number("multiplier", multiplier))


def whole_number(name: str, value: SupportsFloat) -> int:
    """An integer of any kind, also 2.0 and NumPy's.

    Raises:
        ValueError: If it is none.
    """
    real = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    if not real.is_integer():
        raise ValueError(f"{name} is {value!r}; it must be a whole number")
    return int(real)


def exact_rate(rate: SupportsFloat) -> Fraction:
    """A frame rate as a fraction; 23.976, 29.97, 59.94.. mean n * 1000/1001."""
    if not isinstance(rate, numbers.Rational):
        if not math.isfinite(rate := float(rate)):
            raise ValueError(f"frame rate is {rate}; it must be a finite number")
        ntsc = Fraction(round(rate * 1.001) * 1000, 1001)
        # Rounded to two or three places it is the broadcast rate that is meant.
        if ntsc > 0 and abs(rate - float(ntsc)) < 6e-4 * max(1.0, rate / 24.0):
            return ntsc
        return Fraction(rate).limit_denominator(100_000)
    return Fraction(int(rate.numerator), int(rate.denominator))


def _common_divisor(a: Fraction, b: Fraction) -> Fraction:
    """The largest fraction of which both are whole multiples."""
    denominator = a.denominator * b.denominator
    numerator = math.gcd(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(numerator, denominator)
