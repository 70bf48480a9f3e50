"""Files that appear under their name only when they are complete."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A hidden file beside ``path`` to write to, which gets its name at the end; nothing is left of a failure."""
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # some writers make files for their owner alone
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
