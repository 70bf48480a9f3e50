"""Output files of an evaluation: checked before the work."""

import os
from collections.abc import Sequence
from pathlib import Path

TABLES, PAGES, PLOTS = (".json", ".csv", ".md"), (".html", ".htm"), (".png", ".svg", ".pdf")


def check_output(path: str | os.PathLike[str], suffixes: Sequence[str] = TABLES, what: str = "a report") -> Path:
    """The path, once it is clear that such a file can be written there.

    Raises:
        ValueError: If its name has another suffix.
        FileNotFoundError: If the folder does not exist.
    """
    target = Path(path)
    if target.suffix not in suffixes:
        expected = " or ".join(part for part in (", ".join(suffixes[:-1]), suffixes[-1]) if part)
        raise ValueError(f"cannot write {what} to {target}: the name must end in {expected}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
    return target
