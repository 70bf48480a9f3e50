"""Output files of an evaluation: checked before the work, written atomically."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A hidden file beside ``target`` to write to, which gets its name at the end; nothing is left of a failure."""
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
