"""Validation of a local copy of a published data set: completeness, checksums, and sizes of all pictures."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from rdvfi.evaluation.dataset_protocol import Protocol
from rdvfi.evaluation.dataset_windows import WindowFiles, find_windows, wrong_sizes


def check_copy(protocol: Protocol, root: Path, *, hashes: Path | None = None) -> Iterator[str]:
    """All problems of the copy in folder ``root``, as sentences. Every picture is read.

    ``hashes`` is a file of SHA-256 sums in the format of ``sha256sum``, with paths relative to the copy.
    """
    copy = find_windows(protocol, root)
    yield from copy.problems
    yield from _wrong_hashes({**protocol.expect.get("sha256", {}), **(_read_hashes(hashes) if hashes else {})}, root)
    checked: set[Path | tuple[Path, int]] = set()
    for window in copy.windows:
        frames = [(window.files[0], number) for number in window.numbers] or list(window.files)
        if not checked.issuperset(frames):
            yield from _wrong_pictures(window, protocol)
            checked.update(frames)


def _wrong_pictures(window: WindowFiles, protocol: Protocol) -> list[str]:
    """Problems of the pictures of one window; missing files are reported by `find_windows`."""
    if not all(file.is_file() for file in window.files):
        return []
    try:
        return wrong_sizes(window.read(), window, protocol)
    except (ValueError, OSError) as error:
        return [str(error)]


def _read_hashes(path: Path) -> dict[str, str]:
    """SHA-256 sums by file, from lines like ``<sum>  <file>``."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of sums {path}")
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if line.strip() and match is None:
            raise ValueError(f"{path}, line {number}: expected a SHA-256 sum, two spaces and a file")
        if match:
            sums[match[2]] = match[1].lower()
    return sums


def _wrong_hashes(expected: dict[str, str], root: Path) -> Iterator[str]:
    for name, digest in expected.items():
        file = root / name
        if not file.is_file():
            yield f"{file} is missing"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            yield f"{file} is not the published file: its SHA-256 differs"
