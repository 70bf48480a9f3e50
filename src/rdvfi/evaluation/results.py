"""Results of an evaluation: `Report` and its parts, printed as tables and saved as JSON, CSV or Markdown."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from rdvfi._atomic import atomic
from rdvfi.evaluation.cost import Cost
from rdvfi.evaluation.environment import Environment
from rdvfi.evaluation.intervals import Interval, paired_difference, weighted_mean
from rdvfi.evaluation.metrics.metric import Sample
from rdvfi.evaluation.output_paths import check_output_path

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Score:
    """Means of one method over all its frames, by metric."""

    method: str
    values: dict[str, float] = field(default_factory=dict)
    ms_per_frame: float | None = None
    """Median over pairs of the duration divided by the number of interpolated frames; None for existing frames."""
    failed: str | None = None
    """The error, if the method failed."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """95 per cent bootstrap intervals of the means; see `rdvfi.evaluation.intervals`."""
    middle: dict[str, float] = field(default_factory=dict)
    """Means over the frames at time 0.5."""
    cost: Cost | None = None
    """Time per pair and per extra frame, and memory, if requested."""
    no_cost: str | None = None
    """The reason why the cost is unknown."""

    @property
    def psnr(self) -> float:
        """PSNR in dB."""
        return self._value("psnr")

    @property
    def ssim(self) -> float:
        """SSIM."""
        return self._value("ssim")

    @property
    def gradient_ratio(self) -> float:
        """Gradient energy of the interpolated frames relative to the true ones; below 1 they are smoother."""
        return self._value("gradient-energy")

    def _value(self, name: str) -> float:
        if name not in self.values:
            raise KeyError(f"{self.method} has no {name}: {self.failed or 'it was not measured'}")
        return self.values[name]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a report, with the means under the names of the metrics."""
        return {
            "method": self.method,
            **self.values,
            "ms_per_frame": self.ms_per_frame,
            "failed": self.failed,
            "intervals": self.intervals,
            "middle": self.middle,
            **({} if self.cost is None else {"cost": asdict(self.cost)}),
            **({} if self.no_cost is None else {"no_cost": self.no_cost}),
        }


@dataclass(frozen=True)
class WindowRow:
    """Measurements of one window. ``first`` is the number of its first frame in ``clip``."""

    clip: str
    first: int
    properties: dict[str, float]
    """``motion`` in pixels and ``occlusion`` in [0, 1], if requested."""
    samples: dict[str, dict[str, Sample]] = field(default_factory=dict)
    """Samples by method and metric."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a report, with the means of the window by method and metric."""
        means = {
            method: {name: round(weighted_mean([sample]), 6) for name, sample in by_metric.items()}
            for method, by_metric in self.samples.items()
        }
        return {"clip": self.clip, "first": self.first, **self.properties, "values": means}


@dataclass(frozen=True)
class AblationLoss:
    """Loss in quality of a model when one of its parts is replaced; ``psnr_lost`` in dB."""

    method: str
    replaced: str
    psnr_lost: float
    ssim_lost: float


@dataclass(frozen=True)
class Difference:
    """The mean of ``metric`` for ``method`` minus that for ``than``, on the same windows."""

    metric: str
    method: str
    than: str
    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Report:
    """Scores of several methods on the same frames."""

    clip: str
    """Name of the clip, or of the protocol."""
    gap: int
    size: tuple[int, int]
    """(height, width) of the frames; the last size if there are several."""
    pairs: int
    frames: int
    """Number of frames interpolated by each method."""
    skipped: int
    """Number of pairs skipped for a scene cut between them."""
    scores: tuple[Score, ...]
    losses: tuple[AblationLoss, ...]
    environment: Environment
    sizes: int = 1
    """Number of different frame sizes."""
    windows: tuple[WindowRow, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Reasons why metrics could not be computed, by the name of the metric."""
    conversion: str = ""
    """Conversion of video to RGB, "ffmpeg" or "exact"."""

    def score(self, method: str) -> Score:
        """The score of one method; raises KeyError if the report does not contain it."""
        for score in self.scores:
            if score.method == method:
                return score
        names = ", ".join(score.method for score in self.scores)
        raise KeyError(f"no method {method!r} in this report; it has {names}")

    def differences(self, than: str) -> tuple[Difference, ...]:
        """Paired differences of every other method to ``than``, by metric, with their intervals."""
        base = self.score(than)
        others = [score.method for score in self.scores if score.method != than and score.failed is None]
        differences = []
        for method, metric in product(others, base.values):
            rows = [row for row in self.windows if all(metric in row.samples.get(m, {}) for m in (method, than))]
            if rows:
                ours, other = ([row.samples[name][metric] for row in rows] for name in (method, than))
                pair = paired_difference(ours, other, bootstrap_units(rows))
                differences.append(Difference(metric, method, than, *pair))
        return tuple(differences)

    def title(self) -> str:
        """A one-line description of the data."""
        h, w = self.size
        size = f"{w}x{h}" if self.sizes == 1 else f"{self.sizes} sizes"
        skipped = f", {self.skipped} with a scene cut left out" if self.skipped else ""
        return f"{self.clip}: gap {self.gap}, {size}, {self.pairs} pairs, {self.frames} new frames{skipped}"

    def table(self) -> "Table":
        """The scores as a table of rich, without title and environment."""
        from rdvfi.evaluation.result_tables import score_table

        return score_table(self)

    def to_json(self) -> str:
        """The whole report as JSON."""
        reference = next((score.method for score in self.scores if score.failed is None), None)
        windows = ",\n".join(f"  {json.dumps(row.to_dict())}" for row in self.windows)
        fields = ("clip", "gap", "size", "sizes", "pairs", "frames", "skipped", "conversion")
        content = {
            **{name: getattr(self, name) for name in fields},
            "scores": [score.to_dict() for score in self.scores],
            "differences": [asdict(difference) for difference in self.differences(reference)] if reference else [],
            "losses": [asdict(loss) for loss in self.losses],
            "unavailable": dict(self.unavailable),
            "environment": asdict(self.environment),
        }
        # One line per window keeps the file readable: a film has hundreds of windows.
        return f'{json.dumps(content, indent=1)[:-2]},\n "windows": [\n{windows}\n ]\n}}\n'

    def to_csv(self) -> str:
        """CSV with one row per method; clip, gap and environment are repeated in each."""
        shared = {name: getattr(self, name) for name in ("clip", "gap", "pairs", "frames")}
        shared["environment"] = self.environment.line()
        text = io.StringIO()
        names = dict.fromkeys(name for score in self.scores for name in score.values)
        columns = ["method", *names, "ms_per_frame", "failed", *shared]
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for score in self.scores:
            writer.writerow({**score.to_dict(), **shared})
        return text.getvalue()

    def to_markdown(self) -> str:
        """Title, table and environment as a Markdown section."""
        from rdvfi.evaluation.result_tables import markdown_table

        return f"### {self.title()}\n\n{markdown_table(self)}\n\n{self.environment.line()}\n"

    __str__ = to_markdown

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as ``.json``, ``.csv`` or ``.md``, atomically.

        Raises:
            ValueError: If the suffix is another one.
            FileNotFoundError: If the folder does not exist.
        """
        target = check_output_path(path)
        write = {".json": self.to_json, ".csv": self.to_csv, ".md": self.to_markdown}[target.suffix]
        with atomic(target) as partial:
            partial.write_text(write(), encoding="utf-8")


def bootstrap_units(rows: Sequence[WindowRow]) -> list[str]:
    """The bootstrap unit of each window: its clip, or the window itself if there is a single clip."""
    several = len({row.clip for row in rows}) > 1
    return [row.clip if several else str(i) for i, row in enumerate(rows)]
