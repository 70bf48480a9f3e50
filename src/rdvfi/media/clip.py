"""Random access to frames by number, for training and evaluation.

A `Clip` returns any of its frames as 8-bit RGB. Frames of a video are numbered in order of presentation. Its packets
are read once for the times of the frames; decoding then starts at the keyframe before the first wanted frame. If a
file has no reliable timestamps, decoding starts at its beginning.

For a whole clip at its full depth, with exact times and audio, see `rdvfi.media.reader`.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from rdvfi.media.image_files.images import is_image, list_images, read_image
from rdvfi.media.pixels import EXACT, Picture, to_picture

_LOGGER = logging.getLogger(__name__)
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v"})
"""Suffixes that `find_clips` takes for videos; `open_clip` opens any file that FFmpeg reads."""


class Clip(ABC):
    """A sequence of 8-bit RGB frames of one size with random access."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abstractmethod
    def _decode(self, numbers: Sequence[int]) -> Iterator[Picture]:
        """Frames by rising number, up to the first that cannot be read."""

    def frames(self, start: int = 0) -> Iterator[Picture]:
        """Frames from number ``start`` on, one at a time.

        Raises:
            ValueError: If ``start`` is below 0, or a frame cannot be read.
        """
        if start < 0:
            raise ValueError(f"start is {start}; frames are numbered from 0")
        return self._decode(range(start, len(self)))

    def read(self, numbers: Sequence[int]) -> list[Picture]:
        """Frames by rising number; raises ValueError if a frame cannot be read."""
        frames = list(self._decode(numbers))
        if len(frames) < len(numbers):
            raise ValueError(f"{self.name} is damaged: frames {list(numbers)} cannot be read")
        return frames


class FolderClip(Clip):
    """The images of a folder in natural order; 16-bit images are reduced to 8 bits."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._paths = list_images(folder)

    def __len__(self) -> int:
        return len(self._paths)

    def _decode(self, numbers: Sequence[int]) -> Iterator[Picture]:
        shape: tuple[int, ...] | None = None
        for path in (self._paths[number] for number in numbers):
            picture = to_picture(read_image(path))
            if shape is not None and picture.shape != shape:
                height, width = picture.shape[:2]
                raise ValueError(f"image {path} is {width}x{height}; the ones before it are {shape[1]}x{shape[0]}")
            shape = picture.shape
            yield picture


class VideoClip(Clip):
    """The frames of a video file, on disk or in memory."""

    def __init__(self, file: Path | BytesIO, *, conversion: str = EXACT) -> None:
        from rdvfi.media.video_files.probe import display_name, read_index

        self._file, self._conversion = file, conversion
        self.name = display_name(file)
        self._index = read_index(file)

    def __len__(self) -> int:
        return self._index.frames

    def _decode(self, numbers: Sequence[int]) -> Iterator[Picture]:
        from rdvfi.media.video_files.decoder import decode_frames

        return decode_frames(self._file, self._index, numbers, conversion=self._conversion)


def open_clip(path: str | os.PathLike[str], *, conversion: str = EXACT) -> Clip:
    """A video file or a folder of images.

    Args:
        path: The file or folder.
        conversion: How video is converted to RGB: "exact", or "ffmpeg" as in most evaluations
            (`rdvfi.media.colour`).

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is neither, or the folder holds no images.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such clip: {path}")
    return FolderClip(path) if path.is_dir() else VideoClip(path, conversion=conversion)


def walk_folder(folder: Path) -> list[Path]:
    """A folder with all files and folders below it, sorted; links to folders are not followed.

    A folder that cannot be listed, or vanishes meanwhile, is skipped with a warning.
    """

    def warn(error: OSError) -> None:
        _LOGGER.warning("%s is left out: %s", error.filename, error.strerror)

    paths = [folder]
    for parent, folders, files in os.walk(folder, onerror=warn):
        paths += [Path(parent, name) for name in (*folders, *files)]
    return sorted(paths)


def find_clips(folder: Path) -> dict[str, Clip]:
    """All clips below a folder, sorted by name: video files, and folders with images.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no clips, or one that cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    clips: dict[str, Clip] = {}
    for path in walk_folder(folder):
        name = str(path.relative_to(folder))
        if path.is_dir() and any(is_image(file) for file in path.iterdir()):
            clips[name] = FolderClip(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            clips[name] = VideoClip(path)
    if not clips:
        raise ValueError(f"{folder} holds no clips: neither videos nor folders of images")
    return clips
