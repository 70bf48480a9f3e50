"""Video from a pipe as a source of frames, read once."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
import av.error
from av.container import InputContainer

from rdvfi.media.colour import Converter
from rdvfi.media.image_files.background import BackgroundCompositor
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.pipes import InputPipe
from rdvfi.media.reader import ReadOptions, Source, SourceFrame, SourceInfo
from rdvfi.media.timestamps import Stamp
from rdvfi.media.video_files.deinterlace import Deinterlacer, StampedFrame
from rdvfi.media.video_files.probe import (
    check_size,
    nominal_frame_duration,
    open_container,
    refuse_playlist,
    select_decoder,
)
from rdvfi.media.video_files.video_track import is_transparent, track_info

_NAME = "standard input"
_MAX_ERRORS = 50
"""Packets that cannot be decoded, after which reading ends."""


class PipedSource(Source):
    """The frames of a video that comes through a pipe; raises ValueError if it is no video."""

    repeatable = False

    def __init__(self, pipe: InputPipe, options: ReadOptions) -> None:
        self._options = options
        self._container = _open_pipe(pipe)
        self._stream = self._container.streams.video[0]
        check_size(self._stream, _NAME, options.max_pixels)
        self._nominal_duration = nominal_frame_duration(self._stream)
        self._errors = 0
        self._frames = self._decode()
        first = next(self._frames, None)
        if first is None:
            raise ValueError(f"{_NAME} has no frame that can be decoded")
        self._first, self._orientation = first, Orientation.from_frame(first)
        self.info = self._describe()
        self._background = BackgroundCompositor(self.info.layout.alpha, options.background)
        self._deinterlacer = Deinterlacer(options.deinterlace, self.info.tick)

    def _describe(self) -> SourceInfo:
        first, options = self._first, self._options
        tick = Fraction(self._stream.time_base or self._nominal_duration)
        others = len(self._container.streams) - 1
        note = f"{others} other tracks of {_NAME} are left out: only video is read from a pipe"
        return track_info(
            self._stream,
            first,
            Fraction(self._stream.sample_aspect_ratio or 1),
            options,
            alpha=options.alpha and is_transparent(first),
            name=_NAME,
            frames=2,
            span=self._nominal_duration,
            tick=tick,
            metadata=dict(self._container.metadata),
            offset=Fraction(0) if options.keep_start else self._frame_time(first, tick, None) // tick * tick,
            live=True,
            notes=(note,) if others else (),
        )

    def notes(self) -> list[str]:
        notes = list(self.info.notes)
        if self._errors:
            notes.append(
                f"{_NAME} is damaged; frames that could be decoded were used: {self._errors} packets cannot be read"
            )
        return [*notes, *self._deinterlacer.notes(_NAME), *self._background.notes(_NAME)]

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """The frames as they arrive, once; ``since`` is ignored."""
        converter = Converter(self.info.colour, deep=self.info.layout.deep, headroom=self.info.headroom)
        for frame, stamp in self._deinterlacer.process(self._decode_stamped()):
            pixels = self._background.compose(converter.to_rgb(frame))
            yield SourceFrame(self._orientation.apply(pixels), stamp)

    def _decode_stamped(self) -> Iterator[StampedFrame]:
        last: Fraction | None = None
        for frame in chain((self._first,), self._frames):
            time = self._frame_time(frame, self.info.tick, last)
            if last is not None and time <= last:
                continue
            last = time
            if (frame.width, frame.height) != (self._first.width, self._first.height):
                raise ValueError(f"{_NAME} changes its frame size to {frame.width}x{frame.height}")
            time_base = frame.time_base or self.info.tick
            duration = frame.duration * time_base if frame.duration else self._nominal_duration
            yield frame, Stamp(time - self.info.offset, duration)

    def _frame_time(self, frame: av.VideoFrame, tick: Fraction, last: Fraction | None) -> Fraction:
        if frame.pts is not None:
            return frame.pts * (frame.time_base or tick)
        return Fraction(0) if last is None else last + self._nominal_duration

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decoded frames; packets that cannot be decoded are counted, or refused."""
        packets, decoder = self._container.demux(self._stream), select_decoder(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from decoder.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self._errors += 1
                if self._options.strict:
                    raise ValueError(f"{_NAME} is damaged: {error.strerror}") from error
                if self._errors > _MAX_ERRORS:
                    return


def _open_pipe(pipe: InputPipe) -> InputContainer:
    try:
        container = open_container(pipe)
    except av.error.FFmpegError as error:
        raise ValueError(f"{_NAME} is not a video that can be read: {error.strerror}") from error
    refuse_playlist(container, _NAME)
    if not container.streams.video:
        raise ValueError(f"{_NAME} has no video stream")
    return container
