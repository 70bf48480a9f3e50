"""Atomic renaming of a completed output to its final name.

A file or folder that appeared meanwhile is replaced only if the caller asks for it, and what is replaced stays
complete until the new one is there.
"""

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

from rdvfi.media.outputs.temporary_files import create_backup_folder

_NO_REPLACE, _EXCHANGE, _AT_CWD = 1, 2, -100
"""Flags and folder of Linux's ``renameat2``."""
_WRITE_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""Errors of ``fsync`` that mean that data did not reach the disk; others mean that it is not supported."""


def rename_new(partial: Path, place: Path) -> None:
    """Rename; raises FileExistsError if the name is taken."""
    if sys.platform == "win32":
        os.rename(partial, place)  # never replaces on Windows
    elif _renameat2(partial, place, _NO_REPLACE):
        return
    elif partial.is_dir():
        place.mkdir()  # fails if the name is taken
        try:
            os.replace(partial, place)
        except BaseException:
            place.rmdir()
            raise
    else:
        _link_new(partial, place)


def exchange(partial: Path, place: Path) -> bool:
    """Exchange two paths atomically; False if the system cannot."""
    return _renameat2(partial, place, _EXCHANGE)


def replace_folder(partial: Path, place: Path) -> None:
    """Replace a folder in two steps; between them the old one is where `remove_stale_files` finds it."""
    backup = create_backup_folder(place)
    try:
        os.replace(place, backup / place.name)
        os.replace(partial, place)
    except BaseException:
        if (backup / place.name).is_dir() and not os.path.lexists(place):
            os.replace(backup / place.name, place)
        backup.rmdir()
        raise
    # Under the suffix .part it is no longer restored if the removal is interrupted.
    shutil.rmtree(backup.rename(backup.with_suffix(".part")), ignore_errors=True)


def sync(path: Path, *, contents: bool = True) -> None:
    """Flush a file, or a folder and its contents, to the disk; raises OSError if that fails."""
    for entry in (*(sorted(path.iterdir()) if contents and path.is_dir() else ()), path):
        try:
            handle = os.open(entry, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno in _WRITE_ERRORS:
                raise


def _link_new(partial: Path, place: Path) -> None:
    """Rename a file by a hard link, which never replaces; without hard links, after a check."""
    try:
        os.link(partial, place)
    except FileExistsError:
        raise
    except OSError:  # exFAT and some network file systems have no hard links
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place)) from None
        os.replace(partial, place)
    else:
        partial.unlink()


def _renameat2(partial: Path, place: Path, flag: int) -> bool:
    """Linux's rename with a flag; False if the system or the file system does not support it."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if rename(_AT_CWD, os.fsencode(partial), _AT_CWD, os.fsencode(place), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(place))
