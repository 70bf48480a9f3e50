"""Sources and outputs in object stores: copied to this machine, or from it, by fsspec."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


def is_url(place: Any) -> bool:
    """Whether it names something that fsspec finds, and not a file of this machine."""
    return isinstance(place, str) and "://" in place


@cache
def _folder() -> Path:
    """Of this process, for copies; it goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="rdvfi-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _local(url: str) -> Path:
    """Where the output of a URL is written first."""
    return Path(tempfile.mkdtemp(dir=_folder())) / url.rstrip("/").rsplit("/", 1)[-1]


@cache
def _copied(url: str) -> Path:
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url)
    if not files.exists(path):
        raise FileNotFoundError(f"{url} does not exist")
    place = _local(f"source {url}")
    files.get(path, str(place), recursive=files.isdir(path))
    return place


def fetched(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a job with local files in place of URLs; each is copied once in a process.

    Raises:
        FileNotFoundError: If there is nothing at a URL.
    """
    source, destination = given["source"], given["destination"]
    if is_url(source):
        source = _copied(source)
    elif isinstance(source, list | tuple):
        source = [_copied(each) if is_url(each) else each for each in source]
    if is_url(destination):
        destination = _local(destination)
    return {**given, "source": source, "destination": destination}


@contextmanager
def uploaded(destination: Any) -> Iterator[None]:
    """After the block, what it wrote for a URL is copied there; it appears when it is complete."""
    yield
    if is_url(destination):
        from fsspec.core import url_to_fs

        local = _local(destination)
        files, path = url_to_fs(destination)
        files.put(str(local), path, recursive=local.is_dir())
        shutil.rmtree(local) if local.is_dir() else local.unlink()
