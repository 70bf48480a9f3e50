"""Windows of a local copy of a published data set, and validation of the copy.

`find_windows` lists them without reading a picture; `check_copy` says what is missing or of another number;
`windows_of` reads them, cropped and reduced as the protocol says. A copy that is not whole is refused, and the
file is named: a mean over what happens to be there compares with nothing.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from rdvfi.evaluation.clip_evaluation import EvaluationWindow
from rdvfi.evaluation.dataset_protocol import Protocol
from rdvfi.media.clip import VIDEO_SUFFIXES, open_clip, walk_folder
from rdvfi.media.image_files.images import is_image, list_images, read_image
from rdvfi.media.pixels import FFMPEG, Picture, to_picture

_GAMMA = 2.2


@dataclass(frozen=True)
class WindowFiles:
    """The frames of one window: image files, or numbers of frames of one video."""

    clip: str
    first: int
    files: tuple[Path, ...]
    numbers: tuple[int, ...] = ()

    def read(self, *, conversion: str = FFMPEG) -> list[Picture]:
        """The frames in order, 8-bit RGB; ``conversion`` is that of video (`rdvfi.media.colour`).

        Raises:
            FileNotFoundError: If one is missing.
            ValueError: If one is damaged.
        """
        if self.numbers:
            return open_clip(self.files[0], conversion=conversion).read(self.numbers)
        return [to_picture(read_image(file)) for file in self.files]


@dataclass(frozen=True)
class Copy:
    """What a folder holds of a set: its windows, its clips and frames, and what is wrong, in sentences."""

    windows: tuple[WindowFiles, ...]
    clips: int
    frames: int
    problems: tuple[str, ...]


def find_windows(protocol: Protocol, root: Path) -> Copy:
    """All windows of a copy, in order of clips and frames; no picture is read.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    find = {"clips": _clips, "list": _listed, "triples": _triples, "named": _named}[protocol.layout]
    problems: list[str] = []
    clips = list(find(protocol, root, problems))
    windows = [window for clip in clips for window in clip.windows]
    files = {file for window in windows for file in window.files if not window.numbers}
    problems += [f"{file} is missing" for file in sorted(files) if not file.is_file()]
    counted = {"clips": len(clips), "frames": sum(clip.frames for clip in clips), "windows": len(windows)}
    for what, number in counted.items():
        if protocol.expect.get(what, number) != number:
            problems.append(f"{root} holds {number} {what}; {protocol.title} has {protocol.expect[what]}")
    if not windows and not problems:
        problems.append(f"{root} holds no window of {protocol.title}: {protocol.length} frames are needed for one")
    return Copy(tuple(windows), len(clips), counted["frames"], tuple(problems))


def check_copy(protocol: Protocol, root: Path, *, hashes: Path | None = None) -> Iterator[str]:
    """Everything that is wrong with a copy, one sentence at a time; every picture is read.

    Args:
        protocol: Of the set.
        root: The copy.
        hashes: File of SHA-256 sums as ``sha256sum`` writes them, relative to the copy.
    """
    copy = find_windows(protocol, root)
    yield from copy.problems
    yield from _wrong_hashes({**protocol.expect.get("sha256", {}), **(_read_hashes(hashes) if hashes else {})}, root)
    seen: set[Path | tuple[Path, int]] = set()
    for window in copy.windows:
        keys = [(window.files[0], n) for n in window.numbers] or list(window.files)
        if not seen.issuperset(keys):
            yield from _wrong_pictures(window, protocol)
            seen.update(keys)


def windows_of(
    protocol: Protocol, root: Path, *, pairs: int | None = None, conversion: str = FFMPEG
) -> Iterator[EvaluationWindow]:
    """The windows of a whole copy, one at a time, cropped and reduced; ``pairs`` takes the first ones only.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the copy is not whole, or a file is damaged or of another size.
    """
    copy = find_windows(protocol, root)
    if copy.problems:
        first, *others = copy.problems
        raise ValueError(first + (f" (and {len(others)} more; rdvfi data check lists them)" if others else ""))
    return (_window(files, protocol, conversion) for files in islice(copy.windows, pairs))


@dataclass(frozen=True)
class _Found:
    windows: tuple[WindowFiles, ...]
    frames: int


def _clips(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_Found]:
    """Folders of images and videos that match a pattern, each cut into windows."""
    assert isinstance(protocol.clips, str)
    if isinstance(lengths := protocol.expect.get("lengths"), dict):
        problems += [f"{place} is missing" for clip in lengths if not (place := _place(protocol, root, clip)).exists()]
    # A pattern of all that is below does not give files.
    places = walk_folder(root) if protocol.clips == "**" else root.glob(protocol.clips)
    for path in sorted(places):
        name = "" if path == root else str(path.relative_to(root))
        if path.is_dir() and any(is_image(file) for file in path.iterdir()):
            files = list_images(path)
            problems += _missing_numbers(files) or _wrong_length(protocol, path, len(files))
            yield _Found(_of_files(protocol, name, files), len(files))
        elif path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."):
            try:
                count = len(open_clip(path))
            except ValueError as error:
                problems.append(str(error))
                continue
            problems += _wrong_length(protocol, path, count)
            windows = (WindowFiles(name, cut.start, (path,), tuple(cut)) for cut in _cut(protocol, count))
            yield _Found(tuple(windows), count)


def _place(protocol: Protocol, root: Path, clip: str) -> Path:
    return root / str(protocol.clips).replace("*", clip)


def _wrong_length(protocol: Protocol, path: Path, frames: int) -> list[str]:
    """A sentence, if the published clip has another number of frames."""
    lengths = protocol.expect.get("lengths")
    expected = lengths.get(path.stem, frames) if isinstance(lengths, dict) else lengths or frames
    return [] if frames == expected else [f"{path} holds {frames} frames; {protocol.title} has {expected} there"]


def _cut(protocol: Protocol, frames: int) -> Iterator[range]:
    """Numbers of the frames of each window of a clip."""
    span = (protocol.length - 1) * protocol.stride
    for first in range(0, frames - span, protocol.step):
        yield range(first, first + span + 1, protocol.stride)


def _of_files(protocol: Protocol, clip: str, files: Sequence[Path]) -> tuple[WindowFiles, ...]:
    cuts = _cut(protocol, len(files))
    return tuple(WindowFiles(clip, cut.start, tuple(files[i] for i in cut)) for cut in cuts)


def _missing_numbers(files: Sequence[Path]) -> list[str]:
    """Gaps in the numbers of a folder's images; names without numbers have none."""
    found = [re.search(r"(\d+)(?=\.\w+$)", file.name) for file in files]
    numbers = [int(match[1]) for match in found if match]
    if len(numbers) < len(files):
        return []
    gaps = [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]
    return [
        f"{files[0].parent} lacks frames {a} to {b}" if b > a else f"{files[0].parent} lacks frame {a}" for a, b in gaps
    ]


def _lines(protocol: Protocol, root: Path, problems: list[str]) -> list[str]:
    listing = root / protocol.list
    if not listing.is_file():
        problems.append(f"{listing} is missing")
        return []
    return [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]


def _listed(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_Found]:
    assert isinstance(protocol.clips, str)
    for line in _lines(protocol, root, problems):
        folder = root / protocol.clips.replace("{}", line)
        files = tuple(folder / protocol.names.replace("{}", str(i + 1)) for i in range(protocol.length))
        yield _Found((WindowFiles(line, 0, files),), len(files))


def _triples(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_Found]:
    """Lines of three files. Paths are those of the lists' authors: what stands behind ``test/`` is ours."""
    for line in _lines(protocol, root, problems):
        named = [_own_path(root, part) for part in line.split()]
        numbers = [re.fullmatch(r"(\d+)\.\w+", file.name) for file in named]
        if len(named) != 3 or not all(numbers):
            problems.append(f"{root / protocol.list} has a line that does not name three numbered frames: {line!r}")
            continue
        first, last = (int(numbers[i][1]) for i in (0, 2))  # pyright: ignore[reportOptionalSubscript]
        step, rest = divmod(last - first, protocol.length - 1)
        if rest or step < 1:
            problems.append(f"{root / protocol.list}: frames {first} to {last} of {line!r} are no {protocol.length}")
            continue
        width = len(named[0].stem)
        files = [named[0].with_stem(f"{number:0{width}d}") for number in range(first, last + 1, step)]
        clip = str(named[0].parent.relative_to(root / "test"))
        yield _Found((WindowFiles(clip, first, tuple(files)),), len(files))


def _own_path(root: Path, path: str) -> Path:
    """Where a file of a list lies here: what follows the folder ``test`` is the same."""
    parts = path.replace("\\", "/").split("/")
    return Path(root, "test", *parts[parts.index("test") + 1 if "test" in parts else 0 :])


def _named(protocol: Protocol, root: Path, problems: list[str]) -> Iterator[_Found]:
    for name in protocol.clips:
        files = [root / protocol.names.format(name, number) for number in range(1, protocol.count + 1)]
        missing = [file for file in files if not file.is_file()]
        problems += [f"{file} is missing" for file in missing]
        yield _Found(_of_files(protocol, name, files[: protocol.last]), len(files) - len(missing))


def _window(files: WindowFiles, protocol: Protocol, conversion: str) -> EvaluationWindow:
    pictures = files.read(conversion=conversion)
    for problem in _wrong_sizes(pictures, files, protocol):
        raise ValueError(problem)
    return EvaluationWindow(files.first, np.stack([fitted(picture, protocol) for picture in pictures]), files.clip)


def _wrong_pictures(files: WindowFiles, protocol: Protocol) -> Iterable[str]:
    missing = [file for file in files.files if not file.is_file()]
    if missing:
        return []  # named already
    try:
        return _wrong_sizes(files.read(), files, protocol)
    except (ValueError, OSError) as error:
        return [str(error)]


def _wrong_sizes(pictures: Sequence[Picture], files: WindowFiles, protocol: Protocol) -> list[str]:
    height, width = pictures[0].shape[:2]
    if "size" in protocol.expect:
        width, height = protocol.expect["size"]
    names = files.files if not files.numbers else [f"{files.files[0]}, frame {n}" for n in files.numbers]
    wrong = [(n, p) for n, p in zip(names, pictures, strict=True) if p.shape[:2] != (height, width)]
    return [f"{name} is {p.shape[1]}x{p.shape[0]}; expected {width}x{height}" for name, p in wrong]


def fitted(picture: Picture, protocol: Protocol) -> Picture:
    """The picture cropped and reduced as the protocol says."""
    import cv2

    picture = _cropped(picture, protocol)
    if protocol.resize is None or protocol.resize == (picture.shape[1], picture.shape[0]):
        return np.ascontiguousarray(picture)
    if protocol.light == "coded":
        return cv2.resize(picture, protocol.resize, interpolation=cv2.INTER_AREA)
    light = (picture.astype(np.float32) / 255.0) ** _GAMMA
    reduced = cv2.resize(light, protocol.resize, interpolation=cv2.INTER_AREA)
    return np.round(255.0 * reduced ** (1.0 / _GAMMA)).astype(np.uint8)


def _cropped(picture: Picture, protocol: Protocol) -> Picture:
    h, w = picture.shape[:2]
    if protocol.crop is None:
        return picture
    if isinstance(protocol.crop, str):
        aspect = (
            1.0 if protocol.crop == "square" or protocol.resize is None else protocol.resize[0] / protocol.resize[1]
        )
        cw, ch = min(w, round(h * aspect)), min(h, round(w / aspect))
    else:
        cw, ch = protocol.crop
    if cw > w or ch > h:
        raise ValueError(f"a frame is {w}x{h}; {protocol.title} takes its middle {cw}x{ch}")
    y, x = (h - ch) // 2, (w - cw) // 2
    return picture[y : y + ch, x : x + cw]


def _read_hashes(file: Path) -> dict[str, str]:
    """Sums by file, from lines like ``<sum>  <file>``."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of sums {file}")
    found: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if line.strip() and match is None:
            raise ValueError(f"{file}, line {number}: expected a SHA-256 sum, two spaces and a file")
        if match:
            found[match[2]] = match[1].lower()
    return found


def _wrong_hashes(expected: dict[str, str], root: Path) -> Iterator[str]:
    for name, digest in expected.items():
        file = root / name
        if not file.is_file():
            yield f"{file} is missing"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            yield f"{file} is not the published file: its SHA-256 is another one"
