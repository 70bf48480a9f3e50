"""Exact times of frames, as fractions of a second: of those that are read and of those to be written."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class Stamp(NamedTuple):
    """When a source frame is shown, in seconds."""

    time: Fraction
    duration: Fraction
    """How long; it is used of the last frame alone, every other one lasts until the next."""


@dataclass(frozen=True)
class Moment:
    """One output frame."""

    source: int
    """The source frame at or just before it."""
    timestep: Fraction
    """Fraction of the way to the next source frame, in [0, 1); 0 is the source frame itself."""
    time: Fraction
    """When it is shown, in seconds."""
    duration: Fraction
