"""Exact timestamps of frames as fractions of a second, for reading and writing."""

from fractions import Fraction
from math import lcm
from typing import NamedTuple


class Stamp(NamedTuple):
    """When a source frame is shown, in seconds."""

    time: Fraction
    duration: Fraction
    """Used for the last frame only; every other one is shown until the next."""
    repeat: bool = False
    """Whether it repeats the picture of the frame before, so that its own is not used."""

    def stretched(self, factor: Fraction) -> "Stamp":
        """The stamp in a source that is slowed down by a factor."""
        return Stamp(self.time * factor, self.duration * factor, self.repeat)


class Moment(tuple[int, int, int, int, int, int]):
    """Which instant one output frame shows, and when.

    Stored as integers, since the plan of a long video holds many and fractions are slow to make: `source`, numerator
    and denominator of `timestep`, numerators of `time` and `duration`, and the denominator of both.
    """

    __slots__ = ()

    def __new__(cls, source: int, timestep: Fraction, time: Fraction, duration: Fraction) -> "Moment":
        denominator = lcm(time.denominator, duration.denominator)
        times = (int(time * denominator), int(duration * denominator), denominator)
        return tuple.__new__(cls, (source, timestep.numerator, timestep.denominator, *times))

    @property
    def source(self) -> int:
        """Number of the source frame at or before it."""
        return self[0]

    @property
    def timestep(self) -> Fraction:
        """Fraction of the way to the next source frame, in [0, 1); 0 is the source frame itself."""
        return Fraction(self[1], self[2])

    @property
    def is_interpolated(self) -> bool:
        """Whether it lies between two source frames."""
        return self[1] != 0

    @property
    def time(self) -> Fraction:
        """When it is shown, in seconds."""
        return Fraction(self[3], self[5])

    @property
    def duration(self) -> Fraction:
        """How long it is shown, in seconds."""
        return Fraction(self[4], self[5])

    def is_followed_by(self, after: "Moment") -> bool:
        """Whether it is shown exactly until ``after`` begins."""
        return (self[3] + self[4]) * after[5] == after[3] * self[5]

    def until(self, end: Fraction | None) -> "Moment":
        """The moment with a duration that ends at a time; unchanged if None."""
        return self if end is None else Moment(self.source, self.timestep, self.time, end - self.time)

    def _values(self) -> tuple[int, Fraction, Fraction, Fraction]:
        return self.source, self.timestep, self.time, self.duration

    def __eq__(self, other: object) -> bool:
        """Whether both have equal values; the stored denominators may differ."""
        return isinstance(other, Moment) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"Moment(source={self.source}, timestep={self.timestep}, time={self.time}, duration={self.duration})"
