"""Whole frames of interlaced video, by FFmpeg's filter ``bwdif``."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter
from av.error import BlockingIOError, EOFError


class Deinterlacer:
    """One whole frame for every frame; frames that are not marked as interlaced pass as they are.

    Args:
        first: The first frame; the others are of its size and format.
        tick: Times of frames are whole multiples of this many seconds.
        unmarked: Take all frames for interlaced ones, whatever they say.
    """

    def __init__(self, first: av.VideoFrame, tick: Fraction, *, unmarked: bool = False) -> None:
        self._tick = tick
        self._form = _form(first)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=tick)
        whole = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={'all' if unmarked else 'interlaced'}")
        sink = graph.add("buffersink")
        source.link_to(whole)
        whole.link_to(sink)
        graph.configure()
        self._graph = graph

    def takes(self, frame: av.VideoFrame) -> bool:
        """Whether a frame is of the same size and format as the first."""
        return _form(frame) == self._form

    def push(self, frame: av.VideoFrame, time: Fraction) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Hand over a frame; frames that are done, with their times."""
        frame.pts, frame.time_base = round(time / self._tick), self._tick
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Frames that were held back."""
        self._graph.vpush(None)
        yield from self._pull()

    def _pull(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(frame, av.VideoFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            yield frame, round(frame.pts * frame.time_base / self._tick) * self._tick


def _form(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
