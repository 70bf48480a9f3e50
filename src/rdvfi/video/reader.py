"""Sources of frames: a video file, a few image files, a folder of images.

A `Source` says what it holds before anything is computed (`SourceInfo`), then streams its frames
one at a time; a clip is never held in memory. A video file is read through once without decoding
when it is opened: it gives the number of frames, and finds a damaged or truncated file before an
hour's work rather than after it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from rdvfi.video.colour import SRGB_VIDEO, Colour, Converter, PixelLayout, Pixels, quarter_turns
from rdvfi.video.images import is_image, list_images, read_image
from rdvfi.video.timing import Stamp

_TRUNCATION_SLACK = Fraction(1, 4)
"""Seconds by which a file may end before its header says so."""

_HEADER_KNOWS = ("mp4", "matroska", "avi")
"""Formats whose duration is written down, not estimated."""


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One decoded frame and when it is shown."""

    pixels: Pixels
    stamp: Stamp


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before its frames are decoded."""

    name: str
    width: int
    height: int
    frames: int
    """Expected number of frames."""
    span: Fraction
    """Seconds from the first timestamp to the last, as far as known."""
    tick: Fraction
    """Timestamps are whole multiples of this many seconds."""
    colour: Colour
    layout: PixelLayout
    metadata: dict[str, str] = field(default_factory=dict)
    media: Path | None = None
    """The file whose sound can be copied."""


class Source(ABC):
    """Frames of one size in order of time."""

    info: SourceInfo

    @abstractmethod
    def frames(self) -> Iterator[SourceFrame]:
        """Decode the frames one by one, from the first on."""


class ImageSource(Source):
    """Image files, one after the other at a constant rate.

    Args:
        paths: The images in order.
        rate: Images per second.
        name: What errors call the whole.
    """

    def __init__(self, paths: Sequence[Path], rate: Fraction, name: str) -> None:
        if rate <= 0:
            raise ValueError(f"the frame rate of images is {rate}; it must be greater than 0")
        self._paths = paths
        self._tick = 1 / rate
        self._first = read_image(paths[0])
        height, width = self._first.shape[:2]
        self.info = SourceInfo(
            name=name,
            width=width,
            height=height,
            frames=len(paths),
            span=(len(paths) - 1) * self._tick,
            tick=self._tick,
            colour=SRGB_VIDEO,
            layout=PixelLayout("420", self._first.dtype.itemsize > 1),
        )

    def frames(self) -> Iterator[SourceFrame]:
        """Read the images one by one; all must agree in size and depth."""
        for k, path in enumerate(self._paths):
            pixels = self._first if k == 0 else read_image(path)
            if pixels.shape != self._first.shape or pixels.dtype != self._first.dtype:
                raise ValueError(
                    f"all images must be alike: {path} is {_describe(pixels)}, "
                    f"{self._paths[0]} is {_describe(self._first)}"
                )
            yield SourceFrame(pixels, Stamp(k * self._tick, self._tick))


class VideoSource(Source):
    """The first video stream of a file, decoded as a stream.

    A frame without a timestamp follows the one before by one nominal frame; a frame that is not
    later than the one before is never seen by a viewer and is left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _open(path) as container:
            stream = _video_stream(container, path)
            context = stream.codec_context
            self._nominal = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))
            self._timed, packets, span = _scan(container, stream, path)
            self._tick = (stream.time_base or self._nominal) if self._timed else self._nominal
            self._end = _stream_end(stream) if self._timed else None
            upright = _first_frame(path)
            turned = quarter_turns(upright) % 2 == 1
            layout = PixelLayout.of(context)
            aspect = layout.aspect and (1 / layout.aspect if turned else layout.aspect)
            self.info = SourceInfo(
                name=str(path),
                width=upright.height if turned else upright.width,
                height=upright.width if turned else upright.height,
                frames=packets,
                span=span if self._timed else (packets - 1) * self._nominal,
                tick=self._tick,
                colour=Colour.of(context),
                layout=PixelLayout(layout.chroma, layout.deep, aspect),
                metadata=dict(container.metadata),
                media=path,
            )

    def frames(self) -> Iterator[SourceFrame]:
        """Decode the stream from the first frame on, the last one with its true duration."""
        held: SourceFrame | None = None
        for frame in self._decode():
            if held is not None:
                yield held
            held = frame
        if held is not None:
            stamp = held.stamp
            # Where frames are reordered, a file's frame durations are in the order of decoding.
            if self._end is not None and self._end > stamp.time:
                stamp = Stamp(stamp.time, self._end - stamp.time)
            yield SourceFrame(held.pixels, stamp)

    def _decode(self) -> Iterator[SourceFrame]:
        converter = Converter(self.info.colour, deep=self.info.layout.deep)
        last: Fraction | None = None
        with _open(self._path) as container:
            stream = _video_stream(container, self._path)
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    time = self._time(frame, last)
                    if last is not None and time <= last:
                        continue
                    last = time
                    pixels = converter.to_rgb(frame)
                    self._check_size(pixels, time)
                    yield SourceFrame(pixels, Stamp(time, self._duration(frame)))
            except av.error.FFmpegError as error:
                at = "at its start" if last is None else f"after {float(last):.3f} s"
                raise ValueError(f"{self._path} is damaged {at}: {error.strerror}") from error

    def _time(self, frame: av.VideoFrame, last: Fraction | None) -> Fraction:
        if self._timed and frame.pts is not None and frame.time_base is not None:
            return frame.pts * frame.time_base
        if last is None:
            return Fraction(0)
        return last + round(self._nominal / self._tick) * self._tick

    def _duration(self, frame: av.VideoFrame) -> Fraction:
        if self._timed and frame.duration and frame.time_base is not None:
            return frame.duration * frame.time_base
        return self._nominal

    def _check_size(self, pixels: Pixels, time: Fraction) -> None:
        height, width = pixels.shape[:2]
        if (width, height) != (self.info.width, self.info.height):
            raise ValueError(
                f"{self._path} changes its frame size from {self.info.width}x{self.info.height} "
                f"to {width}x{height} at {float(time):.3f} s; one size is expected"
            )


def open_source(path: Path | Sequence[Path], *, image_rate: Fraction = Fraction(24)) -> Source:
    """A source of frames: a video file, a folder of images, or a list of image files.

    Args:
        path: What to read.
        image_rate: Images per second.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is empty, truncated, not a video, or has a single frame.
    """
    if isinstance(path, Path):
        source = _open_one(path, image_rate)
    else:
        for image in path:
            if not is_image(image):
                raise ValueError(f"{image} is not an image file; several inputs must be images")
            _check_exists(image)
        source = ImageSource(path, image_rate, " ".join(str(image) for image in path))
    if source.info.frames < 2:
        raise ValueError(f"{source.info.name} holds a single frame; at least two are needed")
    return source


def _open_one(path: Path, image_rate: Fraction) -> Source:
    _check_exists(path)
    if path.is_dir():
        return ImageSource(list_images(path), image_rate, str(path))
    if is_image(path):
        return ImageSource([path], image_rate, str(path))
    return VideoSource(path)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")


def _open(path: Path) -> InputContainer:
    try:
        return av.open(str(path), metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is not a video that can be read: {error.strerror}") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    # A cover picture is a video stream too.
    cover = Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise ValueError(f"{path} has no video stream")
    return streams[0]


def _first_frame(path: Path) -> av.VideoFrame:
    with _open(path) as container:
        try:
            for frame in container.decode(_video_stream(container, path)):
                return frame
        except av.error.FFmpegError as error:
            raise ValueError(f"{path} is damaged at its start: {error.strerror}") from error
    raise ValueError(f"{path} has no frame that can be decoded")


def _scan(container: InputContainer, stream: VideoStream, path: Path) -> tuple[bool, int, Fraction]:
    """Read all packets: whether most carry timestamps, how many frames, and their span."""
    nominal = 1 / (stream.average_rate or Fraction(25))
    count = stamped = 0
    first: int | None = None
    last = 0
    end = Fraction(0)
    try:
        for packet in container.demux():
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                raise ValueError(f"{path} is truncated or damaged near {float(end):.3f} s")
            if packet.pts is not None:
                length = (packet.duration or 0) * packet.time_base or nominal
                end = max(end, packet.pts * packet.time_base + length)
            if packet.stream_index != stream.index or packet.is_discard:
                continue
            count += 1
            if packet.pts is not None:
                stamped += 1
                first = packet.pts if first is None else min(first, packet.pts)
                last = max(last, packet.pts)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is damaged near {float(end):.3f} s: {error.strerror}") from error
    if count == 0:
        raise ValueError(f"{path} has no frame that can be decoded")
    _check_whole(container, end, path)
    base = stream.time_base or Fraction(1)
    return 2 * stamped > count, count, Fraction(0) if first is None else (last - first) * base


def _stream_end(stream: VideoStream) -> Fraction | None:
    """When the last frame of the stream ends, if the file says so."""
    if stream.duration is None or stream.time_base is None:
        return None
    return ((stream.start_time or 0) + stream.duration) * stream.time_base


def _check_whole(container: InputContainer, end: Fraction, path: Path) -> None:
    """The last packet of any stream ends about where the header says that the file does."""
    known = any(name in container.format.name for name in _HEADER_KNOWS)
    if not known or container.duration is None:
        return
    declared = Fraction((container.start_time or 0) + container.duration, av.time_base)
    if declared - end > _TRUNCATION_SLACK:
        raise ValueError(
            f"{path} is truncated: it ends after {float(end):.3f} s, its header says "
            f"{float(declared):.3f} s"
        )


def _describe(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} with {8 * pixels.dtype.itemsize} bits"
