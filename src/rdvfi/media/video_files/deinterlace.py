"""Deinterlacing by FFmpeg's filter ``bwdif``."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter
from av.error import BlockingIOError, EOFError

from rdvfi.media.timestamps import Stamp
from rdvfi.media.video_files.fields import FieldAnalysis

StampedFrame = tuple[av.VideoFrame, Stamp]
"""A decoded frame and when it is shown."""

_ANALYSED_FRAMES = 200
"""Frames at the start of a video whose fields are analysed."""


class Deinterlacer:
    """Deinterlaces a video whose times are multiples of ``tick``; ``choice`` is `ReadOptions.deinterlace`."""

    def __init__(self, choice: str, tick: Fraction) -> None:
        self._choice, self._tick = choice, tick
        self._analysis, self._interlaced_frames, self._skipped_on_gpu = FieldAnalysis(), 0, 0
        self.used = False
        """Whether any frame was filtered; a filtered frame depends on those before it."""

    def process(self, frames: Iterator[StampedFrame]) -> Iterator[StampedFrame]:
        """Deinterlace from the first interlaced frame on; each frame keeps its time."""
        bwdif: BwdifFilter | None = None
        stamps: dict[Fraction, Stamp] = {}
        for number, (frame, stamp) in enumerate(frames):
            interlaced, on_gpu = frame.interlaced_frame, frame.format.name == "cuda"
            if on_gpu and self._choice != "off":  # no filter reaches the GPU's memory
                self._skipped_on_gpu += interlaced
                yield frame, stamp
                continue
            if number < _ANALYSED_FRAMES and not on_gpu:
                self._analysis.add(frame)
            self._interlaced_frames += interlaced
            if self._choice == "off" or (self._choice == "auto" and bwdif is None and not interlaced):
                yield frame, stamp
                continue
            if bwdif is not None and not bwdif.accepts(frame):
                yield from ((whole, stamps.pop(time)) for whole, time in bwdif.flush())
                bwdif = None
            bwdif = bwdif or BwdifFilter(frame, self._tick, all_frames=self._choice == "on")
            stamps[stamp.time] = stamp
            self.used = True
            yield from ((whole, stamps.pop(time)) for whole, time in bwdif.push(frame, stamp.time))
        if bwdif is not None:
            yield from ((whole, stamps.pop(time)) for whole, time in bwdif.flush())

    def notes(self, name: str) -> Iterator[str]:
        """What was seen and done so far, in sentences; ``name`` is that of the video."""
        if self._skipped_on_gpu:
            yield f"{self._skipped_on_gpu} interlaced frames of {name} were not deinterlaced; use hwaccel=off"
        if self._choice == "on" or (self._choice == "auto" and self._interlaced_frames):
            yield f"{name} is interlaced and was deinterlaced"
        elif self._interlaced_frames:
            yield f"{name} is interlaced and was not deinterlaced (deinterlace=off)"
        elif self._analysis.looks_interlaced and not self._analysis.is_telecined:
            yield f"{name} looks interlaced but is not marked as such; use deinterlace=on to deinterlace it"
        if self._analysis.is_telecined:
            yield (
                f"{name} is telecined: 24 film frames are spread over 30, so motion is uneven; "
                "undo that first, with FFmpeg's filters fieldmatch and decimate"
            )


class BwdifFilter:
    """Makes one progressive frame of every interlaced frame, or of ``all_frames``; others pass unchanged."""

    def __init__(self, first: av.VideoFrame, tick: Fraction, *, all_frames: bool = False) -> None:
        self._tick = tick
        self._frame_format = _frame_format(first)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=tick)
        bwdif = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={'all' if all_frames else 'interlaced'}")
        graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        self._graph = graph

    def accepts(self, frame: av.VideoFrame) -> bool:
        """Whether a frame has the size and format of the first."""
        return _frame_format(frame) == self._frame_format

    def push(self, frame: av.VideoFrame, time: Fraction) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Add a frame; yields the frames that are ready, with their times in seconds."""
        frame.pts, frame.time_base = round(time / self._tick), self._tick
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """The frames that the filter still holds, with their times in seconds."""
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


def _frame_format(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
