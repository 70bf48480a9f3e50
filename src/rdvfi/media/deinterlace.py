"""Whole frames of interlaced video, by FFmpeg's filter ``bwdif``."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter
from av.error import BlockingIOError, EOFError
from av.video.stream import VideoStream


class Deinterlacer:
    """One whole frame for every frame; frames that are not marked as interlaced pass as they are.

    Args:
        stream: Where the frames come from.
        tick: Times of frames are whole multiples of this many seconds.
    """

    def __init__(self, stream: VideoStream, tick: Fraction) -> None:
        self._tick = tick
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream, time_base=tick)
        whole = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        sink = graph.add("buffersink")
        source.link_to(whole)
        whole.link_to(sink)
        graph.configure()
        self._graph = graph

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
