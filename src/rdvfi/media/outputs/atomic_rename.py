"""Atomic renaming of a completed output to its final name.

A file or folder that appeared meanwhile is never replaced unasked, and what is replaced stays whole
until the new one is there.
"""

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

from rdvfi.media.outputs.temporary_files import create_backup_folder

_NO_REPLACE, _EXCHANGE, _AT_CWD = 1, 2, -100
"""Of Linux: flags and folder of ``renameat2``."""
_LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""Errors that say that data did not reach the disk; others say that there is nothing to wait for."""


def rename_new(partial: Path, place: Path) -> None:
    """Rename, unless there is something under that name already; raises FileExistsError if there is."""
    if sys.platform == "win32":
        os.rename(partial, place)  # never replaces there
    elif _renameat2(partial, place, _NO_REPLACE):
        return
    elif partial.is_dir():
        place.mkdir()  # the one step that cannot succeed twice
        try:
            os.replace(partial, place)
        except BaseException:
            place.rmdir()
            raise
    else:
        _link_new(partial, place)


def exchange(partial: Path, place: Path) -> bool:
    """Let two names change what they stand for, in one step; False where the system has none."""
    return _renameat2(partial, place, _EXCHANGE)


def replace_folder(partial: Path, place: Path) -> None:
    """Replace a folder in two steps; between them the old one is kept where the next run finds it."""
    kept = create_backup_folder(place)
    try:
        os.replace(place, kept / place.name)
        os.replace(partial, place)
    except BaseException:
        if (kept / place.name).is_dir() and not os.path.lexists(place):
            os.replace(kept / place.name, place)
        kept.rmdir()
        raise
    # From here on it is no longer what would be put back.
    shutil.rmtree(kept.rename(kept.with_suffix(".part")), ignore_errors=True)


def sync(path: Path, *, inside: bool = True) -> None:
    """Have the disk hold what was written; raises OSError if it does not."""
    for each in (*(sorted(path.iterdir()) if inside and path.is_dir() else ()), path):
        try:
            handle = os.open(each, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:  # some systems cannot
            if error.errno in _LOST:
                raise


def _link_new(partial: Path, place: Path) -> None:
    """Rename a file by a hard link, which never replaces; where there are none, after a look."""
    try:
        os.link(partial, place)
    except FileExistsError:
        raise
    except OSError:  # exFAT and some network file systems have no links: the work is not lost for that
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place)) from None
        os.replace(partial, place)
    else:
        partial.unlink()


def _renameat2(partial: Path, place: Path, flag: int) -> bool:
    """Linux's rename with a flag; False where the system or the file system has none."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if rename(_AT_CWD, os.fsencode(partial), _AT_CWD, os.fsencode(place), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), str(place))
