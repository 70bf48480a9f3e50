"""Limits of uploads, and their error messages.

Limits are checked before decoding: the size of a picture is in its header, the length of a clip in its packets.
Messages name files without their folders on the server.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.media.image_files.images import is_image, read_image
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import SourceInfo, open_source
from rdvfi.video.timing import Retiming


@dataclass(frozen=True)
class Limits:
    """Limits of uploads and output; raises ValueError if a limit is not greater than 0."""

    megapixels: float = 9.0
    """Millions of pixels of a picture, or of a frame of a clip."""
    seconds: float = 60.0
    """Length of a clip."""
    frames: int = 3000
    """Output frames of a clip."""
    megabytes: float = 200.0
    """Size of an uploaded file."""
    waiting: int = 16
    """Length of the queue; further requests are refused as busy."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}; it must be greater than 0")

    def read_pair(self, paths: Sequence[Path]) -> tuple[Pixels, Pixels]:
        """Two pictures of the same size.

        Raises:
            ValueError: If one is no picture, is too large, or they differ in size.
        """
        first, last = (self._read(path) for path in paths)
        if first.shape != last.shape:
            sizes = " and ".join(_format_size(pixels.shape[1], pixels.shape[0]) for pixels in (first, last))
            raise ValueError(f"the pictures are {sizes} pixels; both must have the same size")
        return first, last

    def _read(self, path: Path) -> Pixels:
        with errors_without_folders(path):
            self._check_size(path, *_picture_size(path))
            return read_image(path)

    def check_clip(self, path: Path, retiming: Retiming | None = None) -> SourceInfo:
        """Read a clip's properties.

        Raises:
            ValueError: If it cannot be read, exceeds a limit, or ``retiming`` gives too many frames.
        """
        with errors_without_folders(path):
            info = open_source(path).info
        self._check_size(path, info.width, info.height)
        seconds = float(info.span)
        if seconds > self.seconds:
            raise ValueError(f"{path.name} lasts {seconds:.1f} s; at most {self.seconds:g} s are taken here")
        count = info.frames if retiming is None else retiming.count(info.frames, info.span, info.tick)
        if count > self.frames:
            raise ValueError(
                f"{count} frames would come out of {path.name}; at most {self.frames} are made here: "
                "choose fewer, or a shorter clip"
            )
        return info

    def _check_size(self, path: Path, width: int, height: int) -> None:
        if min(width, height) < MINIMUM_SIDE:
            raise ValueError(
                f"{path.name} is {_format_size(width, height)} pixels; at least {MINIMUM_SIDE} each way are needed"
            )
        if width * height > self.megapixels * 1e6:
            raise ValueError(
                f"{path.name} is {_format_size(width, height)} pixels ({width * height / 1e6:.1f} megapixels); "
                f"at most {self.megapixels:g} megapixels are taken here"
            )


def split_pictures_and_clips(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files with and those without an image suffix."""
    return [path for path in paths if is_image(path)], [path for path in paths if not is_image(path)]


@contextmanager
def errors_without_folders(path: Path) -> Iterator[None]:
    """Raise errors as ValueError with the folder of the file removed from the message."""
    try:
        yield
    except (ValueError, OSError, MemoryError) as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height, from the header."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.size
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ValueError(f"{path} has far too many pixels") from error
        raise ValueError(f"{path} is not an image that can be read, or is damaged") from error


def _format_size(width: int, height: int) -> str:
    return f"{width}x{height}"
