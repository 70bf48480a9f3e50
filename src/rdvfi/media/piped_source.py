"""Video from a pipe as a source of frames, read once."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
import av.error

from rdvfi.media.colour import Converter
from rdvfi.media.image_files.background import BackgroundCompositor
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.pipes import Incoming
from rdvfi.media.reader import ReadOptions, Source, SourceFrame
from rdvfi.media.timestamps import Stamp
from rdvfi.media.video_files.deinterlace import Deinterlacing, Timed
from rdvfi.media.video_files.probe import check_size, decoder_of, refuse_playlist
from rdvfi.media.video_files.video_track import describe_track, is_transparent

_NAME = "standard input"


class PipedSource(Source):
    """The frames of a video that comes through a pipe, each with its time; raises ValueError if it is no video."""

    repeatable = False

    def __init__(self, stream: Incoming, options: ReadOptions) -> None:
        self._options = options
        try:
            self._container = av.open(stream, "r", metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise ValueError(f"{_NAME} is not a video that can be read: {error.strerror}") from error
        refuse_playlist(self._container, _NAME)
        if not self._container.streams.video:
            raise ValueError(f"{_NAME} has no video stream")
        self._stream = self._container.streams.video[0]
        check_size(self._stream, _NAME, options.max_pixels)
        self._nominal = 1 / (self._stream.average_rate or self._stream.guessed_rate or Fraction(25))
        self._damaged = 0
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None:
            raise ValueError(f"{_NAME} has no frame that can be decoded")
        self._first, self._orientation = first, Orientation.from_frame(first)
        tick = self._stream.time_base or self._nominal
        others = len(self._container.streams) - 1
        lost = (f"{others} other tracks of {_NAME} are left out: sound does not come through a pipe",)
        self.info = describe_track(
            self._stream,
            first,
            self._stream.sample_aspect_ratio,
            options,
            alpha=options.alpha and is_transparent(first),
            name=_NAME,
            frames=2,
            span=self._nominal,
            tick=tick,
            metadata=dict(self._container.metadata),
            offset=Fraction(0) if options.keep_start else self._time(first, tick, None) // tick * tick,
            live=True,
            notes=lost if others else (),
        )
        self._backdrop = BackgroundCompositor(self.info.layout.alpha, options.background)
        self._deinterlacing = Deinterlacing(options.deinterlace, tick)

    def notes(self) -> list[str]:
        broken = f"{_NAME} is damaged: {self._damaged} packets cannot be read, and what there is was used"
        fields, shown = self._deinterlacing.notes(_NAME), self._backdrop.notes(_NAME)
        return [*self.info.notes, *([broken] if self._damaged else []), *fields, *shown]

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """The frames as they come, once; ``since`` is none of a pipe's."""
        converter = Converter(self.info.colour, deep=self.info.layout.deep, headroom=self.info.headroom)
        for frame, stamp in self._deinterlacing.whole(self._timed()):
            pixels = self._backdrop.show(converter.to_rgb(frame))
            yield SourceFrame(self._orientation.apply(pixels), stamp)

    def _timed(self) -> Iterator[Timed]:
        """Frames as they are stored, each with its time."""
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
            yield frame, Stamp(time - self.info.offset, length)

    def _time(self, frame: av.VideoFrame, tick: Fraction, last: Fraction | None) -> Fraction:
        if frame.pts is not None:
            return frame.pts * (frame.time_base or tick)
        return Fraction(0) if last is None else last + self._nominal

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Decoded frames; what cannot be read is passed over and counted, or refused."""
        packets, decoder = self._container.demux(self._stream), decoder_of(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from decoder.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self._damaged += 1
                if self._options.strict:
                    raise ValueError(f"{_NAME} is damaged: {error.strerror}") from error
                if self._damaged > 50:
                    return
