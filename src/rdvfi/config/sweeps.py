"""Sweeps over overrides, and printing a configuration, by Hydra's command line.

`run_hydra` is ``hydra.main`` with arguments that are ours, so every sweeper and launcher that Hydra has
works (``hydra/sweeper=optuna``, ``hydra/launcher=submitit_local``). `sweep` adds what a study needs: a
point that fails does not end the others, and what came of all of them is one table, ``results.csv`` in the
sweep's folder. Jobs hand their results over as files, since a launcher may run them anywhere.
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
from rdvfi.config.overrides import Overrides, explained

Row = Mapping[str, Any]
Job = Callable[[Mapping[str, Any], Path, Sequence[str]], Row]
"""What is done with a point's configuration, in a folder of its own; given its overrides, too."""

_RESULT, _TABLE = "result.json", "results.csv"
_DIRECTORY = "hydra.sweep.dir="


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
        """Those that came to nothing."""
        return tuple(point for point in self.points if point.error is not None)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: swept values, results, and errors."""
        keys = dict.fromkeys(key for point in self.points for key in point.overrides)
        swept = [key for key in keys if len({point.overrides.get(key) for point in self.points}) > 1]
        names = list(dict.fromkeys(name for point in self.points for name in point.row))
        rows = [
            [
                str(point.number),
                *(point.overrides.get(key, "") for key in swept),
                *(_shown(point.row.get(name)) for name in names),
                point.error or "",
            ]
            for point in self.points
        ]
        return ["point", *swept, *names, "error"], rows

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
    """Do a job at every point that overrides with several values span.

    Args:
        job: What is done at a point.
        folder: First on Hydra's search path.
        overrides: Checked ones, several values among them.
        name: Of the primary configuration.
        settings: Of Hydra itself, as ``hydra/sweeper=optuna``.
        into: The sweep's folder; by default Hydra's, ``multirun/DATE/TIME``.
        objective: Which value of a row a sweeper is to optimise.
    """
    directory = _directory(settings, into)

    def task(cfg: Mapping[str, Any]) -> float | None:
        own, about = Path(HydraConfig.get().runtime.output_dir), HydraConfig.get()
        given = list(about.overrides.task)
        try:
            row, error = dict(job(cfg, own, given)), None
        except Exception as failure:  # whatever it is, the other points go on
            row, error = {}, f"{type(failure).__name__}: {' '.join(str(failure).split())}"
        told = {"number": int(about.job.num), "overrides": given, "row": row, "error": error}
        with atomic(own / _RESULT) as partial:
            partial.write_text(json.dumps(told, indent=2, default=str) + "\n", encoding="utf-8")
        found = row.get(objective)
        return None if found is None else float(found)  # Optuna takes None for a trial that failed, and no NaN

    rest = [text for text in settings if not text.startswith(_DIRECTORY)]
    run_hydra(task, folder, overrides, ["--multirun"], name=name, settings=[*rest, f"{_DIRECTORY}{directory}"])
    found = [json.loads(file.read_text()) for file in directory.glob(f"*/{_RESULT}")]
    points = sorted((_point(told) for told in found), key=lambda point: point.number)
    result = Sweep(directory, tuple(points))
    heads, rows = result.table()
    with (directory / _TABLE).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([heads, *rows])
    return result


def run_hydra(
    task: Callable[[Any], Any],
    folder: Path,
    overrides: Overrides,
    flags: Sequence[str],
    *,
    name: str = PRIMARY,
    settings: Sequence[str] = (),
) -> None:
    """``hydra.main`` with these arguments, such as ``["--cfg", "job"]``.

    Raises:
        ValueError: If Hydra cannot compose the configuration.
    """
    arguments = [*flags, *overrides.texts, *settings, search_path(overrides.folders, recipes=name == PRIMARY)]
    try:
        with _arguments(arguments):
            hydra.main(config_path=str(folder.resolve()), config_name=name, version_base="1.3")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explained(error)) from error


def _directory(settings: Sequence[str], into: Path | None) -> Path:
    given = [text.removeprefix(_DIRECTORY) for text in settings if text.startswith(_DIRECTORY)]
    if given:
        return Path(given[-1])
    return into if into is not None else Path("multirun") / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")


def _point(told: Mapping[str, Any]) -> SweepPoint:
    pairs = (text.lstrip("+").partition("=") for text in told["overrides"])
    return SweepPoint(told["number"], {key: value for key, _, value in pairs}, told["row"], told["error"])


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


@contextmanager
def _arguments(words: Sequence[str]) -> Iterator[None]:
    """The command line that Hydra reads, and its errors as exceptions instead of an exit."""
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
