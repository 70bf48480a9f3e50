"""Sweeps over overrides, and printing a configuration, by Hydra's command line.

`run_hydra` calls ``hydra.main`` with given arguments, so every sweeper and launcher of Hydra
works (``hydra/sweeper=optuna``, ``hydra/launcher=submitit_local``). In a `sweep`, a point that fails does not
end the others, and all results are written as one table, ``results.csv`` in the folder of the sweep. Jobs return
their results as files, since a launcher may run them in another process.
"""

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from rdvfi._atomic import atomic
from rdvfi.config.composition import PRIMARY, search_path
from rdvfi.config.overrides import Overrides, explain_error

Row = Mapping[str, Any]
Job = Callable[[Mapping[str, Any], Path, Sequence[str]], Row]
"""Computes the row of a point, given its configuration, its folder and its overrides."""

_RESULT_NAME, _TABLE_NAME = "result.json", "results.csv"
_FOLDER_SETTING = "hydra.sweep.dir="


@dataclass(frozen=True)
class SweepPoint:
    """One point of a sweep: its overrides, and its result or error."""

    number: int
    overrides: dict[str, str]
    row: dict[str, Any]
    error: str | None = None

    def __str__(self) -> str:
        return f"point {self.number} ({', '.join(f'{key}={value}' for key, value in self.overrides.items())})"


@dataclass(frozen=True)
class Sweep:
    """All points of a sweep."""

    folder: Path
    points: tuple[SweepPoint, ...]

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        """The points that failed."""
        return tuple(point for point in self.points if point.error is not None)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: swept values, results, and errors."""
        keys = dict.fromkeys(key for point in self.points for key in point.overrides)
        varied = [key for key in keys if len({point.overrides.get(key) for point in self.points}) > 1]
        names = list(dict.fromkeys(name for point in self.points for name in point.row))
        rows = [
            [
                str(point.number),
                *(point.overrides.get(key, "") for key in varied),
                *(_format_cell(point.row.get(name)) for name in names),
                point.error or "",
            ]
            for point in self.points
        ]
        return ["point", *varied, *names, "error"], rows

    def __str__(self) -> str:
        """The table, as lines of text."""
        heads, rows = self.table()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]
        )
        return "\n".join(line.rstrip() for line in lines)


def sweep(
    job: Job,
    folder: Path,
    overrides: Overrides,
    *,
    name: str = PRIMARY,
    settings: Sequence[str] = (),
    into: Path | None = None,
    objective: str,
) -> Sweep:
    """Run a job at every combination of overrides with several values.

    Args:
        job: Computes the row of a point.
        folder: First folder of Hydra's search path.
        overrides: Checked overrides, some with several values.
        name: Name of the primary configuration.
        settings: Settings of Hydra itself, such as ``hydra/sweeper=optuna``.
        into: Folder of the sweep; by default that of Hydra, ``multirun/DATE/TIME``.
        objective: Name of the value of a row that a sweeper optimises.
    """
    sweep_folder = _sweep_folder(settings, into)
    settings = [text for text in settings if not text.startswith(_FOLDER_SETTING)]
    settings.append(f"{_FOLDER_SETTING}{sweep_folder}")

    def task(cfg: Mapping[str, Any]) -> float | None:
        # A function of this module and no `functools.partial`: Hydra names the job and its log file after the module.
        return _run_point(job, objective, cfg)

    run_hydra(task, folder, overrides, ["--multirun"], name=name, settings=settings)
    points = map(_read_point, sweep_folder.glob(f"*/{_RESULT_NAME}"))
    result = Sweep(sweep_folder, tuple(sorted(points, key=lambda point: point.number)))
    heads, rows = result.table()
    with (sweep_folder / _TABLE_NAME).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([heads, *rows])
    return result


def _run_point(job: Job, objective: str, cfg: Mapping[str, Any]) -> float | None:
    """Run the job at one point and write its result; returns the value to optimise."""
    hydra_config = HydraConfig.get()
    folder, overrides = Path(hydra_config.runtime.output_dir), list(hydra_config.overrides.task)
    try:
        row, error = dict(job(cfg, folder, overrides)), None
    except Exception as failure:  # of any kind: the other points must go on
        row, error = {}, f"{type(failure).__name__}: {' '.join(str(failure).split())}"
    result = {"number": int(hydra_config.job.num), "overrides": overrides, "row": row, "error": error}
    with atomic(folder / _RESULT_NAME) as partial:
        partial.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
    value = row.get(objective)
    return None if value is None else float(value)  # Optuna takes None for a failed trial, and no NaN


def run_hydra(
    task: Callable[[Any], Any],
    folder: Path,
    overrides: Overrides,
    flags: Sequence[str],
    *,
    name: str = PRIMARY,
    settings: Sequence[str] = (),
) -> None:
    """Call ``hydra.main`` with these overrides, flags such as ``--cfg``, and settings of Hydra; see `sweep`.

    Raises:
        ValueError: If Hydra cannot compose the configuration.
    """
    arguments = [*flags, *overrides.texts, *settings, search_path(overrides.folders, recipes=name == PRIMARY)]
    try:
        with _command_line(arguments):
            hydra.main(config_path=str(folder.resolve()), config_name=name, version_base="1.3")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain_error(error)) from error


def _sweep_folder(settings: Sequence[str], into: Path | None) -> Path:
    """The folder of a sweep: that of the settings, else ``into``, else one by date and time."""
    given = [text.removeprefix(_FOLDER_SETTING) for text in settings if text.startswith(_FOLDER_SETTING)]
    if given:
        return Path(given[-1])
    return into if into is not None else Path("multirun") / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")


def _read_point(file: Path) -> SweepPoint:
    result = json.loads(file.read_text(encoding="utf-8"))
    pairs = (text.lstrip("+").partition("=") for text in result["overrides"])
    return SweepPoint(result["number"], {key: value for key, _, value in pairs}, result["row"], result["error"])


def _format_cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    """Set the command line that Hydra reads, and let it raise errors instead of exiting."""
    before, setting = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["rdvfi", *words], "1"
    try:
        yield
    finally:
        sys.argv = before
        if setting is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = setting
