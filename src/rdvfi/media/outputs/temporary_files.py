"""Temporary files of outputs, and removal of those whose process was killed.

The process is in the name, and as long as it lives it holds a lock. The next run that writes to the
same folder removes what nobody holds any more, and puts back a folder of frames that was moved aside
and never replaced. Windows has no such locks: there leftovers stay.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_HIDDEN = re.compile(r"\..*\.rdvfi-(\d+)-\w+\.(part(?:\.\w+)?|kept)", re.DOTALL)
"""Names of what is being written (``part``), and of a folder that holds what is replaced (``kept``)."""
_GRACE = 60.0
"""Seconds in which a process surely locks what it made."""
_LONGEST = 255
"""Bytes of a file name."""


def create_partial(place: Path, *, folder: bool) -> Path:
    """An empty file or folder beside ``place``, under a name that nobody has."""
    if folder:
        made = Path(tempfile.mkdtemp(prefix=_prefix(place), suffix=".part", dir=place.parent))
    else:
        handle, name = tempfile.mkstemp(prefix=_prefix(place), suffix=f".part{place.suffix}", dir=place.parent)
        os.close(handle)
        made = Path(name)
    try:
        mask = os.umask(0)
        os.umask(mask)
        made.chmod((0o777 if folder else 0o666) & ~mask)  # temporary ones are for their owner alone
    except BaseException:
        remove(made)
        raise
    return made


def create_backup_folder(place: Path) -> Path:
    """A hidden folder beside ``place`` for what is replaced, under its own name."""
    return Path(tempfile.mkdtemp(prefix=_prefix(place), suffix=".kept", dir=place.parent))


def remove(hidden: Path) -> None:
    """Remove what was being written, if it is still there."""
    if hidden.is_dir() and not hidden.is_symlink():
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        hidden.unlink(missing_ok=True)


def lock(hidden: Path) -> int | None:
    """Lock what is being written, as long as this process lives; None if it is locked already or cannot be."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        handle = os.open(hidden, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def remove_stale_files(folder: Path) -> None:
    """Remove, or put back, what processes left that do not run any more."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # a folder may be writable and not readable
        for entry in list(folder.iterdir()):
            match = _HIDDEN.fullmatch(entry.name)
            with suppress(OSError):  # of another user, or removed by another process meanwhile
                if match is not None and (not _runs(int(match[1])) or _is_old(entry)):
                    _remove(entry)


def is_being_written(place: Path) -> bool:
    """Whether another process that is alive writes what shall appear at ``place``."""
    if sys.platform == "win32":
        return False
    begin, end = _prefix(place).rpartition(str(os.getpid()))[0], f".part{place.suffix}"
    with suppress(OSError):
        for entry in list(place.parent.iterdir()):
            match = _HIDDEN.fullmatch(entry.name)
            own = match is None or int(match[1]) == os.getpid()
            if own or not (entry.name.startswith(begin) and entry.name.endswith(end)):
                continue
            held = lock(entry)
            if held is None and entry.exists():
                return True
            if held is not None:
                os.close(held)
    return False


def _remove(entry: Path) -> None:
    held = lock(entry)
    if held is None:
        return
    os.close(held)
    if entry.suffix == ".kept":
        _put_back(entry)
    remove(entry)


def _put_back(kept: Path) -> None:
    """Frames that were moved aside go back to their name, unless something is there."""
    for old in kept.iterdir():
        if not os.path.lexists(kept.parent / old.name):
            old.rename(kept.parent / old.name)


def _prefix(place: Path) -> str:
    """The beginning of a hidden name that is not too long."""
    own = f".rdvfi-{os.getpid()}-"
    room = _LONGEST - len(own) - len(os.fsencode(place.suffix)) - 32
    return "." + os.fsencode(place.stem)[: max(1, room)].decode(errors="ignore") + own


def _is_old(entry: Path) -> bool:
    """Whether its process has had time to lock it; the number of a dead process may be another's now."""
    return time.time() - entry.lstat().st_mtime > _GRACE


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
