"""Windows of a local copy of a published data set.

`find_windows` lists them without reading a picture; `read_windows` reads them, cropped and resized as the protocol
says. An incomplete copy is refused with the name of the first missing file, since a mean over a part of a data set is
not comparable with published ones. `rdvfi.evaluation.dataset_check` reports all problems.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from rdvfi.evaluation.dataset_protocol import Protocol
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.media.clip import VIDEO_SUFFIXES, open_clip, walk_folder
from rdvfi.media.image_files.images import is_image, list_images, read_image
from rdvfi.media.pixels import FFMPEG, Picture, to_picture

_GAMMA = 2.2


@dataclass(frozen=True)
class WindowFiles:
    """The frames of one window: image files, or frame numbers of one video."""

    clip: str
    first: int
    files: tuple[Path, ...]
    numbers: tuple[int, ...] = ()

    def read(self, *, conversion: str = FFMPEG) -> list[Picture]:
        """The frames in order, 8-bit RGB; ``conversion`` is that of video (`rdvfi.media.colour`)."""
        if self.numbers:
            return open_clip(self.files[0], conversion=conversion).read(self.numbers)
        return [to_picture(read_image(file)) for file in self.files]


@dataclass(frozen=True)
class DatasetCopy:
    """Contents of a copy: its windows, the numbers of clips and frames, and problems, as sentences."""

    windows: tuple[WindowFiles, ...]
    clips: int
    frames: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _ClipFiles:
    windows: tuple[WindowFiles, ...]
    frames: int


def find_windows(protocol: Protocol, root: Path) -> DatasetCopy:
    """All windows of the copy in the folder ``root``, in order of clips and frames; no picture is read."""
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    find = {"clips": _find_clips, "list": _find_listed, "triples": _find_triples, "named": _find_named}[protocol.layout]
    problems: list[str] = []
    clips = list(find(protocol, root, problems))
    windows = [window for clip in clips for window in clip.windows]
    files = {file for window in windows for file in window.files if not window.numbers}
    problems += [f"{file} is missing" for file in sorted(files) if not file.is_file()]
    counts = {"clips": len(clips), "frames": sum(clip.frames for clip in clips), "windows": len(windows)}
    for kind, count in counts.items():
        if protocol.expect.get(kind, count) != count:
            problems.append(f"{root} holds {count} {kind}; {protocol.title} has {protocol.expect[kind]}")
    if not windows and not problems:
        problems.append(f"{root} holds no window of {protocol.title}: {protocol.length} frames are needed for one")
    return DatasetCopy(tuple(windows), len(clips), counts["frames"], tuple(problems))


def read_windows(
    protocol: Protocol, root: Path, *, pairs: int | None = None, conversion: str = FFMPEG
) -> Iterator[EvaluationWindow]:
    """The windows of a complete copy, one at a time, cropped and resized; only the first ``pairs`` if given.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the copy is incomplete, or a file is damaged or has another size.
    """
    copy = find_windows(protocol, root)
    if copy.problems:
        first, *others = copy.problems
        raise ValueError(first + (f" (and {len(others)} more; rdvfi data check lists them)" if others else ""))
    return (_read_window(window, protocol, conversion) for window in islice(copy.windows, pairs))


def _read_window(window: WindowFiles, protocol: Protocol, conversion: str) -> EvaluationWindow:
    pictures = window.read(conversion=conversion)
    for problem in wrong_sizes(pictures, window, protocol):
        raise ValueError(problem)
    frames = np.stack([crop_and_resize(picture, protocol) for picture in pictures])
    return EvaluationWindow(window.first, frames, window.clip)


def wrong_sizes(pictures: Sequence[Picture], window: WindowFiles, protocol: Protocol) -> list[str]:
    """A sentence for every picture of a window whose size is not that of the protocol, or of the first picture."""
    height, width = pictures[0].shape[:2]
    if "size" in protocol.expect:
        width, height = protocol.expect["size"]
    names = [f"{window.files[0]}, frame {n}" for n in window.numbers] or [str(file) for file in window.files]
    return [
        f"{name} is {picture.shape[1]}x{picture.shape[0]}; expected {width}x{height}"
        for name, picture in zip(names, pictures, strict=True)
        if picture.shape[:2] != (height, width)
    ]


def _find_clips(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_ClipFiles]:
    """Folders of images and videos that match a pattern, each split into windows."""
    assert isinstance(protocol.clips, str)
    if isinstance(lengths := protocol.expect.get("lengths"), dict):
        paths = [root / protocol.clips.replace("*", clip) for clip in lengths]
        problems += [f"{path} is missing" for path in paths if not path.exists()]
    # Path.glob("**") yields folders only.
    paths = walk_folder(root) if protocol.clips == "**" else root.glob(protocol.clips)
    for path in sorted(paths):
        name = "" if path == root else str(path.relative_to(root))
        if path.is_dir() and any(is_image(file) for file in path.iterdir()):
            files = list_images(path)
            problems += _missing_numbers(files) or _wrong_length(protocol, path, len(files))
            yield _ClipFiles(_split_files(protocol, name, files), len(files))
        elif path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."):
            try:
                count = len(open_clip(path))
            except ValueError as error:
                problems.append(str(error))
                continue
            problems += _wrong_length(protocol, path, count)
            windows = (WindowFiles(name, n.start, (path,), tuple(n)) for n in _window_numbers(protocol, count))
            yield _ClipFiles(tuple(windows), count)


def _wrong_length(protocol: Protocol, path: Path, frames: int) -> list[str]:
    """A sentence, if the published clip has another number of frames."""
    lengths = protocol.expect.get("lengths")
    expected = lengths.get(path.stem, frames) if isinstance(lengths, dict) else lengths or frames
    return [] if frames == expected else [f"{path} holds {frames} frames; {protocol.title} has {expected} there"]


def _window_numbers(protocol: Protocol, frames: int) -> Iterator[range]:
    """Frame numbers of each window of a clip."""
    span = (protocol.length - 1) * protocol.stride
    for first in range(0, frames - span, protocol.step):
        yield range(first, first + span + 1, protocol.stride)


def _split_files(protocol: Protocol, clip: str, files: Sequence[Path]) -> tuple[WindowFiles, ...]:
    """The windows of a clip of image files."""
    windows = _window_numbers(protocol, len(files))
    return tuple(WindowFiles(clip, n.start, tuple(files[i] for i in n)) for n in windows)


def _missing_numbers(files: Sequence[Path]) -> list[str]:
    """Sentences about gaps in the numbering of a folder's images; none if a name has no number."""
    matches = [re.search(r"(\d+)(?=\.\w+$)", file.name) for file in files]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) < len(files):
        return []
    gaps = [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]
    return [
        f"{files[0].parent} lacks frames {a} to {b}" if b > a else f"{files[0].parent} lacks frame {a}" for a, b in gaps
    ]


def _read_list(protocol: Protocol, root: Path, problems: list[str]) -> list[str]:
    """The lines of the protocol's list file that are not empty."""
    path = root / protocol.list
    if not path.is_file():
        problems.append(f"{path} is missing")
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _find_listed(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_ClipFiles]:
    """Folders that a list file names, each with one window."""
    assert isinstance(protocol.clips, str)
    for line in _read_list(protocol, root, problems):
        folder = root / protocol.clips.replace("{}", line)
        files = tuple(folder / protocol.names.replace("{}", str(i + 1)) for i in range(protocol.length))
        yield _ClipFiles((WindowFiles(line, 0, files),), len(files))


def _find_triples(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_ClipFiles]:
    """Lines of three files: the first, the middle and the last frame of a window."""
    for line in _read_list(protocol, root, problems):
        files = [_local_path(root, path) for path in line.split()]
        numbers = [re.fullmatch(r"(\d+)\.\w+", file.name) for file in files]
        if len(files) != 3 or not all(numbers):
            problems.append(f"{root / protocol.list} has a line that does not name three numbered frames: {line!r}")
            continue
        first, last = (int(numbers[i][1]) for i in (0, 2))  # pyright: ignore[reportOptionalSubscript]
        step, rest = divmod(last - first, protocol.length - 1)
        if rest or step < 1:
            problems.append(f"{root / protocol.list}: frames {first} to {last} of {line!r} are no {protocol.length}")
            continue
        digits = len(files[0].stem)
        window = [files[0].with_stem(f"{number:0{digits}d}") for number in range(first, last + 1, step)]
        clip = str(files[0].parent.relative_to(root / "test"))
        yield _ClipFiles((WindowFiles(clip, first, tuple(window)),), len(window))


def _local_path(root: Path, path: str) -> Path:
    """The local path of a listed file. Lists contain their authors' paths, which agree after the folder ``test``."""
    parts = path.replace("\\", "/").split("/")
    return Path(root, "test", *parts[parts.index("test") + 1 if "test" in parts else 0 :])


def _find_named(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_ClipFiles]:
    """Clips whose frames are all in one folder, by their names."""
    for name in protocol.clips:
        files = [root / protocol.names.format(name, number) for number in range(1, protocol.count + 1)]
        missing = [file for file in files if not file.is_file()]
        problems += [f"{file} is missing" for file in missing]
        yield _ClipFiles(_split_files(protocol, name, files[: protocol.last]), len(files) - len(missing))


def crop_and_resize(picture: Picture, protocol: Protocol) -> Picture:
    """The picture, cropped and resized as the protocol says."""
    import cv2

    picture = _crop(picture, protocol)
    if protocol.resize is None or protocol.resize == (picture.shape[1], picture.shape[0]):
        return np.ascontiguousarray(picture)
    if protocol.light == "coded":
        return cv2.resize(picture, protocol.resize, interpolation=cv2.INTER_AREA)
    linear = (picture.astype(np.float32) / 255.0) ** _GAMMA
    resized = cv2.resize(linear, protocol.resize, interpolation=cv2.INTER_AREA)
    return np.round(255.0 * resized ** (1.0 / _GAMMA)).astype(np.uint8)


def _crop(picture: Picture, protocol: Protocol) -> Picture:
    h, w = picture.shape[:2]
    if protocol.crop is None:
        return picture
    if isinstance(protocol.crop, str):
        target = protocol.resize if protocol.crop == "aspect" else None
        aspect = 1.0 if target is None else target[0] / target[1]
        crop_w, crop_h = min(w, round(h * aspect)), min(h, round(w / aspect))
    else:
        crop_w, crop_h = protocol.crop
    if crop_w > w or crop_h > h:
        raise ValueError(f"a frame is {w}x{h}; {protocol.title} takes its middle {crop_w}x{crop_h}")
    y, x = (h - crop_h) // 2, (w - crop_w) // 2
    return picture[y : y + crop_h, x : x + crop_w]
