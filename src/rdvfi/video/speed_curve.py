r"""Speed curves: ramps, freezes and reverse playback, in exact arithmetic.

A curve is the speed of the source at each time of the output. It is linear between key points ``(t_k, v_k)``, so that
the source position that is shown at time t,

    s(t) = s_0 + integral of v from 0 to t,

is quadratic between key points, and rational for every rational t. Speed 1 is that of the source, 0.25 slow motion,
0 a freeze, -1 reverse. Two key points at one time are a step. The speed is constant before the first and after the
last key point.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path

from rdvfi.video.timing import Retiming, common_divisor, exact_number

_MAX_KEY_POINTS = 100_000
"""Largest number of key points in a file."""


@dataclass(frozen=True)
class SpeedCurve:
    """Speed over time of the output.

    Args:
        points: Times in seconds, in order, and speeds.
    """

    points: tuple[tuple[Fraction, Fraction], ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a curve of speed needs at least one key point: a time in seconds and a speed")
        for (time, _), (following, _) in pairwise(self.points):
            if following < time:
                raise ValueError(
                    f"key points of speed must be in order of time: {float(following):g} s follows {time} s"
                )
        if self.points[0][0] < 0:
            raise ValueError(f"the first key point of speed is at {self.points[0][0]} s; times begin at 0")

    @cached_property
    def _positions(self) -> list[Fraction]:
        positions = [self.points[0][0] * self.points[0][1]]
        for (t0, v0), (t1, v1) in pairwise(self.points):
            positions.append(positions[-1] + (t1 - t0) * (v0 + v1) / 2)
        return positions

    @cached_property
    def _times(self) -> list[Fraction]:
        return [time for time, _ in self.points]

    @property
    def has_reverse(self) -> bool:
        """Whether it runs backwards anywhere."""
        return any(speed < 0 for _, speed in self.points)

    @property
    def starts_at_end(self) -> bool:
        """Whether it first runs backwards, and therefore starts at the end of the source."""
        return next((speed for _, speed in self.points if speed), Fraction(0)) < 0

    @property
    def final_freeze(self) -> Fraction | None:
        """The time from which the speed is zero for ever; None if there is none."""
        return self.points[-1][0] if self.points[-1][1] == 0 else None

    def speed(self, time: Fraction) -> Fraction:
        """Speed just after ``time``."""
        k = bisect_right(self._times, time) - 1
        if k < 0 or k + 1 == len(self.points):
            return self.points[max(k, 0)][1]
        (t0, v0), (t1, v1) = self.points[k : k + 2]
        return v0 + (v1 - v0) * (time - t0) / (t1 - t0)

    def position(self, time: Fraction) -> Fraction:
        """The source position at ``time``, in seconds relative to the start."""
        k = bisect_right(self._times, time) - 1
        if k < 0:
            return time * self.points[0][1]
        return self._positions[k] + (time - self._times[k]) * (self.points[k][1] + self.speed(time)) / 2


@dataclass(frozen=True)
class SpeedRamp(Retiming):
    """A constant ``fps`` frames per second of a source that is played along a speed curve.

    It is planned frame by frame (`rdvfi.video.playback.curve_steps`), since a curve may enter an interval repeatedly.
    """

    fps: Fraction
    curve: SpeedCurve

    def positions(self, start: Fraction) -> Iterator[tuple[int, Fraction, Fraction]]:
        """Number, source position and speed of every output frame; endless unless the curve freezes.

        Args:
            start: Source position at the start.
        """
        end = self.curve.final_freeze
        for k in count():
            time = k / self.fps
            if end is not None and time > 0 and time >= end:
                return
            yield k, start + self.curve.position(time), self.curve.speed(time)

    def time_base(self, source: Fraction) -> Fraction:
        """The largest tick of which both the source's tick and 1/fps are multiples."""
        return common_divisor(source, 1 / self.fps)

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """About how many frames come out until the curve leaves the source, or freezes."""
        length, previous = span + duration, Fraction(0)
        for time, _ in self.curve.points:
            if not 0 <= self._position(time, span) < length:
                return max(1, round(self._exit_time(previous, time, span, length) * self.fps))
            previous = time
        position, speed = self._position(previous, span), self.curve.points[-1][1]
        rest = (length - position) / speed if speed > 0 else -position / speed if speed < 0 else Fraction(0)
        return max(1, round((previous + rest) * self.fps))

    def _exit_time(self, low: Fraction, high: Fraction, span: Fraction, length: Fraction) -> Fraction:
        """About when the curve leaves the source between two times, by bisection."""
        for _ in range(30):
            middle = (low + high) / 2
            inside = 0 <= self._position(middle, span) < length
            low, high = (middle, high) if inside else (low, middle)
        return low

    def _position(self, time: Fraction, span: Fraction) -> Fraction:
        return self.curve.position(time) + (span if self.curve.starts_at_end else 0)


def read_speed_curve(path: Path) -> SpeedCurve:
    """Read a curve from a text file: one line ``TIME SPEED`` per key point, with comments after ``#``.

    Times are seconds of the output (``2.5``) or ``h:mm:ss``; speeds are numbers, fractions or percentages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line has another form; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file; speed is a file of key points")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text; a curve of speed has a line TIME SPEED per key point") from error
    points = []
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"{path}, line {number} is {line!r}; expected a time and a speed, as 2.5 0.25")
        points.append((read_time(f"{path}, line {number}: time", words[0]), _parse_speed(path, number, words[1])))
        if len(points) > _MAX_KEY_POINTS:
            raise ValueError(f"{path} has more than {_MAX_KEY_POINTS} key points")
    try:
        return SpeedCurve(tuple(points))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse_speed(path: Path, number: int, word: str) -> Fraction:
    is_percentage = word.endswith("%")
    value = exact_number(f"{path}, line {number}: speed", word.rstrip("%"))
    if abs(value) > 1_000_000:
        raise ValueError(f"{path}, line {number}: speed is {word}; expected at most 1000000")
    return value / 100 if is_percentage else value


def read_time(name: str, given: object) -> Fraction:
    """A time in seconds, from a number or from text such as ``90``, ``1:30`` or ``0:01:30.5``.

    Raises:
        ValueError: If it is neither; the message says ``name``.
    """
    parts = given.split(":") if isinstance(given, str) else [given]
    if len(parts) > 3:
        raise ValueError(f"{name} is {given!r}; expected seconds, or h:mm:ss")
    seconds = Fraction(0)
    for part in parts:
        seconds = 60 * seconds + exact_number(name, part)  # pyright: ignore[reportArgumentType]
    return seconds
