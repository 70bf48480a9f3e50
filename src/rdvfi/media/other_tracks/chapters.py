"""Chapters of a film, and what part of it other tracks follow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container.core import Chapter

_ISO = frozenset({".mp4", ".m4v", ".mov"})
CHAPTER_SUFFIXES = _ISO | {".mkv", ".webm"}
_TICK = Fraction(1, 1000)
_NOTHING = Fraction(1, 10)
"""Seconds by which a first chapter may begin earlier."""


@dataclass(frozen=True)
class TrackWindow:
    """What part of the source is shown, and how fast.

    Attributes:
        begin: Seconds after the offset before which nothing is taken along; None for all.
        end: The same for what is from there on.
        slowdown: How many times longer the output runs than the source; None if that varies.
    """

    begin: Fraction | None = None
    end: Fraction | None = None
    slowdown: Fraction | None = Fraction(1)

    def shows(self, time: Fraction, end: Fraction) -> bool:
        """Whether something that is there from one time to another, seconds after the offset, is in that part."""
        return (self.begin is None or time >= self.begin or end > self.begin) and (self.end is None or time < self.end)


def convert_chapters(
    chapters: Sequence["Chapter"], offset: Fraction, time: TrackWindow, suffix: str
) -> tuple[list["Chapter"], list[str]]:
    """Chapters as they are written, and what is to be told of them.

    In MP4 and MOV a chapter lasts until the next, the first begins with the film, and FFmpeg leaves out those
    without a title and moves the others in their place.

    Args:
        chapters: Of the source.
        offset: Time of the source that becomes zero.
        time: What part of the source is shown, and how fast.
        suffix: Of the output.
    """
    moved = list(_moved(chapters, offset, time))
    if suffix not in _ISO or not moved:
        return moved, []
    for number, each in enumerate(moved):
        each["id"], each["metadata"] = number + 1, {"title": "", **each["metadata"]}
    first = min(moved, key=lambda each: each["start"] * (each["time_base"] or _TICK))
    if first["start"] * (first["time_base"] or _TICK) < _NOTHING:
        return moved, []
    before = first.copy()
    before.update({"id": 0, "start": 0, "end": first["start"], "metadata": {"title": ""}})
    return [before, *moved], [f"chapters of {suffix} begin with the film: one without a title stands before the first"]


def _moved(chapters: Sequence["Chapter"], offset: Fraction, time: TrackWindow) -> Iterator["Chapter"]:
    """Chapters at their time in the output, without those of which nothing is shown."""
    begin, slowdown = time.begin or Fraction(0), time.slowdown or 1
    for chapter in chapters:
        tick = chapter["time_base"] or _TICK
        start, end = (chapter[side] * tick - offset for side in ("start", "end"))
        if (time.begin is not None and end <= begin) or (time.end is not None and start >= time.end):
            continue
        start, end = max(start, begin), end if time.end is None else min(end, time.end)
        first, last = (round(side * slowdown / tick) for side in (start, end))
        yield {**chapter, "start": max(0, first), "end": max(1, last)}
