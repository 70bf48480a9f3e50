"""Deinterlacing by FFmpeg's filter ``bwdif``."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter
from av.error import BlockingIOError, EOFError

from rdvfi.media.timestamps import Stamp
from rdvfi.media.video_files.fields import Fields

Timed = tuple[av.VideoFrame, Stamp]

_SEEN = 200
"""Frames whose fields are compared."""


class Deinterlacing:
    """Whole frames instead of interlaced ones, as asked, and what is to be told of it.

    Args:
        choice: ``auto``, ``on`` or ``off``; see `rdvfi.media.reader.ReadOptions`.
        tick: Times of frames are whole multiples of this many seconds.
    """

    def __init__(self, choice: str, tick: Fraction) -> None:
        self._choice, self._tick = choice, tick
        self._fields, self._marked, self._passed = Fields(), 0, 0
        self.used = False
        """Whether any frame was made of fields; such a frame depends on those before it."""

    def whole(self, timed: Iterator[Timed]) -> Iterator[Timed]:
        """Frames from the first interlaced one on become whole; each keeps its time."""
        filtered: Deinterlacer | None = None
        stamps: dict[Fraction, Stamp] = {}
        for number, (frame, stamp) in enumerate(timed):
            marked = frame.interlaced_frame
            if frame.format.name == "cuda" and self._choice != "off":  # decoded there, where no filter reaches it
                self._passed += marked
                yield frame, stamp
                continue
            if number < _SEEN and frame.format.name != "cuda":
                self._fields.see(frame)
            self._marked += marked
            if self._choice == "off" or (self._choice == "auto" and filtered is None and not marked):
                yield frame, stamp
                continue
            if filtered is not None and not filtered.takes(frame):
                yield from ((whole, stamps.pop(time)) for whole, time in filtered.flush())
                filtered = None
            filtered = filtered or Deinterlacer(frame, self._tick, unmarked=self._choice == "on")
            stamps[stamp.time] = stamp
            self.used = True
            yield from ((whole, stamps.pop(time)) for whole, time in filtered.push(frame, stamp.time))
        if filtered is not None:
            yield from ((whole, stamps.pop(time)) for whole, time in filtered.flush())

    def notes(self, name: str) -> Iterator[str]:
        """What was seen and done so far, in sentences."""
        if self._passed:
            yield f"{self._passed} interlaced frames of {name} were left as they are; hwaccel=off mends them"
        if self._choice == "on" or (self._choice == "auto" and self._marked):
            yield f"{name} is interlaced: whole frames were made of its fields"
        elif self._marked:
            yield f"{name} is interlaced, and its frames were left as they are (deinterlace=off)"
        elif self._fields.mixed and not self._fields.telecined:
            yield f"{name} looks interlaced, though it is not marked so; deinterlace=on makes whole frames of it"
        if self._fields.telecined:
            yield (
                f"{name} is telecined: 24 frames of film were spread over 30, and their motion is uneven; "
                "undo that first, with FFmpeg's filters fieldmatch and decimate"
            )


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
        graph.link_nodes(source, whole, sink).configure()
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
