"""Presentation times of output frames: exact, pure, lazy.

Time is a fraction of a second everywhere, never a float and never a frame count times a mean
rate: that is how interpolated videos drift away from their sound. A source frame is shown from its
own timestamp until that of the next one; this span is an `Interval`. A `Retiming` turns every
interval into the `Moment`s of the output that fall into it::

    source     |---- interval 0 ----|-- interval 1 --|---- interval 2 (the last) ----|
    x4         |----|----|----|-----|---|---|---|----|-------------------------------|

* `Multiply` divides every interval by m, any positive fraction: it shows what lies at 0, 1/m, 2/m, ...
  if source frames are counted 0, 1, 2, ... With a whole m, n source frames give (n - 1) m + 1; with any,
  the least whole number that is not below. A variable frame rate stays variable, every source frame
  that is asked for is kept in its place, and output ends when the source does.
* `Resample` shows a frame every 1/fps seconds from the first timestamp to the end of the last
  interval. No frame is invented after the last source frame: it is repeated, and its last showing
  is cut where the source ends.
* `Listed` shows frames at given times of the source.

All need one interval at a time, so a plan never holds more than one pair of frames. They count in whole
ticks of a denominator that all times of the interval have in common: three hours at 60 frames per
second are planned in half a second. Curves of speed are in `rdvfi.video.speed_curve`.
"""

import math
import numbers
import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, SupportsFloat, TypeVar

from rdvfi.media.timestamps import Moment, Stamp

T = TypeVar("T")

_new = tuple.__new__
"""A moment of whole numbers as they are."""
_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18}|\d{1,18}/\d{1,18})")
"""Numbers as people write them; exponents of a thousand digits would take for ever."""


class Interval(NamedTuple):
    """The span in which one source frame is the latest one."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    """Number of the source frame at its start."""
    start: Fraction
    end: Fraction
    last: bool
    """Whether no source frame follows, so that there is nothing to interpolate towards."""
    repeats: tuple[Fraction, ...] = ()
    """When the frame at its start was shown once more; new frames take the place of these."""


class Retiming(ABC):
    """A rule that maps source time to output frames."""

    regular: bool = False
    """Whether every output frame but the last is shown equally long."""
    lasts: bool = False
    """Whether the last frame is shown until the source ends, wherever it begins."""

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


class IntervalRetiming(Retiming):
    """A rule that goes through the source once, interval after interval."""

    @abstractmethod
    def through(
        self, spans: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """The output frames that start within intervals that follow each other, in order.

        Durations are right but for those of frames that are shown across an interval's end, which
        `rdvfi.video.segmented_jobs.segments.settled` corrects.

        Args:
            spans: The intervals.
            origin: Timestamp of the first source frame; the start of the first interval if not given.
            max_gap: Intervals of more than this many seconds are not filled: their first frame is held.
        """

    def moments(self, interval: Interval, origin: Fraction, *, hold: bool = False) -> Iterator[Moment]:
        """The output frames of one interval.

        Args:
            interval: The span.
            origin: Timestamp of the first source frame.
            hold: Show the frame at its start all the time, instead of new ones.
        """
        return self.through((interval,), origin=origin, max_gap=Fraction(0) if hold else None)


@dataclass(frozen=True)
class Multiply(IntervalRetiming):
    """``multiplier`` times as many frames: any positive fraction."""

    multiplier: Fraction | int

    lasts = True

    def __post_init__(self) -> None:
        if self.multiplier <= 0:
            raise ValueError(f"multiplier is {self.multiplier}; it must be greater than 0")

    def through(
        self, spans: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """What lies at k / multiplier, source frames and their repeats being counted."""
        p, q = self.multiplier.numerator, self.multiplier.denominator
        for index, begin, finish, final, repeats in spans:
            marks = (begin, *repeats, finish)
            per_second = p * math.lcm(*(mark.denominator for mark in marks))
            ticks = [mark.numerator * (per_second // mark.denominator) for mark in marks]
            zero, length = ticks[0], ticks[-1] - ticks[0]
            hold = not final and max_gap is not None and finish - begin > max_gap
            shown = False
            for piece, (start, end) in enumerate(pairwise(ticks)):
                number = index + piece
                held = hold or (final and piece == len(repeats))  # there one frame is enough
                step = (end - start) // p  # whole: a tick is one part in p of any time
                first = -(-number * p // q)
                for k in range(first, -(-(number + 1) * p // q)):
                    if held and (k > first or (hold and shown)):
                        break
                    at, shown = start + (k * q - number * p) * step, True
                    lasts = (ticks[-1] if hold else end) - at if held else step * q
                    yield _new(Moment, (index, 0 if hold or final else at - zero, length, at, lasts, per_second))

    def time_base(self, source: Fraction) -> Fraction:
        """Every interval is a whole number of source ticks, and is divided by the multiplier's numerator."""
        return source / self.multiplier.numerator

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """ceil((n - 1) m) + 1, whatever the timestamps; one less if that lies after the end."""
        if frames == 0:
            return 0
        last = math.ceil((frames - 1) * self.multiplier)
        return last + (last < frames * self.multiplier)


@dataclass(frozen=True)
class Resample(IntervalRetiming):
    """A constant ``fps`` frames per second."""

    fps: Fraction

    regular = True

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"target_fps is {self.fps}; it must be greater than 0")

    def through(
        self, spans: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """The multiples of 1/fps after ``origin`` that lie in [start, end)."""
        rate, divisor = self.fps.as_integer_ratio()
        for index, begin, finish, last, _ in spans:
            origin = begin if origin is None else origin
            first, of_first = begin.as_integer_ratio()
            stop, of_stop = finish.as_integer_ratio()
            zero, of_zero = origin.as_integer_ratio()
            per_second = math.lcm(of_first, of_stop, of_zero, rate)
            first, stop = first * (per_second // of_first), stop * (per_second // of_stop)
            zero, step = zero * (per_second // of_zero), divisor * (per_second // rate)
            gap = not last and max_gap is not None and finish - begin > max_gap
            still, length = last or gap, stop - first
            times = range(first + (zero - first) % step, stop, step)
            if gap and times:  # one frame is shown all the time: hours of it would be hundreds of thousands
                yield _new(Moment, (index, 0, length, times[0], len(times) * step, per_second))
                continue
            for at in times:
                # The output ends when the source ends, also inside the last frame's slot.
                lasts = min(step, stop - at) if last else step
                yield _new(Moment, (index, 0 if still else at - first, length, at, lasts, per_second))

    def time_base(self, source: Fraction) -> Fraction:
        """The largest tick that divides both the source's and 1/fps."""
        return common_divisor(source, 1 / self.fps)

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """One frame for every 1/fps that begins before the end."""
        return math.ceil((span + duration) * self.fps) if frames else 0


@dataclass(frozen=True)
class Listed(IntervalRetiming):
    """Frames at ``times`` of the source, rising, in seconds; each is shown at its time."""

    times: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if not self.times:
            raise ValueError("timestamps is empty; give at least one time")
        for k, (now, after) in enumerate(pairwise(self.times)):
            if after <= now:
                raise ValueError(f"timestamps[{k + 1}] is {after}, not after {now}; timestamps must rise")

    def through(
        self, spans: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """Those of the times that lie in [start, end); before the first frame and after the last there is none."""
        for index, begin, finish, last, _ in spans:
            low, high = bisect_left(self.times, begin), bisect_left(self.times, finish)
            length = finish - begin
            still = last or (max_gap is not None and length > max_gap)
            for time, after in zip(self.times[low:high], (*self.times[low + 1 : high + 1], finish), strict=False):
                until = min(after, finish) if last else after
                yield Moment(index, Fraction(0) if still else (time - begin) / length, time, until - time)

    def time_base(self, source: Fraction) -> Fraction:
        """The largest tick that divides the source's and all times."""
        return Fraction(1, math.lcm(source.denominator, *(time.denominator for time in self.times)))

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """As many as there are times."""
        return len(self.times) if frames else 0


def intervals(stamps: Iterable[Stamp], *, loop: bool = False, first: int = 0) -> Iterator[Interval]:
    """The interval of every source frame, each as soon as the next frame is known.

    Args:
        stamps: When source frames are shown; repeats belong to the interval of the frame before.
        loop: The last stamp is that of the first frame, shown again: it only ends the interval before.
        first: Number of the first frame.

    Raises:
        ValueError: If timestamps do not increase, or the last duration is not positive.
    """
    begin: Stamp | None = None
    previous: Stamp | None = None
    index = number = first
    repeats: tuple[Fraction, ...] = ()
    for stamp in stamps:
        if previous is None or begin is None:
            begin = stamp
        else:
            (a, b), (c, d) = stamp.time.as_integer_ratio(), previous.time.as_integer_ratio()
            if a * d <= c * b:  # four times faster than comparing fractions
                raise ValueError(
                    f"source frame {number} is at {float(stamp.time):.6f} s, not after frame "
                    f"{number - 1} at {float(previous.time):.6f} s"
                )
            if stamp.repeat:
                repeats += (stamp.time,)
            else:
                yield _new(Interval, (index, begin.time, stamp.time, False, repeats))
                begin, index, repeats = stamp, number, ()
        previous = stamp
        number += 1
    if begin is not None and previous is not None and not loop:
        if previous.duration <= 0:
            raise ValueError(f"the last source frame lasts {previous.duration} s, expected > 0")
        yield Interval(index, begin.time, previous.time + previous.duration, True, repeats)


def schedule(
    stamps: Iterable[Stamp],
    retiming: IntervalRetiming,
    *,
    max_gap: Fraction | None = None,
    loop: bool = False,
    first: int = 0,
    origin: Fraction | None = None,
) -> Iterator[tuple[Interval, Iterator[Moment]]]:
    """Every interval with its output frames, in order, lazily.

    Args:
        stamps: When source frames are shown.
        retiming: Where output frames are wanted.
        max_gap: Intervals of more than this many seconds are not filled: their first frame is held.
        loop: The last stamp is that of the first frame, shown again.
        first: Number of the first frame.
        origin: When frame 0 is shown; needed unless it is the first.
    """
    for interval in intervals(stamps, loop=loop, first=first):
        origin = interval.start if origin is None else origin
        hold = max_gap is not None and not interval.last and interval.end - interval.start > max_gap
        yield interval, retiming.moments(interval, origin, hold=hold)


def plan(stamps: Iterable[Stamp], retiming: IntervalRetiming, *, max_gap: Fraction | None = None) -> Iterator[Moment]:
    """All output frames in order, lazily: which pair of source frames, where between them, when and how long.

    It holds one moment at a time, so the source may last for hours.

    Args:
        stamps: When source frames are shown.
        retiming: Where output frames are wanted.
        max_gap: Intervals of more than this many seconds are held.
    """
    end: Fraction | None = None

    def noted() -> Iterator[Interval]:
        nonlocal end
        for interval in intervals(stamps):
            end = interval.end
            yield interval

    moments = retiming.through(noted(), max_gap=max_gap)
    if retiming.regular:
        yield from moments
        return
    before: Moment | None = None
    for moment in moments:
        if before is not None:
            yield before if before.is_followed_by(moment) else before.until(moment.time)
        before = moment
    if before is not None:
        yield before.until(end if retiming.lasts else None)


def choose_retiming(
    multiplier: SupportsFloat | str | None,
    target_fps: SupportsFloat | str | None,
    timestamps: Iterable[SupportsFloat | str] | None = None,
) -> Retiming:
    """The rule that exactly one of the arguments names.

    A float rate such as 29.97 is read as the fraction that it abbreviates, 30000/1001.
    """
    if sum(value is not None for value in (multiplier, target_fps, timestamps)) != 1:
        raise ValueError("give either multiplier or target_fps, or timestamps; one of them")
    if target_fps is not None:
        return Resample(exact_rate(target_fps))
    if timestamps is not None:
        return Listed(tuple(exact_number(f"timestamps[{k}]", time) for k, time in enumerate(timestamps)))
    assert multiplier is not None
    return Multiply(exact_number("multiplier", multiplier))


def exact_number(name: str, value: SupportsFloat | str) -> Fraction:
    """A number of any kind as a fraction: 2, 2.5, NumPy's, ``"24000/1001"``.

    Raises:
        ValueError: If it is none, or not finite.
    """
    try:
        if isinstance(value, str) and _NUMBER.fullmatch(value) is None:
            raise ValueError
        if isinstance(value, (str, numbers.Rational)) and not isinstance(value, bool):
            return Fraction(value) if isinstance(value, str) else Fraction(int(value.numerator), int(value.denominator))
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return Fraction(repr(float(value)))  # 0.1 is a tenth
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(f"{name} is {value!r}; it must be a number such as 2, 2.5 or 24000/1001")


def exact_rate(rate: SupportsFloat | str, name: str = "frame rate") -> Fraction:
    """A frame rate as a fraction; 23.976, 29.97, 59.94.. mean n * 1000/1001."""
    if isinstance(rate, numbers.Rational) or (isinstance(rate, str) and "/" in rate):
        return exact_number(name, rate)
    try:
        decimal = float(rate)
    except (TypeError, ValueError):
        decimal = math.nan
    if not math.isfinite(decimal):
        raise ValueError(f"{name} is {rate}; it must be a finite number")
    ntsc = Fraction(round(decimal * 1.001) * 1000, 1001)
    # Rounded to two or three places it is the broadcast rate that is meant.
    if ntsc > 0 and abs(decimal - float(ntsc)) < 6e-4 * max(1.0, decimal / 24.0):
        return ntsc
    return Fraction(decimal).limit_denominator(100_000)


def common_divisor(a: Fraction, b: Fraction) -> Fraction:
    """The largest fraction of which both are whole multiples."""
    denominator = a.denominator * b.denominator
    numerator = math.gcd(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(numerator, denominator)
