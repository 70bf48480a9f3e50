"""Chapters of a video, and the part of the source that other tracks follow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container.core import Chapter

_MP4_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})
CHAPTER_SUFFIXES = _MP4_SUFFIXES | {".mkv", ".webm"}
"""Containers that hold chapters."""
_DEFAULT_TIME_BASE = Fraction(1, 1000)
_MAX_START_SHIFT = Fraction(1, 10)
"""Seconds by which a first chapter may be moved to the start of the video."""


@dataclass(frozen=True)
class TrackWindow:
    """The part of the source that is shown, and how fast.

    Attributes:
        begin: Start, in seconds after the offset; None for the start of the source.
        end: End, in seconds after the offset; None for the end of the source.
        slowdown: How many times longer the output runs than the source; None if that varies.
    """

    begin: Fraction | None = None
    end: Fraction | None = None
    slowdown: Fraction | None = Fraction(1)

    def overlaps(self, start: Fraction, end: Fraction) -> bool:
        """Whether the time from ``start`` to ``end``, in seconds after the offset, overlaps this part."""
        after_begin = self.begin is None or start >= self.begin or end > self.begin
        return after_begin and (self.end is None or start < self.end)


def convert_chapters(
    chapters: Sequence["Chapter"], offset: Fraction, window: TrackWindow, suffix: str
) -> tuple[list["Chapter"], list[str]]:
    """The chapters of the output, and notes on what differs from the source.

    In MP4 and MOV a chapter lasts until the next and the first one begins with the video. FFmpeg drops chapters
    without a title, which shifts the others, so they are given an empty one.
    """
    converted = list(_cut_chapters(chapters, offset, window))
    if suffix not in _MP4_SUFFIXES or not converted:
        return converted, []
    for number, chapter in enumerate(converted):
        chapter["id"], chapter["metadata"] = number + 1, {"title": "", **chapter["metadata"]}
    first = min(converted, key=lambda chapter: chapter["start"] * (chapter["time_base"] or _DEFAULT_TIME_BASE))
    if first["start"] * (first["time_base"] or _DEFAULT_TIME_BASE) < _MAX_START_SHIFT:
        return converted, []
    leading = first.copy()
    leading.update({"id": 0, "start": 0, "end": first["start"], "metadata": {"title": ""}})
    note = f"chapters of {suffix} files begin with the video: an untitled one was added before the first"
    return [leading, *converted], [note]


def _cut_chapters(chapters: Sequence["Chapter"], offset: Fraction, window: TrackWindow) -> Iterator["Chapter"]:
    """Those chapters of which something is shown, at their times in the output."""
    begin, slowdown = window.begin or Fraction(0), window.slowdown or 1
    for chapter in chapters:
        time_base = chapter["time_base"] or _DEFAULT_TIME_BASE
        start, end = (chapter[side] * time_base - offset for side in ("start", "end"))
        if (window.begin is not None and end <= begin) or (window.end is not None and start >= window.end):
            continue
        start, end = max(start, begin), end if window.end is None else min(end, window.end)
        first, last = (round(side * slowdown / time_base) for side in (start, end))
        yield {**chapter, "start": max(0, first), "end": max(1, last)}
