"""Storage of finished segments, for resumption and for several machines.

Why segments of encoded packets. An interrupted job shall give the same bytes as one that was not.
Keeping the new frames without loss and encoding all of them at the end would do that, but takes many
times the space of the output, and one encoder at the end holds up any number of devices. So every run,
resumed or not, plain or on many machines, writes in the same segments: a run of pairs of source frames,
cut where about `SEGMENT_FRAMES` output frames are full, made by a model that remembers nothing of the
pair before and by an encoder of its own (`rdvfi.media.outputs.pieces`). What is in a segment follows from the
job and its number alone. So it does not matter who made it, when, or how often, and putting segments
together copies packets.

What it costs: every segment begins with a key frame. x264 and x265 set one at least every 250 frames by
themselves, which is about the length of a segment; shorter segments make larger files. The packets are
written twice, once to be kept. Formats that cannot be put together from packets (GIF, WebP, APNG,
folders of images) keep whole frames as PNG, and are encoded in one go.

A segment is one ZIP file, stored and not compressed: its pieces in order, then ``record.json`` with
what the report needs. It appears under its name when it is complete. What it holds is checked when
it is used; a damaged one counts as missing and is made again. So nothing has to be synced.
"""

import json
import logging
import os
import re
import shutil
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from rdvfi.media.outputs.temporary_files import create_partial, lock, remove_stale_files

_LOGGER = logging.getLogger(__name__)

SEGMENT_FRAMES = 240
"""Output frames after which a segment ends with the present pair of source frames."""

_JOB = "job.json"
_RECORD = "record.json"
_SUFFIX = ".segment"
_OWN = re.compile(r"job\.json|\d+\.segment|\.(job|\d+)\.rdvfi-\d+-\w+\.part(\.\w+)?")
"""Files of a place that a store wrote there."""


class OtherJob(ValueError):
    """The kept segments are those of another job."""


class SegmentFile:
    """A segment that is being written, in a hidden file that is locked meanwhile.

    Args:
        spool: The folder of that file.
    """

    def __init__(self, spool: Path) -> None:
        self.path = create_partial(spool / "segment", folder=False)
        self._lock = lock(self.path)
        self._zip = zipfile.ZipFile(self.path, "w", allowZip64=True)
        self._count = 0

    def add(self, piece: bytes) -> None:
        """Write the next piece."""
        self._zip.writestr(_entry(f"{self._count:08d}"), piece)
        self._count += 1

    def close(self, record: Mapping[str, Any]) -> None:
        """Write what the report needs, and the end."""
        self._zip.writestr(_entry(_RECORD), json.dumps(record))
        self._zip.close()

    def abandon(self) -> None:
        """Remove it."""
        with suppress(OSError, ValueError):
            self._zip.close()
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """It is in its place, or gone: give up the lock."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name)  # with one date for all: equal segments are equal files


class SegmentStore(ABC):
    """Segments by number.

    Args:
        job: Tells what the segments depend on, by name; asked once, when it has to be known.
        spool: A folder for what is being written.
    """

    place: str
    """Where segments are, for messages."""

    def __init__(self, job: Callable[[], Mapping[str, str]], spool: Path) -> None:
        self._tell_job, self._spool = job, spool
        self._claimed = self._lost = False
        remove_stale_files(spool)

    @cached_property
    def _job(self) -> dict[str, str]:
        return dict(self._tell_job())

    def create(self) -> SegmentFile:
        """A new segment, to be given to `publish`."""
        return SegmentFile(self._spool)

    def publish(self, number: int, file: SegmentFile) -> None:
        """Have a complete segment appear under its number; one that is there already is the same."""
        there = self._read_job()
        if there != self._job and self._claimed and there is not None:
            self._give_way(file)
            return
        self.claim()
        self._move(file.path, f"{number:06d}{_SUFFIX}")
        file.release()

    def finished(self) -> frozenset[int]:
        """Numbers of the segments that are there."""
        names = [name for name in self._names() if name.endswith(_SUFFIX)]
        return frozenset(int(name.removesuffix(_SUFFIX)) for name in names if name.removesuffix(_SUFFIX).isdecimal())

    def record(self, number: int) -> dict[str, Any] | None:
        """What the report needs of a segment; None if it is not there, or damaged."""
        try:
            with self._opened(number) as file, zipfile.ZipFile(file) as opened:
                if opened.testzip() is None:
                    return json.loads(opened.read(_RECORD))
        except FileNotFoundError:
            return None
        except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
            pass
        _LOGGER.warning("segment %d in %s is damaged, and is made again", number, self.place)
        return None

    def pieces(self, number: int) -> Iterator[bytes]:
        """The pieces of a segment in order."""
        with self._opened(number) as file, zipfile.ZipFile(file) as opened:
            for name in sorted(opened.namelist()):
                if name != _RECORD:
                    yield opened.read(name)

    def check(self) -> None:
        """Refuse segments of another job.

        Raises:
            OtherJob: If there are some; it says what differs.
        """
        there = self._read_job()
        if there is None:
            return
        differing = [key for key in {**there, **self._job} if there.get(key) != self._job.get(key)]
        if differing:
            key = differing[0]
            raise OtherJob(
                f"the segments in {self.place} are of another job: {key} was {there.get(key, 'not set')} and is "
                f"{self._job.get(key, 'not set')}; give what was given then, or start anew without resume"
            )
        self._claimed = True

    def _give_way(self, file: SegmentFile) -> None:
        """Another job with the same destination has begun: its segments are kept from now on."""
        file.abandon()
        if not self._lost:
            _LOGGER.warning("another job keeps its segments in %s now, this one no more", self.place)
        self._lost = True

    def claim(self) -> None:
        """Make the place that of this job: segments of another one go."""
        if self._read_job() != self._job:
            self.remove()
            self._write_job(json.dumps(self._job, indent=1))
        self._claimed = True

    def _read_job(self) -> dict[str, str] | None:
        text = self._job_text()
        if text is None:
            return None
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise OtherJob(f"{self.place} holds no job that can be read: {error}; remove it") from error

    @abstractmethod
    def remove(self) -> None:
        """Remove all segments, and what says of which job they are."""

    @abstractmethod
    def _names(self) -> list[str]: ...

    @abstractmethod
    def _move(self, path: Path, name: str) -> None: ...

    @abstractmethod
    def _opened(self, number: int) -> Any: ...

    @abstractmethod
    def _job_text(self) -> str | None: ...

    @abstractmethod
    def _write_job(self, text: str) -> None: ...


class FolderStore(SegmentStore):
    """Segments in a folder, which other machines may share; it appears with the first of them.

    Args:
        folder: The folder.
        job: See `SegmentStore`.
        spool: Of the same file system, if segments shall appear in one step.
    """

    def __init__(self, folder: Path, job: Callable[[], Mapping[str, str]], spool: Path | None = None) -> None:
        super().__init__(job, spool or folder.absolute().parent)
        self._folder, self.place = folder, str(folder)

    def remove(self) -> None:
        """See `SegmentStore.remove`. What else is in the folder stays, and then the folder too."""
        for name in filter(_OWN.fullmatch, self._names()):
            (self._folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _names(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self._folder)
        return []

    def _move(self, path: Path, name: str) -> None:
        if path.stat().st_dev == self._folder.stat().st_dev:
            os.replace(path, self._folder / name)
            return
        beside = create_partial(self._folder / name, folder=False)
        shutil.copyfile(path, beside)
        os.replace(beside, self._folder / name)
        path.unlink()

    @contextmanager
    def _opened(self, number: int) -> Iterator[Any]:
        with open(self._folder / f"{number:06d}{_SUFFIX}", "rb") as file:
            yield file

    def _job_text(self) -> str | None:
        with suppress(FileNotFoundError):
            return (self._folder / _JOB).read_text()
        return None

    def _write_job(self, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = create_partial(self._folder / _JOB, folder=False)
        beside.write_text(text)
        os.replace(beside, self._folder / _JOB)


class ObjectStore(SegmentStore):
    """Segments in an object store, by any file system of fsspec: ``s3://bucket/folder``, ``gs://...``.

    An upload appears when it is complete.

    Args:
        url: The folder.
        job: See `SegmentStore`.
    """

    def __init__(self, url: str, job: Callable[[], Mapping[str, str]]) -> None:
        from fsspec.core import url_to_fs

        super().__init__(job, Path(tempfile.gettempdir()))
        self._files, self._root = url_to_fs(url)
        self.place = url

    def remove(self) -> None:
        """See `SegmentStore.remove`. What else is there stays."""
        for name in filter(_OWN.fullmatch, self._names()):
            with suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")
        with suppress(OSError, NotImplementedError):  # where there are folders
            self._files.rmdir(self._root)

    def _names(self) -> list[str]:
        self._files.invalidate_cache()
        with suppress(FileNotFoundError):
            return [str(path).rsplit("/", 1)[-1] for path in self._files.ls(self._root, detail=False)]
        return []

    def _move(self, path: Path, name: str) -> None:
        self._files.put_file(str(path), f"{self._root}/{name}")
        path.unlink()

    def _opened(self, number: int) -> Any:
        return self._files.open(f"{self._root}/{number:06d}{_SUFFIX}", "rb")

    def _job_text(self) -> str | None:
        with suppress(FileNotFoundError):
            return self._files.cat_file(f"{self._root}/{_JOB}").decode()
        return None

    def _write_job(self, text: str) -> None:
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(f"{self._root}/{_JOB}", text.encode())


def default_segments(destination: Path) -> Path:
    """The hidden folder beside a destination in which its finished segments are kept."""
    return destination.with_name(f".{destination.name[:200]}.segments")


def open_store(
    place: str | os.PathLike[str], job: Callable[[], Mapping[str, str]], spool: Path | None = None
) -> SegmentStore:
    """The store at a folder or a URL."""
    if "://" in str(place):
        return ObjectStore(str(place), job)
    return FolderStore(Path(place), job, spool)
