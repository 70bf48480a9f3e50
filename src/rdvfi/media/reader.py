"""Sources of frames: a video file, a few image files, a folder of images.

A `Source` says what it holds before anything is computed (`SourceInfo`), then streams its frames
one at a time; a clip is never held in memory.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.error

from rdvfi.media.colour import SRGB_VIDEO, Colour, Converter, PixelLayout, quarter_turns
from rdvfi.media.images import is_image, list_images, read_image
from rdvfi.media.pixels import Pixels
from rdvfi.media.probe import Clock, first_frame, open_video, scan, video_stream
from rdvfi.media.timestamps import Stamp


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
        with open_video(path) as container:
            stream = video_stream(container, path)
            self._scan = scan(container, stream, path)
            upright = first_frame(path)
            turned = quarter_turns(upright) % 2 == 1
            layout = PixelLayout.of(stream.codec_context)
            aspect = layout.aspect and (1 / layout.aspect if turned else layout.aspect)
            self.info = SourceInfo(
                name=str(path),
                width=upright.height if turned else upright.width,
                height=upright.width if turned else upright.height,
                frames=self._scan.frames,
                span=self._scan.span,
                tick=self._scan.tick,
                colour=Colour.of(stream.codec_context),
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
            stamp, end = held.stamp, self._scan.end
            # Where frames are reordered, a file's frame durations are in the order of decoding.
            if end is not None and end > stamp.time:
                stamp = Stamp(stamp.time, end - stamp.time)
            yield SourceFrame(held.pixels, stamp)

    def _decode(self) -> Iterator[SourceFrame]:
        converter = Converter(self.info.colour, deep=self.info.layout.deep)
        last: Fraction | None = None
        decoded: deque[Fraction] = deque()
        with open_video(self._path) as container:
            stream = video_stream(container, self._path)
            stream.thread_type = "AUTO"
            try:
                for packet in container.demux(stream):
                    if packet.dts is not None and packet.size > 0:
                        decoded.append(packet.dts * packet.time_base)
                    for frame in packet.decode():
                        due = decoded.popleft() if decoded else None
                        time = self._time(frame, due, last)
                        if last is not None and time <= last:
                            continue
                        last = time
                        pixels = converter.to_rgb(frame)
                        self._check_size(pixels, time)
                        yield SourceFrame(pixels, Stamp(time, self._duration(frame)))
            except av.error.FFmpegError as error:
                at = "at its start" if last is None else f"after {float(last):.3f} s"
                raise ValueError(f"{self._path} is damaged {at}: {error.strerror}") from error

    def _time(self, frame: av.VideoFrame, due: Fraction | None, last: Fraction | None) -> Fraction:
        """When a frame is shown; ``due`` is the oldest time of decoding that is not yet used."""
        clock, tick = self._scan.clock, self._scan.tick
        if clock is Clock.SHOWN and frame.pts is not None and frame.time_base is not None:
            return frame.pts * frame.time_base
        if clock is Clock.DECODED and due is not None:
            return due
        if last is None:
            return Fraction(0)
        return last + max(1, round(self._scan.nominal / tick)) * tick

    def _duration(self, frame: av.VideoFrame) -> Fraction:
        if self._scan.clock is Clock.SHOWN and frame.duration and frame.time_base is not None:
            return frame.duration * frame.time_base
        return self._scan.nominal

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


def _describe(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} with {8 * pixels.dtype.itemsize} bits"
