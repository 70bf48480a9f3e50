"""Output that appears under its final name only when it is complete.

Work goes to a hidden name in the same folder, so that the last step is one rename on one file
system. Whatever ends the work early, an error or an interrupt, removes it.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rdvfi.media.codecs import DEFAULT_CODEC

FRAME_NAME = "frame_{:06d}.png"
"""Names of the images in an output folder."""

_FRAME_PATTERN = re.compile(r"frame_\d+\.png")


def is_folder_output(destination: Path) -> bool:
    """Whether a destination means a folder of PNGs: it has no suffix, or is a folder."""
    return destination.is_dir() or destination.suffix == ""


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a destination that could not be written in the end.

    Raises:
        ValueError: If its suffix is unknown, or it is a folder with other things in it.
        FileNotFoundError: If its folder does not exist.
        FileExistsError: If it exists and ``overwrite`` is off.
        PermissionError: If its folder cannot be written.
    """
    folder = is_folder_output(destination)
    if not folder and destination.suffix.lower() not in DEFAULT_CODEC:
        raise ValueError(
            f"unknown output suffix {destination.suffix!r} of {destination}; expected "
            f"{', '.join(DEFAULT_CODEC)}, or a folder (no suffix) for PNG images"
        )
    _check_parent(destination)
    if folder and destination.is_dir():
        _check_replaceable(destination, overwrite=overwrite)
    elif destination.exists() and not overwrite:
        raise FileExistsError(f"{destination} exists; replace it with overwrite=True, or choose another name")


def check_picture(destination: Path, *, overwrite: bool) -> None:
    """Refuse a contact sheet that could not be written in the end."""
    if destination.suffix.lower() != ".png":
        raise ValueError(f"a contact sheet is a .png file; got {destination}")
    _check_parent(destination)
    if destination.is_dir():
        raise ValueError(f"{destination} is a folder; a contact sheet is a .png file")
    if destination.exists() and not overwrite:
        raise FileExistsError(f"{destination} exists; replace it with overwrite=True, or choose another name")


@contextmanager
def complete_or_nothing(destination: Path) -> Iterator[Path]:
    """A hidden path to write to, a folder if the destination is one; renamed on success."""
    folder = is_folder_output(destination)
    partial = destination.with_name(f".{destination.stem}.{os.getpid()}.part{destination.suffix}")
    try:
        if folder:
            partial.mkdir()
        yield partial
        if folder and destination.is_dir():
            # It holds nothing but an earlier run's frames: this was checked at the start.
            _check_replaceable(destination, overwrite=True)
            shutil.rmtree(destination)
        os.replace(partial, destination)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise


def _check_parent(destination: Path) -> None:
    parent = destination.absolute().parent
    if not parent.is_dir():
        raise FileNotFoundError(f"the folder {parent} of {destination} does not exist")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {parent} of {destination} cannot be written")


def _check_replaceable(folder: Path, *, overwrite: bool) -> None:
    """A folder is replaced only if it is empty, or holds frames of ours alone."""
    names = [entry.name for entry in folder.iterdir()]
    others = [name for name in names if not _FRAME_PATTERN.fullmatch(name)]
    if others:
        raise FileExistsError(f"{folder} holds other files ({others[0]}); choose an empty folder")
    if names and not overwrite:
        raise FileExistsError(f"{folder} holds frames; replace them with overwrite=True, or choose another")
