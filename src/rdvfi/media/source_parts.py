"""Sources derived from another one: a time range, or a loop."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import torch

from rdvfi.media.reader import Source, SourceFrame, skip_before
from rdvfi.media.timestamps import Stamp


class TrimmedSource(Source):
    """The frames of a source from one time up to another; the first of them is at time zero.

    Args:
        source: The whole.
        start: Seconds; frames before are left out.
        end: Seconds, likewise for frames from there on; None for the end of the source.
        keep_start: Keep the times of the source instead of starting at zero.

    Raises:
        ValueError: If there is nothing between them.
    """

    def __init__(self, source: Source, start: Fraction, end: Fraction | None, *, keep_start: bool = False) -> None:
        self._source, self._end = source, end
        self.repeatable = source.repeatable
        info = source.info
        if not source.repeatable:
            raise ValueError(f"start and end need a file: {info.name} can be read once only")
        first = next((f.stamp.time for f in source.frames(start or None) if f.stamp.time >= start), None)
        if first is None:
            raise ValueError(f"start is {float(start):g} s; the last frame of {info.name} is earlier")
        if end is not None and end <= first:
            raise ValueError(f"end is {float(end):g} s, but the first frame from start on is at {float(first):g} s")
        self._first = first
        self._moved = Fraction(0) if keep_start else first
        whole = info.span + info.tick
        stop = whole if end is None else min(end, whole)
        share = min(Fraction(1), max(Fraction(0), stop - first) / whole)
        self.info = replace(
            info,
            frames=max(2, round(info.frames * share)),
            span=max(Fraction(0), stop - first - info.span / max(1, info.frames - 1)),
            offset=info.offset + self._moved,
            begin=first - self._moved,
            end=None if end is None else end - self._moved,
        )

    def notes(self) -> list[str]:
        return self._source.notes()

    @property
    def seekable(self) -> bool:
        return self._source.seekable

    def stamps(self) -> list[Stamp] | None:
        known, end = self._source.stamps(), self._end
        if known is None:
            return None
        inside = (stamp for stamp in known if stamp.time >= self._first and (end is None or stamp.time < end))
        return [stamp._replace(time=stamp.time - self._moved) for stamp in inside]

    def use_device(self, device: torch.device) -> None:
        self._source.use_device(device)

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """See `Source.frames`; the last one is cut where the part ends."""
        held: SourceFrame | None = None
        begin = self._first if since is None else max(self._first, since + self._moved)
        if self._end is not None:  # times are whole ticks: this is the last one of the part
            tick = self.info.tick
            begin = min(begin, -(-self._end // tick) * tick - tick)
        for frame in self._source.frames(begin or None):
            if held is not None:
                yield self._cut(held, frame.stamp.time)
                held = None
            if self._end is not None and frame.stamp.time >= self._end:
                return
            if frame.stamp.time >= self._first:
                held = frame
        if held is not None:
            yield self._cut(held, held.stamp.time + held.stamp.duration)

    def _cut(self, frame: SourceFrame, until: Fraction) -> SourceFrame:
        stop = until if self._end is None else min(until, self._end)
        stamp = Stamp(frame.stamp.time - self._moved, stop - frame.stamp.time, frame.stamp.repeat)
        return frame.with_stamp(stamp)


class LoopedSource(Source):
    """All frames of a source, and its first one again when the last one ends."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.repeatable = source.repeatable
        step = source.info.span / max(1, source.info.frames - 1)
        self.info = replace(source.info, frames=source.info.frames + 1, span=source.info.span + step)

    def notes(self) -> list[str]:
        return self._source.notes()

    def use_device(self, device: torch.device) -> None:
        self._source.use_device(device)

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        return skip_before(self._round(since), since)

    def _round(self, since: Fraction | None) -> Iterator[SourceFrame]:
        first = None if since is None else next(self._source.frames())
        last: SourceFrame | None = None
        for last in self._source.frames(since):
            first = first or last
            yield last
        if first is not None and last is not None:
            yield first.with_stamp(Stamp(last.stamp.time + last.stamp.duration, last.stamp.duration))
