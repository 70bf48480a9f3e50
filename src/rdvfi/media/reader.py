"""Sources of frames: a video file, a few image files, a folder of images.

A `Source` says what it holds before anything is computed (`SourceInfo`), then streams its frames
one at a time; a clip is never held in memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import torch

from rdvfi.media.colour import Colour, PixelLayout
from rdvfi.media.image_files.image_header import MAX_PIXELS
from rdvfi.media.image_files.images import image_header, is_image, list_images, list_other_files
from rdvfi.media.metadata.hdr import HdrMetadata
from rdvfi.media.metadata.spatial import SpatialMetadata
from rdvfi.media.pipes import standard_input
from rdvfi.media.pixels import BLACK, Pixels
from rdvfi.media.planes import Planes
from rdvfi.media.timestamps import Stamp


class SourceFrame:
    """One decoded frame and when it is shown.

    Args:
        pixels: RGB, or what makes it when it is asked for.
        stamp: When it is shown.
        planes: The frame as it was decoded, if it was kept so (`Source.use_device`).
    """

    def __init__(self, pixels: Pixels | Callable[[], Pixels], stamp: Stamp, planes: Planes | None = None) -> None:
        self._pixels, self.stamp, self.planes = pixels, stamp, planes

    @property
    def pixels(self) -> Pixels:
        """RGB or RGBA."""
        if callable(self._pixels):
            self._pixels = self._pixels()
        return self._pixels

    def with_stamp(self, stamp: Stamp) -> "SourceFrame":
        """The same frame, shown at another time."""
        return SourceFrame(self._pixels, stamp, self.planes)


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
    """Timestamps are whole multiples of this many seconds, counted from `offset`."""
    colour: Colour
    layout: PixelLayout
    metadata: dict[str, str] = field(default_factory=dict)
    """Tags of the whole file."""
    video_metadata: dict[str, str] = field(default_factory=dict)
    """Tags of the video track: title, language, timecode, ..."""
    disposition: int = 0
    """What the video track is for, in FFmpeg's flags."""
    media: Path | None = None
    """The file whose other tracks can be taken along."""
    shortest_step: Fraction | None = None
    """The shortest time from one frame to the next, if they are not all `tick` apart."""
    fits_mean_rate: bool = True
    """Whether frames that are counted at their mean rate each keep their own number."""
    offset: Fraction = Fraction(0)
    """Time of the file that became zero."""
    live: bool = False
    """Read from a pipe: `frames` and `span` are those of its beginning, for nobody knows how long it is."""
    begin: Fraction | None = None
    """Seconds of the output before which nothing of other tracks is taken along; None for all."""
    end: Fraction | None = None
    """Seconds of the output from which on nothing of other tracks is taken along; None for all."""
    slowdown: Fraction | None = Fraction(1)
    """How many times longer the output runs; None if that varies, and other tracks cannot follow."""
    hdr: HdrMetadata = field(default_factory=HdrMetadata)
    spatial: SpatialMetadata = field(default_factory=SpatialMetadata)
    headroom: bool = False
    """Whether pixels keep video levels; see `rdvfi.media.colour.Converter`."""
    profile: bytes = b""
    """ICC profile of images; empty if there is none."""
    notes: tuple[str, ...] = ()
    """What is wrong with the source, or was done about it, in sentences."""


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read."""

    image_rate: Fraction = Fraction(24)
    """Images per second of image sources."""
    keep_start: bool = False
    """Keep the times of the file, instead of starting at zero."""
    strict: bool = False
    """Refuse a damaged file, instead of going on with the frames that there are."""
    deinterlace: str = "auto"
    """``auto`` makes whole frames of those that are marked as interlaced, ``on`` of all, ``off`` of none."""
    headroom: bool = False
    """Keep brightness outside the levels of video, for output that can hold it."""
    alpha: bool = False
    """Keep what is transparent, for output that can hold it."""
    background: tuple[int, int, int] = BLACK
    """8-bit RGB on which what is transparent is shown otherwise."""
    max_pixels: int = MAX_PIXELS
    """Pixels of a frame at most; larger ones are refused before they are decoded."""


class Source(ABC):
    """Frames of one size in order of time."""

    info: SourceInfo
    repeatable: bool = True
    """Whether it can be read more than once."""

    @abstractmethod
    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """Decode the frames one by one.

        Args:
            since: From the last frame that is not later than this time on, in seconds; from the first if not given.
        """

    @property
    def seekable(self) -> bool:
        """Whether frames from a time on are those that reading from the start gives, as far as can be seen by now."""
        return False

    def use_device(self, device: torch.device) -> None:
        """Keep frames as they are decoded, and decode them on this device where that works; not all sources can."""
        del device

    def stamps(self) -> list[Stamp] | None:
        """When all frames are shown, if that can be told without decoding; None if not, or if not `seekable`."""
        return None

    def notes(self) -> list[str]:
        """What is to be told of the source, in sentences; after reading, what was met on the way as well."""
        return list(self.info.notes)


def skip_before(frames: Iterator[SourceFrame], since: Fraction | None) -> Iterator[SourceFrame]:
    """Frames from the last one on that is not later than a time."""
    held: SourceFrame | None = None
    for frame in frames:
        if since is not None and frame.stamp.time <= since:
            held = frame
            continue
        if held is not None:
            yield held
            held = None
        yield frame
        since = None
    if held is not None:
        yield held


def open_source(path: Path | Sequence[Path], options: ReadOptions | None = None) -> Source:
    """A source of frames: a video file, a folder of images, or a list of image files.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is empty, not a video, has a single frame, or is damaged and that is
            not to be tolerated.
    """
    from rdvfi.media.image_files.image_source import ImageSource

    options = options or ReadOptions()
    if isinstance(path, Path):
        source = _open_one(path, options)
    else:
        for image in path:
            if not is_image(image):
                raise ValueError(f"{image} is not an image file; several inputs must be images")
            check_input(image)
        source = ImageSource(path, options, " ".join(str(image) for image in path))
    if source.repeatable and source.info.frames < 2:
        raise ValueError(f"{source.info.name} holds a single frame; at least two are needed")
    return source


def _open_one(path: Path, options: ReadOptions) -> Source:
    from rdvfi.media.image_files.animation import AnimatedImage
    from rdvfi.media.image_files.image_source import ImageSource
    from rdvfi.media.piped_source import PipedSource
    from rdvfi.media.video_files.video_source import VideoSource

    if str(path) == "-":
        return PipedSource(standard_input(), options)
    check_input(path)
    if path.is_dir():
        return ImageSource(list_images(path), options, str(path), list_other_files(path))
    if is_image(path) or path.suffix.lower() == ".apng":
        header = image_header(path, max_pixels=options.max_pixels)
        return AnimatedImage(path, header, options) if header.frames > 1 else ImageSource([path], options, str(path))
    return VideoSource(path, options)


def check_input(path: Path) -> None:
    """Refuse what is no file with something in it, and no folder.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is empty, or a pipe or device, which cannot be read twice.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        return
    if not path.is_file():
        raise ValueError(f"{path} is a pipe or a device; a file or a folder of images is expected")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
