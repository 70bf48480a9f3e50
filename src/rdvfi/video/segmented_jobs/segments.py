"""Division of a clip into segments of source pairs, from timestamps alone.

Where these times are known without decoding, so are the segments (`planned`), and each can be made by
reading from a key frame before it on. Whether the frames that are read are those of the plan is looked at
while it is made.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from rdvfi.media.reader import SourceFrame, SourceInfo
from rdvfi.media.timestamps import Stamp
from rdvfi.video.job_report import PairReport, UncertainPair, VideoReport
from rdvfi.video.reel import ReelStep, stepwise
from rdvfi.video.timing import IntervalRetiming


@dataclass
class Segment:
    """Some steps, to be walked through once."""

    number: int
    steps: Iterator[ReelStep]
    last: bool = False
    """Whether no segment follows; known when its steps are through."""


@dataclass(frozen=True)
class Part:
    """What a segment consists of, by the times of frames: enough to make it without what is before."""

    number: int
    first: int
    """Number of the first source frame that it, or a later one, is made of."""
    entry: int
    """Number of the frame from which on the source is read; before it, where that has to be seen as well."""
    since: Fraction
    """When that frame is shown."""
    origin: Fraction
    """When frame 0 is shown in the output."""
    spans: tuple[tuple[int, Fraction, Fraction], ...]
    """Number, start and end of the interval of every step, in their order."""
    last: bool


def planned(
    stamps: Sequence[Stamp],
    retiming: IntervalRetiming,
    length: int,
    *,
    slow: Fraction = Fraction(1),
    max_gap: Fraction | None = None,
    lead: int = 0,
) -> list[Part]:
    """The segments of a source whose times are known; ``lead`` pairs before each are read as well.

    Other arguments as of `rdvfi.video.reel.stepwise`.
    """
    blank = np.zeros((0, 0, 3), np.uint8)
    frames = (SourceFrame(blank, stamp) for stamp in stamps)
    steps = settled(stepwise(frames, retiming, slow=slow, max_gap=max_gap), lasts=retiming.lasts)
    found = [[(*step.interval[:3],) for step in segment.steps] for segment in in_segments(steps, length)]
    starts = sorted(index for spans in found for index, _, _ in spans)
    parts: list[Part] = []
    first = len(stamps)
    for number in range(len(found) - 1, -1, -1):
        spans = tuple(found[number])
        first = min(first, *(index for index, _, _ in spans))
        entry = starts[max(0, bisect_left(starts, first) - lead)]
        origin = stamps[0].time * slow
        parts.append(Part(number, first, entry, stamps[entry].time, origin, spans, number == len(found) - 1))
    return parts[::-1]


@dataclass
class SegmentRecord:
    """What the report needs of a segment."""

    frames: int = 0
    """Frames that came out."""
    read: int = 0
    """Frames of the source that it begins with or passes, repeats included."""
    gaps: int = 0
    """Gaps between these that are held, not filled."""
    starts: list[list[Any]] = field(default_factory=list)
    """Number and start of the interval of every step."""
    confidences: list[float] = field(default_factory=list)
    uncertain: list[UncertainPair] = field(default_factory=list)
    pairs: list[PairReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is to be told of the model that made it."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        pairs = [[p.index, str(p.start), str(p.end), p.confidence, p.reason] for p in self.uncertain]
        made = [{**asdict(p), "start": str(p.start), "end": str(p.end)} for p in self.pairs]
        return {**vars(self), "uncertain": pairs, "pairs": made}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SegmentRecord":
        """What `to_json` gave."""
        pairs = [
            UncertainPair(index, Fraction(start), Fraction(end), confidence, reason)
            for index, start, end, confidence, reason in values["uncertain"]
        ]
        made = [
            PairReport(**{**p, **{name: Fraction(p[name]) for name in ("start", "end")}, "content": (*p["content"],)})
            for p in values["pairs"]
        ]
        return cls(**{**values, "uncertain": pairs, "pairs": made})


def summed_up(
    records: Sequence[SegmentRecord], info: SourceInfo, seconds: float, *, max_gap: Fraction, notes: Iterable[str]
) -> VideoReport:
    """The report of all segments; ``notes`` are those of the source."""
    trust = [value for record in records for value in record.confidences]
    told = list(notes)
    if gaps := sum(record.gaps for record in records):
        many, verb = ("gap", "is") if gaps == 1 else ("gaps", "are")
        told.append(f"{gaps} {many} of more than {float(max_gap):g} s between frames {verb} held, not filled")
    return VideoReport(
        frames_read=sum(record.read for record in records),
        frames_written=sum(record.frames for record in records),
        width=info.width,
        height=info.height,
        seconds=seconds,
        confidence=sum(trust) / len(trust) if trust else 1.0,
        uncertain=tuple(pair for record in records for pair in record.uncertain),
        notes=tuple(dict.fromkeys([*told, *(note for record in records for note in record.notes)])),
        pairs=tuple(pair for record in records for pair in record.pairs),
    )


def settled(steps: Iterator[ReelStep], *, lasts: bool) -> Iterator[ReelStep]:
    """Steps whose moments last until the next one begins, which may be in a later step.

    Args:
        steps: In order.
        lasts: Whether the last moment is shown until the source ends.
    """
    held: ReelStep | None = None
    end: Fraction | None = None
    for step in steps:
        end = step.interval.end
        if not step.moments:
            yield step
            continue
        if held is not None:
            yield held if held.moments[-1].is_followed_by(step.moments[0]) else _until(held, step.moments[0].time)
        held = step
    if held is not None:
        yield _until(held, end if lasts else None)


def _until(step: ReelStep, end: Fraction | None) -> ReelStep:
    return replace(step, moments=(*step.moments[:-1], step.moments[-1].until(end)))


def in_segments(steps: Iterator[ReelStep], length: int) -> Iterator[Segment]:
    """Segments that end with the first step with which they have ``length`` output frames."""
    following = next(steps, None)

    def part() -> Iterator[ReelStep]:
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
        segment.steps = part()
        yield segment
        number += 1
