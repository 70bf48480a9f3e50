"""Presentation times of output frames: exact, pure, lazy.

Time is a fraction of a second everywhere, never a float and never a frame count times a mean rate, which would make
interpolated videos drift away from their audio. A source frame is shown from its own timestamp until that of the next
one; this span is an `Interval`. A `Retiming` maps every interval to the `Moment`s of the output that start in it::

    source     |---- interval 0 ----|-- interval 1 --|---- interval 2 (the last) ----|
    x4         |----|----|----|-----|---|---|---|----|-------------------------------|

* `Multiply` divides every interval by m, any positive fraction: with source frames numbered 0, 1, 2, ..., output
  frames are at 0, 1/m, 2/m, ... For n source frames these are ceil((n - 1) m) + 1. A variable frame rate stays
  variable, source frames at output times keep their place, and the output ends with the source.
* `Resample` shows a frame every 1/fps seconds from the first timestamp to the end of the last interval. After the last
  source frame nothing is interpolated: it is repeated, and its last duration is cut where the source ends.
* `ListedTimes` shows frames at given times of the source.

All need one interval at a time, so a plan never holds more than one pair of frames. They count in whole ticks of a
denominator that all times of the interval have in common: three hours at 60 frames per second are planned in half a
second. Speed curves are in `rdvfi.video.speed_curve`.
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

_new_tuple = tuple.__new__
"""Makes a `Moment` from its ticks, or an `Interval`, faster than their constructors."""
_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18}|\d{1,18}/\d{1,18})")
"""Numbers in decimal notation or as fractions; exponents are excluded, since huge ones would take very long."""


class Interval(NamedTuple):
    """The span from one source frame to the next."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    """Number of the source frame at its start."""
    start: Fraction
    end: Fraction
    last: bool
    """Whether no source frame follows."""
    repeats: tuple[Fraction, ...] = ()
    """Times at which the frame at its start is repeated; new frames replace the repeats."""


class Retiming(ABC):
    """A rule that maps source time to output frames."""

    is_regular: bool = False
    """Whether all output frames but the last have equal durations."""
    holds_to_end: bool = False
    """Whether the last output frame is shown until the source ends."""

    @abstractmethod
    def time_base(self, source: Fraction) -> Fraction:
        """A tick that divides every output timestamp, for source timestamps that are multiples of ``source``."""

    @abstractmethod
    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """The number of output frames, which is exact unless a subclass says otherwise.

        Args:
            frames: Number of source frames.
            span: From the first timestamp to the last.
            duration: Of the last source frame.
        """


class IntervalRetiming(Retiming):
    """A rule that plays the source once, interval after interval."""

    @abstractmethod
    def moments(
        self, intervals: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """The output frames that start within successive intervals, in order.

        The duration of a frame that is shown beyond the end of its interval is not final;
        `rdvfi.video.segmented_jobs.segments.settle_durations` corrects it.

        Args:
            intervals: The intervals.
            origin: Timestamp of the first source frame; the start of the first interval if not given.
            max_gap: Seconds above which an interval is not interpolated: its first frame is held.
        """


@dataclass(frozen=True)
class Multiply(IntervalRetiming):
    """``multiplier`` times as many frames: any positive fraction."""

    multiplier: Fraction | int

    holds_to_end = True

    def __post_init__(self) -> None:
        if self.multiplier <= 0:
            raise ValueError(f"multiplier is {self.multiplier}; it must be greater than 0")

    def moments(
        self, intervals: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """The frames at k / multiplier, where source frames and their repeats are numbered 0, 1, 2, ..."""
        p, q = self.multiplier.numerator, self.multiplier.denominator
        for index, start, end, last, repeats in intervals:
            marks = (start, *repeats, end)
            per_second = p * math.lcm(*(mark.denominator for mark in marks))
            ticks = [mark.numerator * (per_second // mark.denominator) for mark in marks]
            length = ticks[-1] - ticks[0]
            is_gap = not last and max_gap is not None and end - start > max_gap
            has_frame = False
            for part, (part_start, part_end) in enumerate(pairwise(ticks)):
                number = index + part
                single = is_gap or (last and part == len(repeats))  # one frame is shown all the time
                step = (part_end - part_start) // p  # exact, since per_second is a multiple of p
                first = -(-number * p // q)
                for k in range(first, -(-(number + 1) * p // q)):
                    if single and (k > first or (is_gap and has_frame)):
                        break
                    time, has_frame = part_start + (k * q - number * p) * step, True
                    duration = (ticks[-1] if is_gap else part_end) - time if single else step * q
                    offset = 0 if is_gap or last else time - ticks[0]
                    yield _new_tuple(Moment, (index, offset, length, time, duration, per_second))

    def time_base(self, source: Fraction) -> Fraction:
        """The source's tick, divided by the numerator of the multiplier."""
        return source / self.multiplier.numerator

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """ceil((n - 1) m) + 1, whatever the timestamps; one less if the last one would be after the end."""
        if frames == 0:
            return 0
        last = math.ceil((frames - 1) * self.multiplier)
        return last + (last < frames * self.multiplier)


@dataclass(frozen=True)
class Resample(IntervalRetiming):
    """A constant ``fps`` frames per second."""

    fps: Fraction

    is_regular = True

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"target_fps is {self.fps}; it must be greater than 0")

    def moments(
        self, intervals: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """The multiples of 1/fps after ``origin`` in [start, end)."""
        rate, divisor = self.fps.as_integer_ratio()
        for index, start, end, last, _ in intervals:
            origin = start if origin is None else origin
            first, first_unit = start.as_integer_ratio()
            stop, stop_unit = end.as_integer_ratio()
            zero, zero_unit = origin.as_integer_ratio()
            per_second = math.lcm(first_unit, stop_unit, zero_unit, rate)
            first, stop = first * (per_second // first_unit), stop * (per_second // stop_unit)
            zero, step = zero * (per_second // zero_unit), divisor * (per_second // rate)
            is_gap = not last and max_gap is not None and end - start > max_gap
            is_held, length = last or is_gap, stop - first
            times = range(first + (zero - first) % step, stop, step)
            if is_gap and times:  # one frame is shown all the time: hours of it would be hundreds of thousands
                yield _new_tuple(Moment, (index, 0, length, times[0], len(times) * step, per_second))
                continue
            for time in times:
                # The output ends with the source, even before the next multiple of 1/fps.
                duration = min(step, stop - time) if last else step
                yield _new_tuple(Moment, (index, 0 if is_held else time - first, length, time, duration, per_second))

    def time_base(self, source: Fraction) -> Fraction:
        """The largest tick of which both the source's tick and 1/fps are multiples."""
        return common_divisor(source, 1 / self.fps)

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """One frame for every 1/fps that begins before the end."""
        return math.ceil((span + duration) * self.fps) if frames else 0


@dataclass(frozen=True)
class ListedTimes(IntervalRetiming):
    """Frames at ``times`` of the source, increasing, in seconds; each is shown at its time."""

    times: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if not self.times:
            raise ValueError("timestamps is empty; give at least one time")
        for k, (time, following) in enumerate(pairwise(self.times)):
            if following <= time:
                raise ValueError(f"timestamps[{k + 1}] is {following}, not after {time}; timestamps must rise")

    def moments(
        self, intervals: Iterable[Interval], *, origin: Fraction | None = None, max_gap: Fraction | None = None
    ) -> Iterator[Moment]:
        """The listed times in [start, end); there is none before the first source frame or after the last."""
        for index, start, end, last, _ in intervals:
            low, high = bisect_left(self.times, start), bisect_left(self.times, end)
            length = end - start
            is_held = last or (max_gap is not None and length > max_gap)
            for time, following in zip(self.times[low:high], (*self.times[low + 1 : high + 1], end), strict=False):
                until = min(following, end) if last else following
                yield Moment(index, Fraction(0) if is_held else (time - start) / length, time, until - time)

    def time_base(self, source: Fraction) -> Fraction:
        """The largest tick of which the source's tick and all times are multiples."""
        return Fraction(1, math.lcm(source.denominator, *(time.denominator for time in self.times)))

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """The number of listed times."""
        return len(self.times) if frames else 0


def intervals(stamps: Iterable[Stamp], *, loop: bool = False, first: int = 0) -> Iterator[Interval]:
    """The interval of every source frame, as soon as the next frame is known.

    Args:
        stamps: Times of the source frames; repeats belong to the interval of the frame before.
        loop: The last stamp is the first frame, shown again: it only ends the interval before.
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
                yield _new_tuple(Interval, (index, begin.time, stamp.time, False, repeats))
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
        stamps: Times of the source frames.
        retiming: When output frames are shown.
        max_gap: Seconds above which an interval is not interpolated: its first frame is held.
        loop: The last stamp is the first frame, shown again.
        first: Number of the first frame.
        origin: Time of frame 0; required if ``first`` is not 0.
    """
    for interval in intervals(stamps, loop=loop, first=first):
        origin = interval.start if origin is None else origin
        yield interval, retiming.moments((interval,), origin=origin, max_gap=max_gap)


def plan(stamps: Iterable[Stamp], retiming: IntervalRetiming, *, max_gap: Fraction | None = None) -> Iterator[Moment]:
    """All output frames in order, lazily: their pair of source frames, timestep, time and duration.

    Only one moment is held at a time, so the source may be hours long. Arguments are those of `schedule`.
    """
    end: Fraction | None = None

    def intervals_to_end() -> Iterator[Interval]:
        nonlocal end
        for interval in intervals(stamps):
            end = interval.end
            yield interval

    moments = retiming.moments(intervals_to_end(), max_gap=max_gap)
    if retiming.is_regular:
        yield from moments
        return
    previous: Moment | None = None
    for moment in moments:
        if previous is not None:
            yield previous if previous.is_followed_by(moment) else previous.until(moment.time)
        previous = moment
    if previous is not None:
        yield previous.until(end if retiming.holds_to_end else None)


def choose_retiming(
    multiplier: SupportsFloat | str | None,
    target_fps: SupportsFloat | str | None,
    timestamps: Iterable[SupportsFloat | str] | None = None,
) -> Retiming:
    """The rule for the one argument that is given.

    A float rate such as 29.97 stands for the broadcast rate 30000/1001.

    Raises:
        ValueError: If none or several are given, or the one is unusable.
    """
    if sum(value is not None for value in (multiplier, target_fps, timestamps)) != 1:
        raise ValueError("give either multiplier or target_fps, or timestamps; one of them")
    if target_fps is not None:
        return Resample(exact_rate(target_fps))
    if timestamps is not None:
        return ListedTimes(tuple(exact_number(f"timestamps[{k}]", time) for k, time in enumerate(timestamps)))
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
    """A frame rate as a fraction; 23.976, 29.97, 59.94, ... stand for n * 1000/1001."""
    if isinstance(rate, numbers.Rational) or (isinstance(rate, str) and "/" in rate):
        return exact_number(name, rate)
    try:
        decimal = float(rate)
    except (TypeError, ValueError):
        decimal = math.nan
    if not math.isfinite(decimal):
        raise ValueError(f"{name} is {rate}; it must be a finite number")
    ntsc = Fraction(round(decimal * 1.001) * 1000, 1001)
    # A decimal with two or three places stands for the broadcast rate.
    if ntsc > 0 and abs(decimal - float(ntsc)) < 6e-4 * max(1.0, decimal / 24.0):
        return ntsc
    return Fraction(decimal).limit_denominator(100_000)


def common_divisor(a: Fraction, b: Fraction) -> Fraction:
    """The largest fraction of which both are whole multiples."""
    denominator = a.denominator * b.denominator
    numerator = math.gcd(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(numerator, denominator)
