"""Sources of frames: a video file, a few image files, a folder of images.

A `Source` describes itself before anything is computed (`SourceInfo`), then streams its frames one at a time; a
clip is never held in memory.
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
        pixels: RGB or RGBA, or a function that is called for them once.
        stamp: When it is shown.
        planes: The planes of the decoded frame, if the source keeps them (`Source.use_device`).
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
    """Seconds from the first timestamp to the last; an estimate for some sources."""
    tick: Fraction
    """Timestamps are whole multiples of this many seconds, counted from `offset`."""
    colour: Colour
    layout: PixelLayout
    metadata: dict[str, str] = field(default_factory=dict)
    """Tags of the whole file."""
    video_metadata: dict[str, str] = field(default_factory=dict)
    """Tags of the video track: title, language, timecode, ..."""
    disposition: int = 0
    """FFmpeg's disposition flags of the video track."""
    media: Path | None = None
    """The file with other tracks; None if there are none."""
    shortest_step: Fraction | None = None
    """Shortest time from one frame to the next, in seconds; None if all are one `tick` apart."""
    fits_mean_rate: bool = True
    """Whether rounding to the mean frame rate gives the frames the numbers 0, 1, 2, ..."""
    offset: Fraction = Fraction(0)
    """Time of the file that becomes zero, in seconds."""
    live: bool = False
    """Whether it is read from a pipe of unknown length; then `frames` and `span` are those of its start."""
    begin: Fraction | None = None
    """Start of the part of other tracks that is kept, in seconds after `offset`; None for all."""
    end: Fraction | None = None
    """End of the part of other tracks that is kept, in seconds after `offset`; None for all."""
    slowdown: Fraction | None = Fraction(1)
    """How many times longer the output runs; None if that varies, so that other tracks cannot follow."""
    hdr: HdrMetadata = field(default_factory=HdrMetadata)
    spatial: SpatialMetadata = field(default_factory=SpatialMetadata)
    headroom: bool = False
    """Whether RGB keeps video levels; see `rdvfi.media.colour.Converter`."""
    profile: bytes = b""
    """ICC profile of images; empty if there is none."""
    notes: tuple[str, ...] = ()
    """One sentence for each problem of the source and what was done about it."""


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read."""

    image_rate: Fraction = Fraction(24)
    """Frames per second of image sequences."""
    keep_start: bool = False
    """Keep the timestamps of the file, instead of starting at zero."""
    strict: bool = False
    """Refuse a damaged file, instead of using the frames that can be decoded."""
    deinterlace: str = "auto"
    """``auto`` deinterlaces frames that are marked as interlaced, ``on`` all, ``off`` none."""
    headroom: bool = False
    """Keep values outside the nominal range of video, for output that can hold them."""
    alpha: bool = False
    """Keep transparency, for output that can hold it."""
    background: tuple[int, int, int] = BLACK
    """8-bit RGB on which transparent frames are composited otherwise."""
    max_pixels: int = MAX_PIXELS
    """Largest number of pixels of a frame; larger frames are refused before they are decoded."""


class Source(ABC):
    """Frames of one size, in order of presentation."""

    info: SourceInfo
    repeatable: bool = True
    """Whether it can be read more than once."""

    @abstractmethod
    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """Decode the frames one by one.

        Args:
            since: Start at the last frame that is not later than this time, in seconds; at the first if not given.
        """

    @property
    def seekable(self) -> bool:
        """Whether reading from a time on gives the same frames as reading from the start, as far as is known yet."""
        return False

    def use_device(self, device: torch.device) -> None:
        """Keep the planes of decoded frames, and decode on this device if it can; some sources ignore it."""
        del device

    def stamps(self) -> list[Stamp] | None:
        """When all frames are shown; None if that is not known without decoding, or the source is not `seekable`."""
        return None

    def notes(self) -> list[str]:
        """One sentence for each problem of the source; after reading, those met while reading as well."""
        return list(self.info.notes)


def skip_before(frames: Iterator[SourceFrame], since: Fraction | None) -> Iterator[SourceFrame]:
    """Frames from the last one that is not later than ``since``; all frames if it is None."""
    candidate: SourceFrame | None = None
    for frame in frames:
        if since is not None and frame.stamp.time <= since:
            candidate = frame
            continue
        yield from (frame,) if candidate is None else (candidate, frame)
        candidate = since = None
    if candidate is not None:
        yield candidate


def open_source(path: Path | Sequence[Path], options: ReadOptions | None = None) -> Source:
    """A source of frames: a video file, a folder of images, or a list of image files.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is empty, not a video, has a single frame, or is damaged and ``options.strict``.
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
    """Refuse a path that is neither a folder nor a file with content.

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
