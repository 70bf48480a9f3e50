"""Sources and outputs in object stores, copied by fsspec."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from rdvfi.media.outputs.temporary_files import remove

if TYPE_CHECKING:
    from rdvfi.video.job_options import JobOptions


def is_url(place: Any) -> TypeGuard[str]:
    """Whether it names something that fsspec finds, and not a file of this machine."""
    return isinstance(place, str) and "://" in place


@cache
def _folder() -> Path:
    """Of this process, for copies; it goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="rdvfi-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_COPIES: dict[str, tuple[Path, int]] = {}
"""Sources that are copied, by URL, and how many use them."""


@cache
def _local(url: str) -> Path:
    """Where the output of a URL is written first."""
    return Path(tempfile.mkdtemp(dir=_folder())) / url.rstrip("/").rsplit("/", 1)[-1]


def _copied(url: str) -> Path:
    from fsspec.core import url_to_fs

    place, users = _COPIES.get(url, (None, 0))
    if place is None:
        files, path = url_to_fs(url)
        if not files.exists(path):
            raise FileNotFoundError(f"{url} does not exist")
        place = Path(tempfile.mkdtemp(dir=_folder())) / url.rstrip("/").rsplit("/", 1)[-1]
        files.get(path, str(place), recursive=files.isdir(path))
    _COPIES[url] = place, users + 1
    return place


def download_sources(options: "JobOptions") -> "JobOptions":
    """The options of a job with local files in place of URLs; each is copied once, until all users `release` it.

    Raises:
        FileNotFoundError: If there is nothing at a URL.
    """
    source, destination = options.source, options.destination
    if is_url(source):
        source = _copied(source)
    elif isinstance(source, list | tuple):
        source = [_copied(each) if is_url(each) else each for each in source]
    return replace(options, source=source, destination=_local(destination) if is_url(destination) else destination)


def release(options: "JobOptions") -> None:
    """A job needs the copies of its sources no more; the last one to say so has them removed."""
    source = options.source
    for url in source if isinstance(source, list | tuple) else [source]:
        if not is_url(url) or url not in _COPIES:
            continue
        place, users = _COPIES.pop(url)
        if users > 1:
            _COPIES[url] = place, users - 1
        else:
            remove(place)


@contextmanager
def uploaded(destination: Any) -> Iterator[None]:
    """After the block, what it wrote for a URL is copied there; it appears when it is complete."""
    yield
    if is_url(destination):
        from fsspec.core import url_to_fs

        local = _local(destination)
        files, path = url_to_fs(destination)
        files.put(str(local), path, recursive=local.is_dir())
        remove(local)


def is_complete(destination: Any) -> bool:
    """Whether the output of a job is there: a file, or a folder with something in it."""
    if is_url(destination):
        from fsspec.core import url_to_fs

        files, path = url_to_fs(destination)
        return bool(files.exists(path)) and not (files.isdir(path) and not files.ls(path))
    place = Path(destination)
    return any(place.glob("frame_*.png")) if place.is_dir() else place.exists()
