"""Video from a pipe: read once, as it comes."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain

import av
import av.error

from rdvfi.media.colour import Colour, Converter, PixelLayout
from rdvfi.media.hdr import Brightness
from rdvfi.media.orientation import Orientation
from rdvfi.media.pipes import Incoming
from rdvfi.media.probe import refuse_playlist
from rdvfi.media.reader import ReadOptions, Source, SourceFrame, SourceInfo
from rdvfi.media.spatial import Spatial
from rdvfi.media.timestamps import Stamp

_NAME = "standard input"


class PipedSource(Source):
    """The frames of a video that comes through a pipe, each with its time.

    Args:
        stream: What comes.
        options: How it is read.

    Raises:
        ValueError: If it is no video.
    """

    repeatable = False

    def __init__(self, stream: Incoming, options: ReadOptions) -> None:
        self._options, self._left_out = options, list[str]()
        try:
            self._container = av.open(stream, "r", metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise ValueError(f"{_NAME} is not a video that can be read: {error.strerror}") from error
        refuse_playlist(self._container, _NAME)
        if not self._container.streams.video:
            raise ValueError(f"{_NAME} has no video stream")
        self._stream = self._container.streams.video[0]
        self._damaged = 0
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None:
            raise ValueError(f"{_NAME} has no frame that can be decoded")
        self._first = first
        self._orientation = Orientation.of(first)
        self.info = self._described(first)

    def _described(self, first: av.VideoFrame) -> SourceInfo:
        context, stream = self._stream.codec_context, self._stream
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        tick = stream.time_base or 1 / rate
        self._nominal, zero = 1 / rate, self._time(first, tick, None)
        layout, turned = PixelLayout.of(context, stream.sample_aspect_ratio), self._orientation.transposed
        colour = Colour.of(context)
        rgb = first.format.is_rgb or len(first.format.components) < 3
        others = len(self._container.streams) - 1
        lost = (f"{others} other tracks of {_NAME} are left out: sound does not come through a pipe",)
        return SourceInfo(
            name=_NAME,
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            frames=2,
            span=self._nominal,
            tick=tick,
            colour=colour,
            layout=replace(layout, aspect=layout.aspect and (1 / layout.aspect if turned else layout.aspect)),
            metadata=dict(self._container.metadata),
            video_metadata=dict(stream.metadata),
            offset=Fraction(0) if self._options.keep_start else zero // tick * tick,
            brightness=Brightness.of(first),
            spatial=Spatial.of(first, stream.metadata),
            headroom=self._options.headroom and not colour.full_range and not rgb,
            live=True,
            notes=lost if others else (),
        )

    def notes(self) -> list[str]:
        """See `Source.notes`."""
        broken = f"{_NAME} is damaged: {self._damaged} packets cannot be read, and what there is was used"
        return [*self.info.notes, *([broken] if self._damaged else [])]

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """The frames as they come, once; ``since`` is none of a pipe's."""
        converter = Converter(self.info.colour, deep=self.info.layout.deep, headroom=self.info.headroom)
        last: Fraction | None = None
        for frame in chain((self._first,), self._frames):
            time = self._time(frame, self.info.tick, last)
            if last is not None and time <= last:
                continue
            last = time
            if (frame.width, frame.height) != (self._first.width, self._first.height):
                raise ValueError(f"{_NAME} changes its frame size to {frame.width}x{frame.height}")
            base = frame.time_base or self.info.tick
            length = frame.duration * base if frame.duration else self._nominal
            pixels = self._orientation.upright(converter.to_rgb(frame))
            yield SourceFrame(pixels, Stamp(time - self.info.offset, length))

    def _time(self, frame: av.VideoFrame, tick: Fraction, last: Fraction | None) -> Fraction:
        if frame.pts is not None:
            return frame.pts * (frame.time_base or tick)
        return Fraction(0) if last is None else last + self._nominal

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Decoded frames; what cannot be read is passed over and counted, or refused."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame))
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self._damaged += 1
                if self._options.strict:
                    raise ValueError(f"{_NAME} is damaged: {error.strerror}") from error
                if self._damaged > 50:
                    return
