"""Sources derived from another one: a time range, or a loop."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import torch

from rdvfi.media.reader import Source, SourceFrame, skip_before
from rdvfi.media.timestamps import Stamp


class _DerivedSource(Source):
    """A source that takes its frames from another one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.repeatable = source.repeatable

    def notes(self) -> list[str]:
        return self._source.notes()

    def use_device(self, device: torch.device) -> None:
        self._source.use_device(device)


class TrimmedSource(_DerivedSource):
    """The frames of a source from one time up to another, the first of them at time zero.

    Args:
        source: The whole source.
        start: Time of the first frame, in seconds.
        end: Time before which the last frame starts, in seconds; None for the end of the source.
        keep_start: Keep the times of the source instead of starting at zero.

    Raises:
        ValueError: If there is no frame between them, or the source can be read only once.
    """

    def __init__(self, source: Source, start: Fraction, end: Fraction | None, *, keep_start: bool = False) -> None:
        super().__init__(source)
        self._end, info = end, source.info
        if not source.repeatable:
            raise ValueError(f"start and end need a file: {info.name} can be read once only")
        first = next((f.stamp.time for f in source.frames(start or None) if f.stamp.time >= start), None)
        if first is None:
            raise ValueError(f"start is {float(start):g} s; the last frame of {info.name} is earlier")
        if end is not None and end <= first:
            raise ValueError(f"end is {float(end):g} s, but the first frame from start on is at {float(first):g} s")
        self._first = first
        self._time_shift = Fraction(0) if keep_start else first
        duration = info.span + info.tick
        stop = duration if end is None else min(end, duration)
        share = min(Fraction(1), max(Fraction(0), stop - first) / duration)
        self.info = replace(
            info,
            frames=max(2, round(info.frames * share)),
            span=max(Fraction(0), stop - first - info.span / max(1, info.frames - 1)),
            offset=info.offset + self._time_shift,
            begin=first - self._time_shift,
            end=None if end is None else end - self._time_shift,
        )

    @property
    def seekable(self) -> bool:
        return self._source.seekable

    def stamps(self) -> list[Stamp] | None:
        stamps, end = self._source.stamps(), self._end
        if stamps is None:
            return None
        inside = (stamp for stamp in stamps if stamp.time >= self._first and (end is None or stamp.time < end))
        return [stamp._replace(time=stamp.time - self._time_shift) for stamp in inside]

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """See `Source.frames`; the last frame ends where the part ends."""
        pending: SourceFrame | None = None
        begin = self._first if since is None else max(self._first, since + self._time_shift)
        if self._end is not None:  # start at the last tick of the part at the latest
            tick = self.info.tick
            begin = min(begin, -(-self._end // tick) * tick - tick)
        for frame in self._source.frames(begin or None):
            if pending is not None:
                yield self._trim(pending, frame.stamp.time)
                pending = None
            if self._end is not None and frame.stamp.time >= self._end:
                return
            if frame.stamp.time >= self._first:
                pending = frame
        if pending is not None:
            yield self._trim(pending, pending.stamp.time + pending.stamp.duration)

    def _trim(self, frame: SourceFrame, until: Fraction) -> SourceFrame:
        stop = until if self._end is None else min(until, self._end)
        stamp = Stamp(frame.stamp.time - self._time_shift, stop - frame.stamp.time, frame.stamp.repeat)
        return frame.with_stamp(stamp)


class LoopedSource(_DerivedSource):
    """All frames of a source, then its first one again."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        step = source.info.span / max(1, source.info.frames - 1)
        self.info = replace(source.info, frames=source.info.frames + 1, span=source.info.span + step)

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        return skip_before(self._loop(since), since)

    def _loop(self, since: Fraction | None) -> Iterator[SourceFrame]:
        first = None if since is None else next(self._source.frames())
        last: SourceFrame | None = None
        for last in self._source.frames(since):
            first = first or last
            yield last
        if first is not None and last is not None:
            yield first.with_stamp(Stamp(last.stamp.time + last.stamp.duration, last.stamp.duration))
