"""Output that appears under its final name only when it is complete.

Work goes to a hidden name in the same folder, so that the last step is one rename on one file
system. Whatever ends the work early, an error or an interrupt, removes it; what a killed process
left is removed by the next one that writes to the same folder.
"""

import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rdvfi.media.codecs import DEFAULT_CODEC

FRAME_NAME = "frame_{:06d}.png"
"""Names of the images in an output folder."""

_FRAME_PATTERN = re.compile(r"frame_\d+\.png")
_PARTIAL = re.compile(r"\..*\.rdvfi-(\d+)-\w+\.part(\.\w+)?", re.DOTALL)
"""Names of what is being written: the process is in the name."""
_LONGEST = 255
"""Bytes of a file name."""
_NO_REPLACE, _EXCHANGE, _AT_CWD = 1, 2, -100
"""Of Linux: flags and folder of ``renameat2``."""


def is_folder_output(destination: Path) -> bool:
    """Whether a destination means a folder of PNGs: it has no suffix, or is a folder."""
    return destination.is_dir() or destination.suffix == ""


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a destination that could not be written in the end.

    Raises:
        ValueError: If its suffix is unknown, or it is no place for a file or folder.
        FileNotFoundError: If its folder does not exist.
        FileExistsError: If it exists and ``overwrite`` is off, or is a folder with other things in it.
        PermissionError: If its folder cannot be written.
    """
    if str(destination) == "-":
        raise ValueError("- (standard output) cannot be written; name a file or a folder")
    folder = is_folder_output(destination)
    if not folder and destination.suffix.lower() not in DEFAULT_CODEC:
        raise ValueError(
            f"unknown output suffix {destination.suffix!r} of {destination}; expected "
            f"{', '.join(DEFAULT_CODEC)}, or a folder (no suffix) for PNG images"
        )
    _check_parent(destination)
    if folder and destination.is_dir():
        _check_replaceable(destination, overwrite=overwrite)
    else:
        _check_file(destination, overwrite=overwrite)


def check_picture(destination: Path, *, overwrite: bool) -> None:
    """Refuse a contact sheet that could not be written in the end."""
    if destination.suffix.lower() != ".png":
        raise ValueError(f"contact_sheet is a .png file; got {destination}")
    _check_parent(destination)
    if destination.is_dir():
        raise ValueError(f"{destination} is a folder; contact_sheet is a .png file")
    _check_file(destination, overwrite=overwrite)


def _check_file(destination: Path, *, overwrite: bool) -> None:
    if destination.exists() and not destination.is_file():
        raise ValueError(f"{destination} is a pipe or a device; name a file")
    if destination.is_file() and is_folder_output(destination):
        raise ValueError(f"{destination} is a file, but a name without a suffix means a folder of PNG images")
    if destination.exists() and not overwrite:
        raise _exists(destination)


def _exists(destination: Path) -> FileExistsError:
    return FileExistsError(f"{destination} exists; replace it with overwrite=True, or choose another name")


@contextmanager
def complete_or_nothing(destination: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A hidden path to write to, a folder if the destination is one; renamed on success.

    Raises:
        FileExistsError: If something appeared at the destination meanwhile, and ``overwrite`` is off.
    """
    folder = is_folder_output(destination)
    place = Path(os.path.realpath(destination)) if destination.is_symlink() else destination
    _remove_leftovers(place.absolute().parent)
    partial = _create(place, folder=folder)
    lock = _lock(partial)
    try:
        yield partial
        _sync(partial)
        if folder:
            _publish_folder(partial, place, overwrite=overwrite)
        elif overwrite:
            os.replace(partial, place)
        else:
            _rename_new(partial, place, destination)
        _sync(place.absolute().parent, inside=False)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _lock(partial: Path) -> int | None:
    """Lock what is being written, as long as this process lives; None if it is locked already or cannot be."""
    handle = os.open(partial, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        os.close(handle)
        return None
    return handle


def _prefix(place: Path) -> str:
    """The beginning of a hidden name that is not too long."""
    own = f".rdvfi-{os.getpid()}-"
    room = _LONGEST - len(own) - len(os.fsencode(place.suffix)) - 32
    return "." + os.fsencode(place.stem)[: max(1, room)].decode(errors="ignore") + own


def _create(place: Path, *, folder: bool) -> Path:
    parent, suffix = place.absolute().parent, place.suffix
    if folder:
        made = Path(tempfile.mkdtemp(prefix=_prefix(place), suffix=".part", dir=parent))
    else:
        handle, name = tempfile.mkstemp(prefix=_prefix(place), suffix=f".part{suffix}", dir=parent)
        os.close(handle)
        made = Path(name)
    mask = os.umask(0)
    os.umask(mask)
    made.chmod((0o777 if folder else 0o666) & ~mask)  # temporary ones are for their owner alone
    return made


def _publish_folder(partial: Path, place: Path, *, overwrite: bool) -> None:
    """Put a folder in its place; the old one stays until the new one is whole."""
    if not place.is_dir():
        _rename_new(partial, place, place)
        return
    # It holds nothing but an earlier run's frames: this was checked at the start, and may have changed.
    _check_replaceable(place, overwrite=overwrite)
    if _renameat2(partial, place, _EXCHANGE):  # in one step: a kill leaves the old frames or the new ones there
        shutil.rmtree(partial, ignore_errors=True)
        return
    old = Path(tempfile.mkdtemp(prefix=_prefix(place), suffix=".part", dir=place.absolute().parent))
    os.replace(place, old)
    try:
        os.replace(partial, place)
    except BaseException:
        os.replace(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _rename_new(partial: Path, place: Path, destination: Path) -> None:
    """Rename, unless there is something under that name already."""
    try:
        if _rename_no_replace(partial, place):
            return
        if partial.is_dir():
            place.mkdir()  # the one step that cannot succeed twice
            os.replace(partial, place)
        else:
            _link_new(partial, place)
    except FileExistsError as error:
        raise _exists(destination) from error


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


def _rename_no_replace(partial: Path, place: Path) -> bool:
    """Rename in one step that never replaces; False where the system has none."""
    return _renameat2(partial, place, _NO_REPLACE)


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


def _sync(path: Path, *, inside: bool = True) -> None:
    """Have the disk hold what was written."""
    for each in (*(sorted(path.iterdir()) if inside and path.is_dir() else ()), path):
        with suppress(OSError):  # some file systems cannot
            handle = os.open(each, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes left that do not run any more."""
    with suppress(OSError):  # a folder may be writable and not readable
        for entry in list(folder.iterdir()):
            match = _PARTIAL.fullmatch(entry.name)
            if match is not None and not _runs(int(match[1])):
                with suppress(OSError):  # of another user, or removed by another process meanwhile
                    _remove_leftover(entry)


def _remove_leftover(entry: Path) -> None:
    lock = _lock(entry)
    if lock is None:
        return
    os.close(lock)
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _check_parent(destination: Path) -> None:
    parent = destination.absolute().parent
    if not parent.is_dir():
        raise FileNotFoundError(f"the folder {parent} of {destination} does not exist")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {parent} of {destination} cannot be written")


def _check_replaceable(folder: Path, *, overwrite: bool) -> None:
    """A folder is replaced only if it is empty, or holds frames of ours alone."""
    if os.path.ismount(folder) or folder.resolve() == Path.cwd():
        raise ValueError(f"{folder} cannot be replaced: it is a mount point or the present folder")
    names = [entry.name for entry in folder.iterdir()]
    others = [name for name in names if not _FRAME_PATTERN.fullmatch(name)]
    if others:
        raise FileExistsError(f"{folder} holds other files ({others[0]}); choose an empty folder")
    if names and not overwrite:
        raise FileExistsError(f"{folder} holds frames; replace them with overwrite=True, or choose another")
