"""The segments of a clip: runs of pairs of source frames, told apart by the times of frames alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

from rdvfi.media.reader import SourceInfo
from rdvfi.video.job_report import PairReport, UncertainPair, VideoReport
from rdvfi.video.reel import ReelStep


@dataclass
class Segment:
    """Some steps, to be walked through once."""

    number: int
    steps: Iterator[ReelStep]
    last: bool = False
    """Whether no segment follows; known when its steps are through."""


@dataclass
class SegmentRecord:
    """What the report needs of a segment."""

    frames: int = 0
    """Frames that came out."""
    confidences: list[float] = field(default_factory=list)
    uncertain: list[UncertainPair] = field(default_factory=list)
    pairs: list[PairReport] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        pairs = [[p.index, str(p.start), str(p.end), p.confidence, p.reason] for p in self.uncertain]
        made = [{**asdict(p), "start": str(p.start), "end": str(p.end)} for p in self.pairs]
        return {"frames": self.frames, "confidences": self.confidences, "uncertain": pairs, "pairs": made}

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
        return cls(values["frames"], values["confidences"], pairs, made)


def summed_up(
    records: Sequence[SegmentRecord], info: SourceInfo, read: int, seconds: float, notes: Iterable[str]
) -> VideoReport:
    """The report of all segments."""
    trust = [value for record in records for value in record.confidences]
    return VideoReport(
        frames_read=read,
        frames_written=sum(record.frames for record in records),
        width=info.width,
        height=info.height,
        seconds=seconds,
        confidence=sum(trust) / len(trust) if trust else 1.0,
        uncertain=tuple(pair for record in records for pair in record.uncertain),
        notes=tuple(notes),
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
            yield held if held.moments[-1].meets(step.moments[0]) else _until(held, step.moments[0].time)
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
