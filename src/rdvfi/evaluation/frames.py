"""Reading the frames of a clip, one at a time: a video file, or a folder of images.

Frames are 8-bit RGB arrays. A video of constant frame rate is entered at the key frame before the
first wanted frame; where timestamps do not lie on a regular grid, frames are counted from the
beginning instead, so that frame numbers always mean the same pictures.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Picture = UInt8[np.ndarray, "_ _ 3"]

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_GRID_TOLERANCE = 0.02
"""How far a timestamp may be from the frame grid, in frames, before counting takes over."""


def read_frames(clip: str | Path, *, start: int = 0, max_size: int | None = None) -> Iterator[Picture]:
    """Frames of a video file or of a folder of images, from number ``start`` on.

    Args:
        clip: Video file, or folder whose images are taken in natural order of their names.
        start: Number of the first frame, from 0.
        max_size: Longest side of the frames returned; larger ones are reduced by area averaging.

    Raises:
        FileNotFoundError: If ``clip`` does not exist.
        ValueError: If it is not a readable video, or its images differ in size.
    """
    path = Path(clip)
    if start < 0:
        raise ValueError(f"start is {start}; frames are numbered from 0")
    if max_size is not None and max_size < 16:
        raise ValueError(f"max_size is {max_size} pixels; it must be at least 16")
    if not path.exists():
        raise FileNotFoundError(f"no such clip: {path}")
    source = _folder_frames(path, start) if path.is_dir() else _video_frames(path, start)
    return source if max_size is None else (_reduced(frame, max_size) for frame in source)


def count_frames(clip: str | Path) -> int | None:
    """Number of frames as the file states it, without decoding; None where it does not."""
    path = Path(clip)
    if not path.exists():
        raise FileNotFoundError(f"no such clip: {path}")
    if path.is_dir():
        return len(_images_of(path))
    with _open(path) as container:
        stream = container.streams.video[0]
        if stream.frames > 0:
            return stream.frames
        if container.duration and stream.average_rate:
            return round(container.duration / 1_000_000 * float(stream.average_rate))
    return None


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key in which frame_10 follows frame_9."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _images_of(folder: Path) -> list[Path]:
    images = [path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES]
    if not images:
        raise ValueError(f"no images in folder {folder}")
    return sorted(images, key=_natural)


def _folder_frames(folder: Path, start: int) -> Iterator[Picture]:
    import cv2

    size: tuple[int, ...] | None = None
    for path in _images_of(folder)[start:]:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"cannot read image {path}: damaged or not an image")
        if size is not None and picture.shape != size:
            raise ValueError(
                f"image {path} is {picture.shape[1]}x{picture.shape[0]}; the ones before it are {size[1]}x{size[0]}"
            )
        size = picture.shape
        yield np.ascontiguousarray(picture[..., ::-1])


def _open(path: Path) -> "InputContainer":
    import av
    from av.error import FFmpegError

    try:
        container = av.open(str(path))
    except FFmpegError as error:
        raise ValueError(f"cannot read {path} as a video: {error.strerror}") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path} has no video in it")
    return container


def _video_frames(path: Path, start: int) -> Iterator[Picture]:
    from av.error import FFmpegError

    try:
        with _open(path) as container:
            entered = _enter(container, start)
            if entered is not None:
                yield from entered
                return
        with _open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if number >= start:
                    yield frame.to_ndarray(format="rgb24")
    except FFmpegError as error:
        raise ValueError(f"{path} is damaged: {error.strerror}") from error


def _enter(container: "InputContainer", start: int) -> Iterator[Picture] | None:
    """Frames from ``start`` on by seeking, or None if that cannot be trusted."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    if start == 0 or not stream.average_rate or stream.time_base is None:
        return None
    origin = stream.start_time or 0
    target = origin + int(start / stream.average_rate / stream.time_base)
    container.seek(target, stream=stream, backward=True)
    decoded = container.decode(stream)
    first = next(decoded, None)
    position = None if first is None else _number_of(first, stream, origin)
    if first is None or position is None or position > start:
        return None
    return _from_number(first, decoded, start - position)


def _number_of(frame: "VideoFrame", stream: "VideoStream", origin: int) -> int | None:
    """Number of a frame from its timestamp, or None if timestamps are not on the frame grid."""
    if frame.pts is None or stream.average_rate is None or stream.time_base is None:
        return None
    place = float((frame.pts - origin) * stream.time_base * stream.average_rate)
    return round(place) if abs(place - round(place)) < _GRID_TOLERANCE else None


def _from_number(first: "VideoFrame", rest: "Iterator[VideoFrame]", skip: int) -> Iterator[Picture]:
    if skip == 0:
        yield first.to_ndarray(format="rgb24")
    for number, frame in enumerate(rest, start=1):
        if number >= skip:
            yield frame.to_ndarray(format="rgb24")


def _reduced(picture: Picture, max_size: int) -> Picture:
    import cv2

    h, w = picture.shape[:2]
    scale = max_size / max(h, w)
    if scale >= 1.0:
        return picture
    return cv2.resize(picture, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)
