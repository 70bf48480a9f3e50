"""Sources and outputs at URLs, copied by fsspec."""

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
    """Whether a path is a URL of fsspec, not a local file."""
    return isinstance(place, str) and "://" in place


@cache
def _temporary_folder() -> Path:
    """The folder for copies of this process, which is removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="rdvfi-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_DOWNLOADS: dict[str, tuple[Path, int]] = {}
"""Downloaded sources by URL, with the number of their users."""


@cache
def _local_output(url: str) -> Path:
    """The local file or folder from which an output is uploaded."""
    return Path(tempfile.mkdtemp(dir=_temporary_folder())) / url.rstrip("/").rsplit("/", 1)[-1]


def _download(url: str) -> Path:
    from fsspec.core import url_to_fs

    place, users = _DOWNLOADS.get(url, (None, 0))
    if place is None:
        files, path = url_to_fs(url)
        if not files.exists(path):
            raise FileNotFoundError(f"{url} does not exist")
        place = Path(tempfile.mkdtemp(dir=_temporary_folder())) / url.rstrip("/").rsplit("/", 1)[-1]
        files.get(path, str(place), recursive=files.isdir(path))
    _DOWNLOADS[url] = place, users + 1
    return place


def download_sources(options: "JobOptions") -> "JobOptions":
    """The options of a job with local files in place of URLs; each URL is downloaded once for all its users.

    Raises:
        FileNotFoundError: If there is nothing at a URL.
    """
    source, destination = options.source, options.destination
    if is_url(source):
        source = _download(source)
    elif isinstance(source, list | tuple):
        source = [_download(path) if is_url(path) else path for path in source]
    return replace(
        options, source=source, destination=_local_output(destination) if is_url(destination) else destination
    )


def release_sources(options: "JobOptions") -> None:
    """Release the downloaded sources of a job, and remove those without other users."""
    source = options.source
    for url in source if isinstance(source, list | tuple) else [source]:
        if not is_url(url) or url not in _DOWNLOADS:
            continue
        place, users = _DOWNLOADS.pop(url)
        if users > 1:
            _DOWNLOADS[url] = place, users - 1
        else:
            remove(place)


@contextmanager
def upload_output(destination: Any) -> Iterator[None]:
    """Upload the output that the block has written for a URL; it appears there when it is complete."""
    yield
    if is_url(destination):
        from fsspec.core import url_to_fs

        local = _local_output(destination)
        files, path = url_to_fs(destination)
        files.put(str(local), path, recursive=local.is_dir())
        remove(local)


def is_complete(destination: Any) -> bool:
    """Whether the output of a job exists: a file, or a folder of frames."""
    if is_url(destination):
        from fsspec.core import url_to_fs

        files, path = url_to_fs(destination)
        return bool(files.exists(path)) and not (files.isdir(path) and not files.ls(path))
    place = Path(destination)
    return any(place.glob("frame_*.png")) if place.is_dir() else place.exists()
