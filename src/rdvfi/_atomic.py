"""Writing files that appear under their final name only when they are complete."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a hidden file in the same folder; it is renamed to ``path`` at the end, or removed on failure."""
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # some writers create files that only their owner can read
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
