"""Division of a clip into segments of successive pairs of source frames.

If the timestamps are known without decoding, the segments can be planned (`plan_segments`), and each can be made by
reading from the key frame before it. While a segment is made, the frames that are read are compared with the plan.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from rdvfi.media.reader import SourceFrame, SourceInfo
from rdvfi.media.timestamps import Stamp
from rdvfi.video.job_report import PairReport, VideoReport
from rdvfi.video.playback import PlaybackStep, forward_steps
from rdvfi.video.timing import IntervalRetiming


@dataclass
class Segment:
    """Some steps, which can be iterated over once."""

    number: int
    steps: Iterator[PlaybackStep]
    last: bool = False
    """Whether no segment follows; known when its steps are consumed."""


@dataclass(frozen=True)
class SegmentPlan:
    """The frames of a segment, as needed to make it without those before it."""

    number: int
    first_frame: int
    """Number of the first source frame that this segment or a later one uses."""
    entry_frame: int
    """Number of the source frame at which reading starts: the first one, or some pairs before it."""
    entry_time: Fraction
    """Source time of that frame."""
    origin: Fraction
    """Output time of source frame 0."""
    intervals: tuple[tuple[int, Fraction, Fraction], ...]
    """Number, start and end of the interval of every step, in order."""
    last: bool
    """Whether no segment follows."""


def plan_segments(
    stamps: Sequence[Stamp],
    retiming: IntervalRetiming,
    length: int,
    *,
    slow: Fraction = Fraction(1),
    max_gap: Fraction | None = None,
    lead: int = 0,
) -> list[SegmentPlan]:
    """Plan segments of about ``length`` output frames for a source with known timestamps.

    Before each segment, ``lead`` pairs are read as well. Other arguments are those of
    `rdvfi.video.playback.forward_steps`.
    """
    blank = np.zeros((0, 0, 3), np.uint8)
    frames = (SourceFrame(blank, stamp) for stamp in stamps)
    steps = forward_steps(frames, retiming, slow=slow, max_gap=max_gap)
    steps = settle_durations(steps, to_end=retiming.holds_to_end)
    segments = [tuple((*step.interval[:3],) for step in segment.steps) for segment in split_segments(steps, length)]
    starts = sorted(index for intervals in segments for index, _, _ in intervals)
    plans: list[SegmentPlan] = []
    first = len(stamps)
    for number, intervals in reversed(list(enumerate(segments))):
        first = min(first, *(index for index, _, _ in intervals))
        entry = starts[max(0, bisect_left(starts, first) - lead)]
        last, origin = number == len(segments) - 1, stamps[0].time * slow
        plans.append(SegmentPlan(number, first, entry, stamps[entry].time, origin, intervals, last))
    return plans[::-1]


@dataclass
class SegmentRecord:
    """What the report of a job needs of one segment; stored with it as JSON."""

    frames: int = 0
    """Number of output frames."""
    read: int = 0
    """Number of source frames that start in it, repeats included."""
    gaps: int = 0
    """Number of gaps that are held."""
    starts: list[list[Any]] = field(default_factory=list)
    """Number and start of the interval of every step."""
    pairs: list[PairReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Notes on the model."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pairs = [{**asdict(p), "start": str(p.start), "end": str(p.end)} for p in self.pairs]
        return {**vars(self), "pairs": pairs}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SegmentRecord":
        """The record of which `to_json` returned ``values``."""
        pairs = [
            PairReport(**{**p, **{name: Fraction(p[name]) for name in ("start", "end")}, "content": (*p["content"],)})
            for p in values["pairs"]
        ]
        stored = {item.name: values[item.name] for item in fields(cls)}
        return cls(**{**stored, "pairs": pairs})


def build_report(
    records: Sequence[SegmentRecord], info: SourceInfo, seconds: float, *, max_gap: Fraction, notes: Iterable[str]
) -> VideoReport:
    """The report of a job from the records of all its segments; ``notes`` are those on the source."""
    pairs = tuple(pair for record in records for pair in record.pairs)
    all_notes = list(notes)
    if gaps := sum(record.gaps for record in records):
        noun, verb = ("gap", "is") if gaps == 1 else ("gaps", "are")
        all_notes.append(f"{gaps} {noun} of more than {float(max_gap):g} s between frames {verb} held, not filled")
    all_notes += [note for record in records for note in record.notes]
    return VideoReport(
        frames_read=sum(record.read for record in records),
        frames_written=sum(record.frames for record in records),
        width=info.width,
        height=info.height,
        seconds=seconds,
        confidence=sum(pair.confidence for pair in pairs) / len(pairs) if pairs else 1.0,
        notes=tuple(dict.fromkeys(all_notes)),
        pairs=pairs,
    )


def settle_durations(steps: Iterator[PlaybackStep], *, to_end: bool) -> Iterator[PlaybackStep]:
    """Steps whose last moment is shown until the first moment of a later step.

    Args:
        steps: In order.
        to_end: Whether the last moment of all is shown until the source ends.
    """
    pending: PlaybackStep | None = None
    end: Fraction | None = None
    for step in steps:
        end = step.interval.end
        if not step.moments:
            yield step
            continue
        if pending is not None:
            following = step.moments[0]
            yield pending if pending.moments[-1].is_followed_by(following) else _end_at(pending, following.time)
        pending = step
    if pending is not None:
        yield _end_at(pending, end if to_end else None)


def _end_at(step: PlaybackStep, end: Fraction | None) -> PlaybackStep:
    return replace(step, moments=(*step.moments[:-1], step.moments[-1].until(end)))


def split_segments(steps: Iterator[PlaybackStep], length: int) -> Iterator[Segment]:
    """Segments that end with the first step with which they have ``length`` output frames."""
    following = next(steps, None)

    def segment_steps() -> Iterator[PlaybackStep]:
        nonlocal following
        count = 0
        while following is not None and count < length:
            step = following
            following = next(steps, None)
            segment.last = following is None
            count += len(step.moments)
            yield step

    number = 0
    while following is not None:
        segment = Segment(number, iter(()))
        segment.steps = segment_steps()
        yield segment
        number += 1
