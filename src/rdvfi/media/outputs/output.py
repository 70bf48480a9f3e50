"""Output files that appear under their final name only once they are complete.

They are written under a temporary name in the same folder, so that the last step is one rename on one file system.
An error or an interrupt removes the temporary file; that of a killed process is removed by the next one that writes
to the same folder.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rdvfi.media.outputs.atomic_rename import exchange, rename_new, replace_folder, sync
from rdvfi.media.outputs.temporary_files import create_partial, is_being_written, lock, remove, remove_stale_files
from rdvfi.media.pipes import is_pipe
from rdvfi.media.video_files.codecs import DEFAULT_CODECS

FRAME_NAME = "frame_{:06d}.png"
"""Names of the images in an output folder."""

_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""FFmpeg reports them without the name of the file."""
_FRAME_PATTERN = re.compile(r"frame_\d+\.png")


def is_folder_output(destination: Path) -> bool:
    """Whether a destination is a folder of PNG images: it has no suffix, or is an existing folder."""
    return destination.is_dir() or destination.suffix == ""


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a destination that could not be written in the end.

    Raises:
        ValueError: If its suffix is unknown, or it is a pipe, a device, or a file where a folder is meant.
        FileNotFoundError: If its folder does not exist.
        FileExistsError: If it exists and ``overwrite`` is off, is a folder with other files, or is being written
            by another process.
        PermissionError: If its folder cannot be written.
    """
    if is_pipe(destination):
        return
    folder = is_folder_output(destination)
    if not folder and destination.suffix.lower() not in DEFAULT_CODECS:
        raise ValueError(
            f"unknown output suffix {destination.suffix!r} of {destination}; expected "
            f"{', '.join(DEFAULT_CODECS)}, or a folder (no suffix) for PNG images"
        )
    _check_parent(destination)
    if is_being_written(_resolve_link(destination)):
        raise FileExistsError(f"another run is writing {destination}; wait for it, or choose another name")
    if folder and destination.is_dir():
        _check_replaceable(destination, overwrite=overwrite)
    else:
        _check_file(destination, overwrite=overwrite)


def check_contact_sheet(destination: Path, *, overwrite: bool) -> None:
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
        raise _file_exists_error(destination)


def _file_exists_error(destination: Path) -> FileExistsError:
    return FileExistsError(f"{destination} exists; replace it with overwrite=True, or choose another name")


@contextmanager
def atomic_output(destination: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path to write to, a folder if the destination is one; renamed on success.

    Raises:
        FileExistsError: If something appeared at the destination meanwhile, and ``overwrite`` is off.
        OSError: If it cannot be written; the destination is then unchanged.
    """
    folder, place = is_folder_output(destination), _resolve_link(destination)
    remove_stale_files(place.parent)
    partial = create_partial(place, folder=folder)
    lock_handle = None
    try:
        lock_handle = lock(partial)
        yield partial
        sync(partial)
        if folder and place.is_dir():
            # It was checked at the start, and may have changed since.
            _check_replaceable(place, overwrite=overwrite)
            if not exchange(partial, place):
                replace_folder(partial, place)
            remove(partial)
        elif overwrite and not folder:
            os.replace(partial, place)
        else:
            try:
                rename_new(partial, place)
            except FileExistsError as error:
                raise _file_exists_error(destination) from error
        sync(place.parent, contents=False)
    except BaseException as error:
        remove(partial)
        if isinstance(error, OSError) and error.errno in _DISK_FULL_ERRORS and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(destination)) from error
        raise
    finally:
        if lock_handle is not None:
            os.close(lock_handle)


def _resolve_link(destination: Path) -> Path:
    """The absolute path of the output; that of its target if it is a link."""
    return Path(os.path.realpath(destination)) if destination.is_symlink() else destination.absolute()


def _check_parent(destination: Path) -> None:
    parent = _resolve_link(destination).parent
    if not parent.is_dir():
        raise FileNotFoundError(f"the folder {parent} of {destination} does not exist")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {parent} of {destination} cannot be written")


def _check_replaceable(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything but frames of an earlier run."""
    if os.path.ismount(folder) or folder.resolve() == Path.cwd():
        raise ValueError(f"{folder} cannot be replaced: it is a mount point or the current folder")
    names = [entry.name for entry in folder.iterdir()]
    others = [name for name in names if not _FRAME_PATTERN.fullmatch(name)]
    if others:
        raise FileExistsError(f"{folder} holds other files ({others[0]}); choose an empty folder")
    if names and not overwrite:
        raise FileExistsError(f"{folder} holds frames; replace them with overwrite=True, or choose another")
