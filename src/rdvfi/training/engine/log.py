"""The training log: a CSV file, and trackers of accelerate on request.

Rows are means over the steps since the previous row. A resumed run continues the file: rows after the step at
which it resumes are dropped, since those steps are repeated.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from rdvfi._atomic import atomic
from rdvfi.media.pixels import Picture

_LEADING_COLUMNS = ("step", "seconds", "rate", "gradient")


class TrainingLog:
    """Scalars and pictures of one stage.

    Args:
        folder: Output folder of ``<name>.csv`` and of the files of trackers.
        name: Name of the stage.
        start: Step at which this run begins.
        trackers: Names of accelerate's trackers, such as ``tensorboard``.

    Raises:
        ValueError: If there is no such tracker.
        ModuleNotFoundError: If its package is not installed.
    """

    def __init__(self, folder: Path, name: str, start: int, *, trackers: Sequence[str]) -> None:
        self._trackers = [_create_tracker(tracker, name, folder) for tracker in trackers]
        self.path = folder / f"{name}.csv"
        self._rows = [row for row in _read_rows(self.path) if int(row["step"]) <= start]
        self._rewrite()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write a row; ``values`` may have names that earlier rows lack."""
        row = {"step": str(step), **{key: f"{value:.6g}" for key, value in values.items()}}
        self._rows.append(row)
        if set(row) <= set(self._columns):
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        else:
            self._rewrite()
        for tracker in self._trackers:
            tracker.log(values, step=step)

    def write_picture(self, step: int, pixels: Picture) -> None:
        """Pass a picture to the trackers that accept images."""
        for tracker in self._trackers:
            if hasattr(tracker, "log_images"):
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"sheet": pixels[None]}, step=step, **options)

    def close(self) -> None:
        """Finish the trackers."""
        for tracker in self._trackers:
            tracker.finish()

    def _rewrite(self) -> None:
        columns = dict.fromkeys(key for row in self._rows for key in row)
        self._columns = [*_LEADING_COLUMNS, *(key for key in columns if key not in _LEADING_COLUMNS)]
        with atomic(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A killed run may have left an incomplete row.
    complete = [row for row in rows if None not in row.values() and row.get("step", "").isdigit()]
    return [{key: value for key, value in row.items() if key and value} for row in complete]


def _create_tracker(tracker: str, name: str, folder: Path) -> Any:
    if tracker not in LOGGER_TYPE_TO_CLASS:
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        raise ValueError(f"engine.trackers: no tracker {tracker!r}; accelerate has {known}")
    tracker_class: Any = LOGGER_TYPE_TO_CLASS[tracker]
    if tracker not in {kind.value for kind in get_available_trackers()}:
        raise ModuleNotFoundError(
            f"the tracker {tracker!r} is not installed; pip install {tracker} (TensorBoard comes with 'rdvfi[train]')"
        )
    options = {"logging_dir": folder / tracker} if tracker_class.requires_logging_directory else {}
    created = tracker_class(name, **options)
    if hasattr(created, "start"):
        created.start()
    return created
