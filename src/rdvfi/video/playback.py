"""Source frames in playback order, with the output times between each two of them.

Most retimings play the source once, from its beginning to its end: `forward_steps` streams and holds two frames. A
speed curve may stop, turn and come back: `curve_steps` follows it with a window of frames, and reads the source again
from an earlier frame where the curve runs backwards.
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
from rdvfi.video.speed_curve import SpeedRamp
from rdvfi.video.timing import Interval, IntervalRetiming, schedule

_WINDOW_BYTES = 2**28
"""About how many bytes of frames are held while a curve runs backwards."""
_Reopen = Callable[[Fraction], Iterator[SourceFrame]]
"""Reads the source again, from the last frame that is not later than a time."""


@dataclass(frozen=True, eq=False)
class PlaybackStep:
    """Two neighbouring source frames, and the output frames from the first up to the last, without the last itself."""

    first: SourceFrame
    last: SourceFrame | None
    """None if no frame follows: the first is held."""
    interval: Interval
    moments: tuple[Moment, ...]
    gap: bool = False
    """Whether they are too far apart to be interpolated."""
    static: Callable[[], Bool[np.ndarray, "h w"] | None] | None = None
    """Detects static pixels between them; see `rdvfi.video.masks`."""


def forward_steps(
    frames: Iterable[SourceFrame],
    retiming: IntervalRetiming,
    *,
    slow: Fraction = Fraction(1),
    max_gap: Fraction | None = None,
    loop: bool = False,
    first: int = 0,
    origin: Fraction | None = None,
) -> Iterator[PlaybackStep]:
    """The steps of a stream without its repeats, each as soon as its second frame is read.

    Output times are ``slow`` times those of the source. Other arguments are those of `rdvfi.video.timing.schedule`.
    """
    unused: deque[SourceFrame] = deque()

    def stamps() -> Iterator[Stamp]:
        for frame in frames:
            if not frame.stamp.repeat:
                unused.append(frame)
            yield frame.stamp if slow == 1 else frame.stamp.stretched(slow)

    longest = None if max_gap is None else max_gap * slow
    for interval, moments in schedule(stamps(), retiming, max_gap=longest, loop=loop, first=first, origin=origin):
        begin = unused.popleft()
        gap = longest is not None and not interval.last and interval.end - interval.start > longest
        yield PlaybackStep(begin, unused[0] if unused else None, interval, tuple(moments), gap)


def curve_steps(
    frames: Iterable[SourceFrame],
    ramp: SpeedRamp,
    info: SourceInfo,
    reopen: _Reopen | None,
    *,
    max_gap: Fraction | None,
) -> Iterator[PlaybackStep]:
    """The steps along a speed curve.

    Args:
        frames: The source from its first frame.
        ramp: The curve, and the rate of the output.
        info: Of the source.
        reopen: Reads the source again, from the last frame that is not later than a time; None if it can be read
            only once.
        max_gap: Seconds between two source frames above which the first is held.

    Raises:
        ValueError: If the curve runs back before the first frame, or backwards and the source can be read only once.
    """
    if ramp.curve.has_reverse and reopen is None:
        raise ValueError(f"the curve of speed runs backwards, and {info.name} can be read once only: use a file")
    distinct = (frame for frame in frames if not frame.stamp.repeat)
    first = next(distinct, None)
    if first is None:
        return
    origin = begin = first.stamp.time
    window = _FrameWindow(chain((first,), distinct), reopen, info)
    if ramp.curve.starts_at_end:
        begin += info.span
        window.restart(begin)
    for index, group in groupby(_locate_frames(window, ramp, begin, origin), key=lambda located: located.source_index):
        yield _curve_step(index, list(group), ramp.fps, origin, max_gap)


class _LocatedFrame(NamedTuple):
    """An output frame, and where the curve is in the source at its time."""

    number: int
    """Of the output frame."""
    position: Fraction
    """Seconds of the source."""
    source_index: int
    """Number of the source frame before the position."""
    first: SourceFrame
    last: SourceFrame | None


def _curve_step(
    index: int, located: list[_LocatedFrame], fps: Fraction, origin: Fraction, max_gap: Fraction | None
) -> PlaybackStep:
    """The step of successive output frames that are between the same source frames."""
    first, last = located[0].first, located[0].last
    start = first.stamp.time
    end = start + first.stamp.duration if last is None else last.stamp.time
    gap = last is not None and max_gap is not None and end - start > max_gap
    held = last is None or gap
    moments = (
        Moment(index, Fraction(0) if held else (f.position - start) / (end - start), origin + f.number / fps, 1 / fps)
        for f in located
    )
    return PlaybackStep(first, last, Interval(index, start, end, last is None), tuple(moments), gap)


def _locate_frames(
    window: "_FrameWindow", ramp: SpeedRamp, begin: Fraction, origin: Fraction
) -> Iterator[_LocatedFrame]:
    """Every output frame until the curve has left the source."""
    final_time, final_speed = ramp.curve.points[-1]
    for number, position, speed in ramp.positions(begin):
        time = number / ramp.fps
        if position < origin:
            if final_speed < 0 and time >= final_time:
                return  # it has arrived at the first frame
            raise ValueError(f"the curve of speed runs back before the first frame, {float(time):g} s after it begins")
        pair = window.frames_around(position)
        if pair is None:
            if speed > 0 or position > window.end:
                return
            pair = window.current_frame, None
        yield _LocatedFrame(number, position, window.index, *pair)


class _FrameWindow:
    """Some neighbouring frames of a source, and a current one that moves over them."""

    def __init__(self, stream: Iterator[SourceFrame], reopen: _Reopen | None, info: SourceInfo) -> None:
        self._stream, self._reopen, self._info = stream, reopen, info
        frame_bytes = 3 * info.width * info.height * (2 if info.layout.deep else 1)
        self._capacity = max(4, _WINDOW_BYTES // frame_bytes) if reopen is not None else 4
        self._frames = [next(stream)]
        self._current = self.index = 0
        self.end = self._frames[0].stamp.time
        """Time up to which the source is known to go."""

    @property
    def current_frame(self) -> SourceFrame:
        return self._frames[self._current]

    def restart(self, time: Fraction) -> None:
        """Continue from the last frame that is not later than a time, taken as the last one of the source."""
        assert self._reopen is not None
        self._stream = (frame for frame in self._reopen(time) if not frame.stamp.repeat)
        self._frames = [next(self._stream)]
        self._current, self.index = 0, max(0, self._info.frames - 1)

    def frames_around(self, position: Fraction) -> tuple[SourceFrame, SourceFrame | None] | None:
        """The frames before and after a time of the source; None if it is after the end."""
        while position < self.current_frame.stamp.time:
            if self._current == 0:
                self._read_before()
            self._current -= 1
            self.index -= 1
        while self._has_next() and position >= self._frames[self._current + 1].stamp.time:
            self._current += 1
            self.index += 1
        first = self.current_frame
        if self._current + 1 < len(self._frames):
            return first, self._frames[self._current + 1]
        self.end = first.stamp.time + first.stamp.duration
        return (first, None) if position < self.end else None

    def _has_next(self) -> bool:
        """Whether a frame follows the current one; it is read if necessary."""
        if self._current + 1 < len(self._frames):
            return True
        frame = next(self._stream, None)
        if frame is None:
            return False
        self._frames.append(frame)
        while len(self._frames) > self._capacity and self._current > 0:
            del self._frames[0]
            self._current -= 1
        return True

    def _read_before(self) -> None:
        """Read the frames before the window, and drop as many at its end."""
        assert self._reopen is not None
        until = self._frames[0].stamp.time
        mean = self._info.span / max(1, self._info.frames - 1)
        length, before = mean * (self._capacity // 2), deque[SourceFrame](maxlen=self._capacity)
        while not before:
            for frame in self._reopen(max(Fraction(0), until - length)):
                if frame.stamp.time >= until:
                    break
                if not frame.stamp.repeat:
                    before.append(frame)
            length *= 2
        kept = self._frames[: max(2, self._capacity - len(before))]
        if len(kept) < len(self._frames) or kept[-1].stamp.time < self.end:
            last = kept[-1].stamp.time
            reopened = self._reopen(last)
            self._stream = (frame for frame in reopened if frame.stamp.time > last and not frame.stamp.repeat)
        self._frames = [*before, *kept]
        self._current = len(before)
