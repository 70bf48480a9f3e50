"""Storage of finished segments, for resumption and for several machines.

Why segments of encoded packets: an interrupted job must give the same bytes as an uninterrupted one. Keeping the new
frames without loss and encoding all of them at the end would do that, but takes many times the space of the output, and
one encoder at the end limits the speed of any number of devices. Therefore every run, resumed or not, local or
distributed, makes the same segments: successive pairs of source frames with about `SEGMENT_FRAMES` output frames,
interpolated by a model without state of earlier pairs and encoded by an encoder of their own
(`rdvfi.media.outputs.pieces`). A segment depends only on the job and its number: not on who makes it, when, or how
often. Joining segments copies packets.

The cost: every segment begins with a key frame. x264 and x265 set one at least every 250 frames, which is about the
length of a segment; shorter segments make larger files. Packets are written twice if segments are kept. For formats
that cannot be joined from packets (GIF, WebP, APNG, folders of images), segments hold whole frames as PNG, which are
encoded at the end.

A segment is an uncompressed ZIP file: its pieces in order, then ``record.json`` for the report. It appears under its
name when it is complete, and is verified when it is used; a damaged one is made again. So it need not be synced.
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
"""Number of output frames after which a segment ends, with the current pair of source frames."""

_JOB = "job.json"
_RECORD = "record.json"
_SUFFIX = ".segment"
_STORE_FILES = re.compile(r"job\.json|\d+\.segment|\.(job|\d+)\.rdvfi-\d+-\w+\.part(\.\w+)?")
"""Names of the files that a store writes."""


class OtherJob(ValueError):
    """The stored segments are those of another job."""


class SegmentFile:
    """A segment that is being written, in a hidden and locked file in the folder ``spool``."""

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
        """Write the record, and finish the file."""
        self._zip.writestr(_entry(_RECORD), json.dumps(record))
        self._zip.close()

    def abandon(self) -> None:
        """Remove the file."""
        with suppress(OSError, ValueError):
            self._zip.close()
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Release the lock, once the file is moved or removed."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name)  # with a constant date, so that equal segments are equal files


class SegmentStore(ABC):
    """The stored segments of a job, by number.

    Args:
        identity: Returns the settings that the frames depend on, by name; called once, when needed.
        spool: Folder for segments that are being written.
    """

    place: str
    """Folder or URL of the segments, for messages."""

    def __init__(self, identity: Callable[[], Mapping[str, str]], spool: Path) -> None:
        self._load_identity, self._spool = identity, spool
        self._claimed = self._warned = False
        remove_stale_files(spool)

    @cached_property
    def _identity(self) -> dict[str, str]:
        return dict(self._load_identity())

    def create(self) -> SegmentFile:
        """Create a segment file, to be filled and given to `publish`."""
        return SegmentFile(self._spool)

    def publish(self, number: int, file: SegmentFile) -> None:
        """Store a complete segment under its number; a segment that exists already is the same.

        If another job has claimed the place meanwhile, the segment is dropped with a warning.
        """
        stored = self._read_identity()
        if stored != self._identity and self._claimed and stored is not None:
            file.abandon()
            if not self._warned:
                _LOGGER.warning("another job keeps its segments in %s now, this one no more", self.place)
            self._warned = True
            return
        self.claim()
        self._move_in(file.path, f"{number:06d}{_SUFFIX}")
        file.release()

    def finished(self) -> frozenset[int]:
        """Numbers of the stored segments."""
        names = [name for name in self._file_names() if name.endswith(_SUFFIX)]
        return frozenset(int(name.removesuffix(_SUFFIX)) for name in names if name.removesuffix(_SUFFIX).isdecimal())

    def record(self, number: int) -> dict[str, Any] | None:
        """The record of a segment; None if it is missing or damaged."""
        try:
            with self._open_segment(number) as file, zipfile.ZipFile(file) as archive:
                if archive.testzip() is None:
                    return json.loads(archive.read(_RECORD))
        except FileNotFoundError:
            return None
        except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
            pass
        _LOGGER.warning("segment %d in %s is damaged, and is made again", number, self.place)
        return None

    def pieces(self, number: int) -> Iterator[bytes]:
        """The pieces of a segment in order."""
        with self._open_segment(number) as file, zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name != _RECORD:
                    yield archive.read(name)

    def check(self) -> None:
        """Check that the stored segments, if there are any, are those of this job.

        Raises:
            OtherJob: If they are not; the message says what differs.
        """
        stored = self._read_identity()
        if stored is None:
            return
        own = self._identity
        differing = [key for key in {**stored, **own} if stored.get(key) != own.get(key)]
        if differing:
            key = differing[0]
            raise OtherJob(
                f"the segments in {self.place} are of another job: {key} was {stored.get(key, 'not set')} and is "
                f"{own.get(key, 'not set')}; give what was given then, or start anew without resume"
            )
        self._claimed = True

    def claim(self) -> None:
        """Reserve the place for this job; segments of another job are removed."""
        if self._read_identity() != self._identity:
            self.remove()
            self._write_identity(json.dumps(self._identity, indent=1))
        self._claimed = True

    def _read_identity(self) -> dict[str, str] | None:
        text = self._identity_text()
        if text is None:
            return None
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise OtherJob(f"{self.place} holds no job that can be read: {error}; remove it") from error

    @abstractmethod
    def remove(self) -> None:
        """Remove all segments, and the identity of their job."""

    @abstractmethod
    def _file_names(self) -> list[str]: ...

    @abstractmethod
    def _move_in(self, path: Path, name: str) -> None: ...

    @abstractmethod
    def _open_segment(self, number: int) -> Any: ...

    @abstractmethod
    def _identity_text(self) -> str | None: ...

    @abstractmethod
    def _write_identity(self, text: str) -> None: ...


class FolderStore(SegmentStore):
    """Segments in a folder, which machines may share; it is created with the first segment.

    They appear in one step if ``spool`` is on the same file system.
    """

    def __init__(self, folder: Path, identity: Callable[[], Mapping[str, str]], spool: Path | None = None) -> None:
        super().__init__(identity, spool or folder.absolute().parent)
        self._folder, self.place = folder, str(folder)

    def remove(self) -> None:
        """See `SegmentStore.remove`; other files, and then the folder, are kept."""
        for name in filter(_STORE_FILES.fullmatch, self._file_names()):
            (self._folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _file_names(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self._folder)
        return []

    def _move_in(self, path: Path, name: str) -> None:
        if path.stat().st_dev == self._folder.stat().st_dev:
            os.replace(path, self._folder / name)
            return
        partial = create_partial(self._folder / name, folder=False)
        shutil.copyfile(path, partial)
        os.replace(partial, self._folder / name)
        path.unlink()

    @contextmanager
    def _open_segment(self, number: int) -> Iterator[Any]:
        with open(self._folder / f"{number:06d}{_SUFFIX}", "rb") as file:
            yield file

    def _identity_text(self) -> str | None:
        with suppress(FileNotFoundError):
            return (self._folder / _JOB).read_text()
        return None

    def _write_identity(self, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = create_partial(self._folder / _JOB, folder=False)
        partial.write_text(text)
        os.replace(partial, self._folder / _JOB)


class ObjectStore(SegmentStore):
    """Segments in an object store, through fsspec: ``s3://bucket/folder``, ``gs://...``.

    An upload appears when it is complete.
    """

    def __init__(self, url: str, identity: Callable[[], Mapping[str, str]]) -> None:
        from fsspec.core import url_to_fs

        super().__init__(identity, Path(tempfile.gettempdir()))
        self._filesystem, self._root = url_to_fs(url)
        self.place = url

    def remove(self) -> None:
        """See `SegmentStore.remove`; other files are kept."""
        for name in filter(_STORE_FILES.fullmatch, self._file_names()):
            with suppress(FileNotFoundError):
                self._filesystem.rm_file(f"{self._root}/{name}")
        with suppress(OSError, NotImplementedError):  # where there are folders
            self._filesystem.rmdir(self._root)

    def _file_names(self) -> list[str]:
        self._filesystem.invalidate_cache()
        with suppress(FileNotFoundError):
            return [str(path).rsplit("/", 1)[-1] for path in self._filesystem.ls(self._root, detail=False)]
        return []

    def _move_in(self, path: Path, name: str) -> None:
        self._filesystem.put_file(str(path), f"{self._root}/{name}")
        path.unlink()

    def _open_segment(self, number: int) -> Any:
        return self._filesystem.open(f"{self._root}/{number:06d}{_SUFFIX}", "rb")

    def _identity_text(self) -> str | None:
        with suppress(FileNotFoundError):
            return self._filesystem.cat_file(f"{self._root}/{_JOB}").decode()
        return None

    def _write_identity(self, text: str) -> None:
        self._filesystem.makedirs(self._root, exist_ok=True)
        self._filesystem.pipe_file(f"{self._root}/{_JOB}", text.encode())


def default_segments(destination: Path) -> Path:
    """The hidden folder beside a destination in which its finished segments are kept."""
    return destination.with_name(f".{destination.name[:200]}.segments")


def open_store(
    place: str | os.PathLike[str], identity: Callable[[], Mapping[str, str]], spool: Path | None = None
) -> SegmentStore:
    """The store in a folder or at a URL; see `SegmentStore`."""
    if "://" in str(place):
        return ObjectStore(str(place), identity)
    return FolderStore(Path(place), identity, spool)
