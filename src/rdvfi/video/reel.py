"""Source frames in playback order (reverse and loops included), with the output times between each two.

Most retimings go through the source once, from its beginning to its end: `stepwise` streams, holding
two frames. A curve of speed may stop, turn and come back: `played` walks along it and moves a window
of frames over the source, which is read again from an earlier frame where the curve runs backwards.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from rdvfi.media.reader import SourceFrame, SourceInfo
from rdvfi.media.timestamps import Moment, Stamp
from rdvfi.video.speed_curve import Ramped
from rdvfi.video.timing import Interval, IntervalRetiming, schedule

_WINDOW_BYTES = 2**28
"""Frames that are held while a curve runs backwards: about this many bytes."""
_SINCE = Callable[[Fraction], Iterator[SourceFrame]]


@dataclass(frozen=True, eq=False)
class ReelStep:
    """Two neighbouring source frames and the output frames from the first up to the last, without the last itself."""

    first: SourceFrame
    last: SourceFrame | None
    """None if no frame follows: the first is held."""
    interval: Interval
    moments: tuple[Moment, ...]
    gap: bool = False
    """Whether they are too far apart to make anything between them."""
    static: Callable[[], Bool[np.ndarray, "h w"] | None] | None = None
    """Finds pixels that stand still whatever moves behind them; see `rdvfi.video.masks`."""


def stepwise(
    frames: Iterable[SourceFrame],
    retiming: IntervalRetiming,
    *,
    slow: Fraction = Fraction(1),
    max_gap: Fraction | None = None,
    loop: bool = False,
    first: int = 0,
    origin: Fraction | None = None,
) -> Iterator[ReelStep]:
    """The steps of a stream, each as soon as its second frame is read.

    Args:
        frames: The source; those that are repeats are passed over.
        retiming: Where output frames are wanted.
        slow: Times are this much longer in the output.
        max_gap: Seconds of the source between two frames from which on the first is held.
        loop: The last frame is the first one, shown again.
        first: Number of the first frame that is given.
        origin: When frame 0 is shown in the output; needed unless it is the first.
    """
    held: deque[SourceFrame] = deque()

    def stamps() -> Iterator[Stamp]:
        for frame in frames:
            if not frame.stamp.repeat:
                held.append(frame)
            yield frame.stamp if slow == 1 else frame.stamp.stretched(slow)

    longest = None if max_gap is None else max_gap * slow
    for interval, moments in schedule(stamps(), retiming, max_gap=longest, loop=loop, first=first, origin=origin):
        begin = held.popleft()
        gap = longest is not None and not interval.last and interval.end - interval.start > longest
        yield ReelStep(begin, held[0] if held else None, interval, tuple(moments), gap)


def played(
    frames: Iterable[SourceFrame], ramped: Ramped, info: SourceInfo, since: _SINCE | None, *, max_gap: Fraction | None
) -> Iterator[ReelStep]:
    """The steps along a curve of speed.

    Args:
        frames: The source from its first frame on.
        ramped: The curve, and the rate of the output.
        info: Of the source.
        since: Reads the source again, from the last frame that is not later than a time on; None if it cannot
            be read twice.
        max_gap: Seconds of the source between two frames from which on the first is held.

    Raises:
        ValueError: If the curve runs back before the first frame, or backwards where the source cannot.
    """
    if ramped.curve.backwards and since is None:
        raise ValueError(f"the curve of speed runs backwards, and {info.name} can be read once only: use a file")
    stream = (frame for frame in frames if not frame.stamp.repeat)
    first = next(stream, None)
    if first is None:
        return
    origin = begin = first.stamp.time
    window = _Window(chain((first,), stream), since, info)
    if ramped.curve.from_end:
        begin += info.span
        window.restart(begin)
    located = _located(window, ramped, begin, origin)
    for index, group in groupby(located, key=lambda item: item.frame):
        shown = list(group)
        start, last = shown[0].first, shown[0].last
        end = start.stamp.time + start.stamp.duration if last is None else last.stamp.time
        interval = Interval(index, start.stamp.time, end, last is None)
        gap = last is not None and max_gap is not None and end - start.stamp.time > max_gap
        still = last is None or gap
        moments = (
            Moment(
                index,
                Fraction(0) if still else (each.place - interval.start) / (end - interval.start),
                origin + each.number / ramped.fps,
                1 / ramped.fps,
            )
            for each in shown
        )
        yield ReelStep(start, last, interval, tuple(moments), gap)


class _Located(NamedTuple):
    """An output frame, its place in the source, and the frames around it."""

    number: int
    place: Fraction
    frame: int
    first: SourceFrame
    last: SourceFrame | None


def _located(window: "_Window", ramped: Ramped, begin: Fraction, origin: Fraction) -> Iterator[_Located]:
    """Every output frame until the curve has run through the source."""
    final_time, final_speed = ramped.curve.points[-1]
    for number, place, speed in ramped.positions(begin):
        time = number / ramped.fps
        if place < origin:
            if final_speed < 0 and time >= final_time:
                return  # it has arrived at the first frame
            raise ValueError(f"the curve of speed runs back before the first frame, {float(time):g} s after it begins")
        pair = window.around(place)
        if pair is None:
            if speed > 0 or place > window.end:
                return
            pair = window.held()
        yield _Located(number, place, window.index, *pair)


class _Window:
    """Some neighbouring frames of a source, moved to where they are needed."""

    def __init__(self, stream: Iterator[SourceFrame], since: _SINCE | None, info: SourceInfo) -> None:
        self._stream, self._since, self._info = stream, since, info
        bytes_each = 3 * info.width * info.height * (2 if info.layout.deep else 1)
        self._most = max(4, _WINDOW_BYTES // bytes_each) if since is not None else 4
        self._frames = [next(stream)]
        self._at = self.index = 0
        self.end = self._frames[0].stamp.time
        """Up to where the source is known to go."""

    def restart(self, time: Fraction) -> None:
        """Go to the last frame that is not later than a time."""
        assert self._since is not None
        self._stream = (frame for frame in self._since(time) if not frame.stamp.repeat)
        self._frames = [next(self._stream)]
        self._at, self.index = 0, max(0, self._info.frames - 1)

    def around(self, place: Fraction) -> tuple[SourceFrame, SourceFrame | None] | None:
        """The frames before and after a place of the source; None if it lies after the end."""
        while place < self._frames[self._at].stamp.time:
            if self._at == 0:
                self._read_before()
            self._at -= 1
            self.index -= 1
        while self._grown() and place >= self._frames[self._at + 1].stamp.time:
            self._at += 1
            self.index += 1
        first = self._frames[self._at]
        if self._at + 1 < len(self._frames):
            return first, self._frames[self._at + 1]
        self.end = first.stamp.time + first.stamp.duration
        return (first, None) if place < self.end else None

    def held(self) -> tuple[SourceFrame, None]:
        """The last frame, to be held."""
        return self._frames[self._at], None

    def _grown(self) -> bool:
        """Have the frame after the present one, if there is one."""
        if self._at + 1 < len(self._frames):
            return True
        frame = next(self._stream, None)
        if frame is None:
            return False
        self._frames.append(frame)
        while len(self._frames) > self._most and self._at > 0:
            del self._frames[0]
            self._at -= 1
        return True

    def _read_before(self) -> None:
        """Read what comes before the first frame that is held."""
        assert self._since is not None
        until = self._frames[0].stamp.time
        mean = self._info.span / max(1, self._info.frames - 1)
        length, before = mean * (self._most // 2), deque[SourceFrame](maxlen=self._most)
        while not before:
            for frame in self._since(max(Fraction(0), until - length)):
                if frame.stamp.time >= until:
                    break
                if not frame.stamp.repeat:
                    before.append(frame)
            length *= 2
        kept = self._frames[: max(2, self._most - len(before))]
        if len(kept) < len(self._frames) or kept[-1].stamp.time < self.end:
            last = kept[-1].stamp.time
            again = self._since(last)
            self._stream = (frame for frame in again if frame.stamp.time > last and not frame.stamp.repeat)
        self._frames = [*before, *kept]
        self._at = len(before)
