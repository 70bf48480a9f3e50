"""Sinks of frames: a video file with the source's sound, or a folder of PNG images."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from rdvfi.media.codecs import choose_codec, choose_pixel_format, encoder_options
from rdvfi.media.colour import Converter
from rdvfi.media.images import write_png
from rdvfi.media.output import FRAME_NAME, complete_or_nothing, is_folder_output
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import SourceInfo
from rdvfi.media.sound import SoundCopier
from rdvfi.media.timestamps import Moment

_FINEST_TICK = Fraction(1, 1_000_000_000)
"""Encoders hold time bases in 32 bits, libvpx up to 10^9."""

_CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""Metadata that describes the source file itself, not what it shows."""


@dataclass(frozen=True)
class SinkOptions:
    """How the output is written."""

    codec: str | None = None
    """A name of `rdvfi.media.codecs.CODECS`; None chooses by the suffix."""
    crf: int | None = None
    """Quality of the codec, lower is better; None is its default."""
    audio: bool = True
    """Copy the sound."""


class Sink(ABC):
    """Takes the output frames in order."""

    @abstractmethod
    def write(self, pixels: Pixels, moment: Moment) -> None:
        """Write one frame."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is still held back."""


class FolderSink(Sink):
    """Numbered PNG images: lossless, 16 bits a channel where the source is deeper than 8."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def write(self, pixels: Pixels, moment: Moment) -> None:
        """Write one image."""
        write_png(self._folder / FRAME_NAME.format(self._count), pixels)
        self._count += 1

    def finish(self) -> None:
        """Nothing is held back."""


class VideoSink(Sink):
    """Encodes a video stream with exact timestamps and copies the sound beside it.

    Timestamps are counted in ``tick``, in which every one of them is whole. MP4 and MOV keep
    them exactly; Matroska and WebM round each to a millisecond, without adding up.
    """

    def __init__(
        self,
        container: OutputContainer,
        info: SourceInfo,
        options: SinkOptions,
        *,
        destination: Path,
        tick: Fraction,
        rate: Fraction,
    ) -> None:
        codec = choose_codec(options.codec, destination)
        self._container = container
        self._tick = max(tick, _FINEST_TICK)
        self._format = choose_pixel_format(codec, info.layout, info.width, info.height)
        self._converter = Converter(info.colour, deep=info.layout.deep)
        quality = encoder_options(codec, options.crf)
        stream = container.add_stream(codec.encoder, rate=rate, options=quality)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        context = self._stream.codec_context
        context.width, context.height = info.width, info.height
        context.pix_fmt = self._format
        # The encoder's own time base: a rate alone rounds timestamps to whole frames.
        context.time_base = self._tick
        if info.layout.aspect is not None:
            context.sample_aspect_ratio = info.layout.aspect
        rgb = av.VideoFormat(self._format).is_rgb
        colour = replace(info.colour, matrix=0, full_range=True) if rgb else info.colour
        colour.tag(context)
        self._durations: deque[tuple[int, int]] = deque()
        self._held: av.Packet | None = None
        self._first_dts: int | None = None
        self._start: int | None = None
        self._end = 0
        tags = {k: v for k, v in info.metadata.items() if k.lower() not in _CONTAINER_TAGS}
        container.metadata.update(tags)
        self._sound = SoundCopier(info.media if options.audio else None, container)

    def write(self, pixels: Pixels, moment: Moment) -> None:
        """Encode one frame, and copy the sound up to its time."""
        frame = self._converter.from_rgb(pixels, self._format)
        frame.pts = round(moment.time / self._tick)
        frame.time_base = self._tick
        # A frame keeps the picture type of its source, which would force the encoder's hand.
        frame.pict_type = 0
        self._start = frame.pts if self._start is None else self._start
        self._end = round((moment.time + moment.duration) / self._tick)
        self._durations.append((frame.pts, self._end - frame.pts))
        self._mux(self._stream.encode(frame))
        self._sound.advance(moment.time)

    def finish(self) -> None:
        """Flush the encoder and copy the rest of the sound."""
        self._mux(self._stream.encode(None))
        self._mux_last()
        self._sound.finish()

    def close(self) -> None:
        """Release the source of the sound."""
        self._sound.close()

    def _mux(self, packets: list[av.Packet]) -> None:
        """Write packets with their durations; the latest waits, for it may be the last."""
        for packet in packets:
            packet.duration = self._take_duration(packet.pts)
            packet.time_base = self._tick
            if self._first_dts is None:
                self._first_dts = packet.dts
            if self._held is not None:
                self._container.mux(self._held)
            self._held = packet

    def _mux_last(self) -> None:
        """Write the last packet in the order of decoding, which is seldom the last one shown.

        MP4 adds up durations in that order; the sum must be the time for which frames are shown.
        """
        packet, first, start = self._held, self._first_dts, self._start
        if packet is None:
            return
        if packet.dts is not None and first is not None and start is not None:
            packet.duration = max(1, (self._end - start) - (packet.dts - first))
        self._container.mux(packet)

    def _take_duration(self, pts: int | None) -> int:
        """The duration of the frame with this timestamp; encoders reorder frames."""
        for i, (known, duration) in enumerate(self._durations):
            if known == pts:
                del self._durations[i]
                return duration
        raise RuntimeError(f"the encoder returned a frame at {pts}, which was not given to it")


def check_options(destination: Path, info: SourceInfo, options: SinkOptions) -> None:
    """Refuse, before any work, options that the destination cannot follow.

    Raises:
        ValueError: If codec, quality or frame size do not fit it.
    """
    if is_folder_output(destination):
        if options.codec is not None or options.crf is not None:
            raise ValueError(f"codec and crf are for video files; {destination} is a folder")
        return
    codec = choose_codec(options.codec, destination)
    encoder_options(codec, options.crf)
    choose_pixel_format(codec, info.layout, info.width, info.height)


@contextmanager
def open_sink(
    destination: Path,
    info: SourceInfo,
    options: SinkOptions,
    *,
    tick: Fraction,
    rate: Fraction,
) -> Iterator[Sink]:
    """A sink whose output appears at ``destination`` when the block ends without an error.

    Args:
        destination: A file with a known video suffix, or a folder.
        info: The source.
        options: How to write.
        tick: A time in which every timestamp is whole.
        rate: About how many frames a second there will be.

    Raises:
        ValueError: If the container cannot hold the video or its sound.
    """
    with complete_or_nothing(destination) as partial:
        if is_folder_output(destination):
            folder_sink = FolderSink(partial)
            yield folder_sink
            folder_sink.finish()
            return
        suffix = destination.suffix.lower()
        # The index moves to the front of the file, so that players can start while it loads.
        flags = {"movflags": "+faststart"} if suffix in (".mp4", ".mov") else {}
        try:
            with av.open(str(partial), "w", options=flags) as container:
                sink = VideoSink(container, info, options, destination=destination, tick=tick, rate=rate)
                try:
                    container.start_encoding()
                    yield sink
                    sink.finish()
                finally:
                    sink.close()
        except av.error.FFmpegError as error:
            raise ValueError(f"cannot write {destination}: {error.strerror}") from error
