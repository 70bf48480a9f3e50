"""Checks of the output paths of an evaluation, made before it starts."""

import os
from collections.abc import Sequence
from pathlib import Path

TABLE_SUFFIXES = (".json", ".csv", ".md")
PAGE_SUFFIXES = (".html", ".htm")
PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def check_output_path(
    path: str | os.PathLike[str], suffixes: Sequence[str] = TABLE_SUFFIXES, kind: str = "a report"
) -> Path:
    """The path, if its suffix and its folder are valid.

    Raises:
        ValueError: If its suffix is not one of ``suffixes``.
        FileNotFoundError: If the folder does not exist.
    """
    target = Path(path)
    if target.suffix not in suffixes:
        expected = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise ValueError(f"cannot write {kind} to {target}: the name must end in {expected}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
    return target
