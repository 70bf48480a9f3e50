"""The training log: a CSV file, and trackers of accelerate on request.

Rows are means since the row before. A run that goes on continues the file: rows after the step at
which it goes on are dropped, since those steps are done again.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from rdvfi._atomic import atomic
from rdvfi.media.pixels import Picture

_FIRST = ("step", "seconds", "rate", "gradient")


class Log:
    """Scalars and pictures of one stage.

    Args:
        folder: Where ``<name>.csv`` goes, and what trackers keep in files.
        name: The stage's name.
        start: The step at which this run begins.
        trackers: Names of accelerate's trackers, such as ``tensorboard``.

    Raises:
        ValueError: If there is no such tracker.
        ModuleNotFoundError: If its package is not installed.
    """

    def __init__(self, folder: Path, name: str, start: int, *, trackers: Sequence[str]) -> None:
        self._trackers = [_tracker(tracker, name, folder) for tracker in trackers]
        self.path = folder / f"{name}.csv"
        self._rows = [row for row in _read(self.path) if int(row["step"]) <= start]
        self._rewrite()

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row; ``values`` may hold names that earlier rows did not have."""
        row = {"step": str(step), **{key: f"{value:.6g}" for key, value in values.items()}}
        self._rows.append(row)
        if set(row) <= set(self._columns):
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        else:
            self._rewrite()
        for tracker in self._trackers:
            tracker.log(values, step=step)

    def picture(self, step: int, pixels: Picture) -> None:
        """A picture, to trackers that take any."""
        for tracker in self._trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images({"sheet": pixels[None]}, step=step, **_layout(tracker))

    def close(self) -> None:
        """Finish the trackers."""
        for tracker in self._trackers:
            tracker.finish()

    def _rewrite(self) -> None:
        columns = dict.fromkeys(key for row in self._rows for key in row)
        self._columns = [*_FIRST, *(key for key in columns if key not in _FIRST)]
        with atomic(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A row that lacks fields was cut off where a run was killed.
    whole = [row for row in rows if None not in row.values() and row.get("step", "").isdigit()]
    return [{key: value for key, value in row.items() if key and value} for row in whole]


def _tracker(tracker: str, name: str, folder: Path) -> Any:
    if tracker not in LOGGER_TYPE_TO_CLASS:
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        raise ValueError(f"engine.trackers: no tracker {tracker!r}; accelerate has {known}")
    made_by: Any = LOGGER_TYPE_TO_CLASS[tracker]
    if tracker not in {kind.value for kind in get_available_trackers()}:
        raise ModuleNotFoundError(
            f"the tracker {tracker!r} is not installed; pip install {tracker} (TensorBoard comes with 'rdvfi[train]')"
        )
    made = made_by(name, logging_dir=folder / tracker) if made_by.requires_logging_directory else made_by(name)
    if hasattr(made, "start"):
        made.start()
    return made


def _layout(tracker: Any) -> dict[str, str]:
    return {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
