r"""Speed curves: ramps, freezes and reverse playback, in exact arithmetic.

A curve says how fast the source runs at each time of the output. It is given by key points
``(t_k, v_k)`` and straight between them, so that the place of the source that is shown at time t,

    s(t) = s_0 + integral of v from 0 to t,

is a quadratic in every piece, and a fraction for every fraction t. Speed 1 is the source's own, 0.25
slow motion, 0 a freeze, -1 reverse. Two key points of one time are a step. Before the first and after
the last key point the speed stays as it is there.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path

from rdvfi.video.timing import Retiming, common_divisor, exact_number

_LONGEST = 100_000
"""Key points in a file, at most."""


@dataclass(frozen=True)
class SpeedCurve:
    """Speed over time of the output.

    Args:
        points: Times in seconds, not falling, and speeds.
    """

    points: tuple[tuple[Fraction, Fraction], ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a curve of speed needs at least one key point: a time in seconds and a speed")
        for (now, _), (after, _) in pairwise(self.points):
            if after < now:
                raise ValueError(f"key points of speed must be in order of time: {float(after):g} s follows {now} s")
        if self.points[0][0] < 0:
            raise ValueError(f"the first key point of speed is at {self.points[0][0]} s; times begin at 0")

    @cached_property
    def _places(self) -> list[Fraction]:
        """How far the source has run at every key point."""
        places = [self.points[0][0] * self.points[0][1]]
        for (t0, v0), (t1, v1) in pairwise(self.points):
            places.append(places[-1] + (t1 - t0) * (v0 + v1) / 2)
        return places

    @cached_property
    def _times(self) -> list[Fraction]:
        return [time for time, _ in self.points]

    @property
    def backwards(self) -> bool:
        """Whether it runs backwards anywhere."""
        return any(speed < 0 for _, speed in self.points)

    @property
    def from_end(self) -> bool:
        """Whether it begins with running backwards, and so at the end of the source."""
        return next((speed for _, speed in self.points if speed), Fraction(0)) < 0

    @property
    def end(self) -> Fraction | None:
        """When nothing more happens, since the speed is zero from then on."""
        return self.points[-1][0] if self.points[-1][1] == 0 else None

    def speed(self, time: Fraction) -> Fraction:
        """Speed just after ``time``."""
        k = bisect_right(self._times, time) - 1
        if k < 0 or k + 1 == len(self.points):
            return self.points[max(k, 0)][1]
        (t0, v0), (t1, v1) = self.points[k : k + 2]
        return v0 + (v1 - v0) * (time - t0) / (t1 - t0)

    def run(self, time: Fraction) -> Fraction:
        """How far the source has run at ``time``, in seconds of the source."""
        k = bisect_right(self._times, time) - 1
        if k < 0:
            return time * self.points[0][1]
        return self._places[k] + (time - self._times[k]) * (self.points[k][1] + self.speed(time)) / 2


@dataclass(frozen=True)
class Ramped(Retiming):
    """A constant ``fps`` frames per second of a source that runs along a curve of speed.

    It is played frame by frame (`rdvfi.video.reel.played`): a curve may enter an interval several times.
    """

    fps: Fraction
    curve: SpeedCurve

    def positions(self, start: Fraction) -> Iterator[tuple[int, Fraction, Fraction]]:
        """Number of every output frame, its place in the source and the speed there; without end unless it stops.

        Args:
            start: Where the source begins to run.
        """
        end = self.curve.end
        for k in count():
            time = k / self.fps
            if end is not None and time > 0 and time >= end:
                return
            yield k, start + self.curve.run(time), self.curve.speed(time)

    def time_base(self, source: Fraction) -> Fraction:
        """Times are those of the rate and of where the source begins."""
        return common_divisor(source, 1 / self.fps)

    def count(self, frames: int, span: Fraction, duration: Fraction) -> int:
        """About how many frames come out, until the curve has run through the source, or stops."""
        length, before = span + duration, Fraction(0)
        for time, _ in self.curve.points:
            if not 0 <= self._place(time, span) < length:
                return max(1, round(self._leaves(before, time, span, length) * self.fps))
            before = time
        place, speed = self._place(before, span), self.curve.points[-1][1]
        rest = (length - place) / speed if speed > 0 else -place / speed if speed < 0 else Fraction(0)
        return max(1, round((before + rest) * self.fps))

    def _leaves(self, low: Fraction, high: Fraction, span: Fraction, length: Fraction) -> Fraction:
        """About when the curve leaves the source between two times."""
        for _ in range(30):
            middle = (low + high) / 2
            inside = 0 <= self._place(middle, span) < length
            low, high = (middle, high) if inside else (low, middle)
        return low

    def _place(self, time: Fraction, span: Fraction) -> Fraction:
        return self.curve.run(time) + (span if self.curve.from_end else 0)


def read_speed_curve(path: Path) -> SpeedCurve:
    """A curve from a text file: a line ``TIME SPEED`` per key point, ``#`` before comments.

    Times are seconds of the output (``2.5``) or ``h:mm:ss``, speeds numbers, fractions or per cent.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not of this form; the line is named.
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
        points.append((read_time(f"{path}, line {number}: time", words[0]), _speed(path, number, words[1])))
        if len(points) > _LONGEST:
            raise ValueError(f"{path} has more than {_LONGEST} key points")
    try:
        return SpeedCurve(tuple(points))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _speed(path: Path, number: int, word: str) -> Fraction:
    share = word.endswith("%")
    value = exact_number(f"{path}, line {number}: speed", word.rstrip("%"))
    if abs(value) > 1_000_000:
        raise ValueError(f"{path}, line {number}: speed is {word}; expected at most 1000000")
    return value / 100 if share else value


def read_time(name: str, given: object) -> Fraction:
    """Seconds of any number type, or text such as ``90``, ``1:30`` or ``0:01:30.5``.

    Raises:
        ValueError: If it is neither.
    """
    parts = given.split(":") if isinstance(given, str) else [given]
    if len(parts) > 3:
        raise ValueError(f"{name} is {given!r}; expected seconds, or h:mm:ss")
    seconds = Fraction(0)
    for part in parts:
        seconds = 60 * seconds + exact_number(name, part)  # pyright: ignore[reportArgumentType]
    return seconds
