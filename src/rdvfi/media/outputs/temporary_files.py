"""Temporary files of outputs, and removal of those whose process was killed.

Their names hold the process id, and the process locks them while it lives. The next run that writes to the same
folder removes those without a lock, and restores a folder of frames that was moved aside and never replaced. Windows
has no such locks, so temporary files of killed runs stay there.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_TEMPORARY_NAME = re.compile(r"\..*\.rdvfi-(\d+)-\w+\.(part(?:\.\w+)?|kept)", re.DOTALL)
"""Names of partial outputs (``part``), and of folders that hold what is being replaced (``kept``)."""
_LOCK_SECONDS = 60.0
"""Seconds after which a living process has certainly locked its file."""
_MAX_NAME_BYTES = 255


def create_partial(place: Path, *, folder: bool) -> Path:
    """A new empty file or folder beside ``place``, under a temporary name."""
    if folder:
        partial = Path(tempfile.mkdtemp(prefix=_prefix(place), suffix=".part", dir=place.parent))
    else:
        handle, name = tempfile.mkstemp(prefix=_prefix(place), suffix=f".part{place.suffix}", dir=place.parent)
        os.close(handle)
        partial = Path(name)
    try:
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod((0o777 if folder else 0o666) & ~mask)  # tempfile makes them private to their owner
    except BaseException:
        remove(partial)
        raise
    return partial


def create_backup_folder(place: Path) -> Path:
    """A temporary folder beside ``place`` for what is being replaced."""
    return Path(tempfile.mkdtemp(prefix=_prefix(place), suffix=".kept", dir=place.parent))


def remove(path: Path) -> None:
    """Remove a temporary file or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def lock(path: Path) -> int | None:
    """Lock a temporary file while this process lives; None if it is locked by another or cannot be locked."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def remove_stale_files(folder: Path) -> None:
    """Remove the temporary files of processes that have ended, and restore what they had moved aside."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # a folder may be writable and not readable
        for entry in list(folder.iterdir()):
            match = _TEMPORARY_NAME.fullmatch(entry.name)
            with suppress(OSError):  # of another user, or removed by another process meanwhile
                if match is not None and (not _is_running(int(match[1])) or _is_old(entry)):
                    _remove_unlocked(entry)


def is_being_written(place: Path) -> bool:
    """Whether another living process writes the output ``place``."""
    if sys.platform == "win32":
        return False
    start, end = _prefix(place).rpartition(str(os.getpid()))[0], f".part{place.suffix}"
    with suppress(OSError):
        for entry in list(place.parent.iterdir()):
            match = _TEMPORARY_NAME.fullmatch(entry.name)
            if match is None or int(match[1]) == os.getpid():
                continue
            if not (entry.name.startswith(start) and entry.name.endswith(end)):
                continue
            handle = lock(entry)
            if handle is None and entry.exists():
                return True
            if handle is not None:
                os.close(handle)
    return False


def _remove_unlocked(entry: Path) -> None:
    handle = lock(entry)
    if handle is None:
        return
    os.close(handle)
    if entry.suffix == ".kept":
        for old in entry.iterdir():  # restore it, unless its name is taken
            if not os.path.lexists(entry.parent / old.name):
                old.rename(entry.parent / old.name)
    remove(entry)


def _prefix(place: Path) -> str:
    """The start of a temporary name, short enough for the file system."""
    process = f".rdvfi-{os.getpid()}-"
    room = _MAX_NAME_BYTES - len(process) - len(os.fsencode(place.suffix)) - 32
    return "." + os.fsencode(place.stem)[: max(1, room)].decode(errors="ignore") + process


def _is_old(entry: Path) -> bool:
    """Whether its process has had time to lock it; another process may have got the id of a dead one."""
    return time.time() - entry.lstat().st_mtime > _LOCK_SECONDS


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
