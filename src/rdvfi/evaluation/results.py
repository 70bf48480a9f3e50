"""Results of an evaluation: values that print as tables and save as JSON, CSV or Markdown."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rdvfi._atomic import atomic
from rdvfi.evaluation.cost import Cost
from rdvfi.evaluation.intervals import Interval, paired_difference, weighted_mean
from rdvfi.evaluation.metrics.metric import Sample
from rdvfi.evaluation.written_files import check_output

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Score:
    """Means of one method over all frames that it made, by metric.

    ``ms_per_frame`` is the median over pairs of the whole time for a pair divided by its new frames; None
    where nothing was made, as for frames that lie ready.
    """

    method: str
    values: dict[str, float] = field(default_factory=dict)
    ms_per_frame: float | None = None
    failed: str | None = None
    """Why there are no values."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """95 per cent bootstrap intervals over clips; see `rdvfi.evaluation.intervals`."""
    middle: dict[str, float] = field(default_factory=dict)
    """Means over the frames in the middle between two inputs, where there is one."""
    cost: Cost | None = None
    """Time per pair and per extra frame, and memory, where they were asked for."""
    no_cost: str | None = None
    """Why there is none."""

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
        """Gradient energy of the new frames over that of the true ones: below 1 they are smoother."""
        return self._value("gradient-energy")

    def _value(self, name: str) -> float:
        if name not in self.values:
            raise KeyError(f"{self.method} has no {name}: {self.failed or 'it was not measured'}")
        return self.values[name]

    def flat(self) -> dict[str, Any]:
        """Everything in one mapping, the metrics by their own names."""
        rest = {"ms_per_frame": self.ms_per_frame, "failed": self.failed}
        cost = {} if self.cost is None else {"cost": asdict(self.cost)}
        cost |= {} if self.no_cost is None else {"no_cost": self.no_cost}
        return {
            "method": self.method,
            **self.values,
            **rest,
            "intervals": self.intervals,
            "middle": self.middle,
            **cost,
        }


@dataclass(frozen=True)
class WindowRow:
    """What was measured in one window. ``first`` is the number of its first frame in ``clip``."""

    clip: str
    first: int
    properties: dict[str, float]
    """Size of the motion and share of occluded pixels, where they were asked for."""
    samples: dict[str, dict[str, Sample]] = field(default_factory=dict)
    """By method and metric."""

    def flat(self) -> dict[str, Any]:
        """Everything, with the mean of the window by method and metric."""
        means = {
            method: {name: round(weighted_mean([sample]), 6) for name, sample in own.items()}
            for method, own in self.samples.items()
        }
        return {"clip": self.clip, "first": self.first, **self.properties, "values": means}


@dataclass(frozen=True)
class AblationLoss:
    """What a model loses when one of its parts is replaced: ``psnr_lost`` in dB."""

    method: str
    replaced: str
    psnr_lost: float
    ssim_lost: float


@dataclass(frozen=True)
class Difference:
    """How much larger the mean of ``metric`` is for ``method`` than for ``than``, on the same windows."""

    metric: str
    method: str
    than: str
    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Environment:
    """Where the figures were taken. ``commit`` ends in '+' if the code was changed since."""

    device: str
    threads: int
    torch: str
    rdvfi: str
    commit: str | None

    def line(self) -> str:
        """One line for under a table."""
        commit = "" if self.commit is None else f" ({self.commit})"
        return f"{self.device}, {self.threads} threads, torch {self.torch}, rdvfi {self.rdvfi}{commit}"


@dataclass(frozen=True)
class Report:
    """Scores of several methods on the same frames, in the same run."""

    clip: str
    """Name of the clip, or of the protocol."""
    gap: int
    size: tuple[int, int]
    """(height, width) of the frames; the last one's if there are several."""
    pairs: int
    frames: int
    """New frames that each method made."""
    skipped: int
    """Pairs left out because the scene changes between them."""
    scores: tuple[Score, ...]
    losses: tuple[AblationLoss, ...]
    environment: Environment
    sizes: int = 1
    """How many sizes of frames there are."""
    windows: tuple[WindowRow, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Metrics that could not be taken, and why."""
    conversion: str = ""
    """Of video to RGB, "ffmpeg" or "exact"."""

    def score(self, method: str) -> Score:
        """The score of one method; raises KeyError if it was not part of this evaluation."""
        for score in self.scores:
            if score.method == method:
                return score
        names = ", ".join(score.method for score in self.scores)
        raise KeyError(f"no method {method!r} in this report; it has {names}")

    def differences(self, than: str) -> tuple[Difference, ...]:
        """Paired differences of every other method to ``than``, by metric, with their intervals.

        Raises:
            KeyError: If ``than`` was not part of this evaluation.
        """
        base = self.score(than)
        others = [score for score in self.scores if score.method != than and score.failed is None]
        pairs = [(name, score.method) for score in others for name in base.values if name in score.values]
        found = (self._difference(name, method, than) for name, method in pairs)
        return tuple(difference for difference in found if difference is not None)

    def _difference(self, metric: str, method: str, than: str) -> Difference | None:
        rows = [r for r in self.windows if metric in r.samples.get(method, {}) and metric in r.samples.get(than, {})]
        if not rows:
            return None
        ours, other = ([row.samples[name][metric] for row in rows] for name in (method, than))
        return Difference(metric, method, than, *paired_difference(ours, other, unit_names(rows)))

    def title(self) -> str:
        """What was measured, in one line."""
        h, w = self.size
        size = f"{w}x{h}" if self.sizes == 1 else f"{self.sizes} sizes"
        skipped = f", {self.skipped} with a scene cut left out" if self.skipped else ""
        return f"{self.clip}: gap {self.gap}, {size}, {self.pairs} pairs, {self.frames} new frames{skipped}"

    def table(self) -> "Table":
        """The scores as a rich table, without title and environment line."""
        from rdvfi.evaluation.result_tables import score_table

        return score_table(self)

    def to_json(self) -> str:
        """Everything, as JSON."""
        best = next((score.method for score in self.scores if score.failed is None), None)
        windows = ",\n".join(f"  {json.dumps(row.flat())}" for row in self.windows)
        plain = {
            **{
                name: getattr(self, name)
                for name in ("clip", "gap", "size", "sizes", "pairs", "frames", "skipped", "conversion")
            },
            "scores": [score.flat() for score in self.scores],
            "differences": [asdict(one) for one in self.differences(best)] if best else [],
            "losses": [asdict(loss) for loss in self.losses],
            "unavailable": dict(self.unavailable),
            "environment": asdict(self.environment),
        }
        # One window a line: a film has hundreds.
        return f'{json.dumps(plain, indent=1)[:-2]},\n "windows": [\n{windows}\n ]\n}}\n'

    def to_csv(self) -> str:
        """One row per method; clip, gap and machine are repeated in each."""
        shared = {
            "clip": self.clip,
            "gap": self.gap,
            "pairs": self.pairs,
            "frames": self.frames,
            "environment": self.environment.line(),
        }
        text = io.StringIO()
        names = dict.fromkeys(name for score in self.scores for name in score.values)
        columns = ["method", *names, "ms_per_frame", "failed", *shared]
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for score in self.scores:
            writer.writerow({**score.flat(), **shared})
        return text.getvalue()

    def to_markdown(self) -> str:
        """Title, table and environment as a Markdown section."""
        from rdvfi.evaluation.result_tables import markdown_table

        return f"### {self.title()}\n\n{markdown_table(self)}\n\n{self.environment.line()}\n"

    __str__ = to_markdown

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as ``.json``, ``.csv`` or ``.md``; the file appears when it is complete.

        Raises:
            ValueError: If the suffix is none of them.
            FileNotFoundError: If the folder does not exist.
        """
        target = check_output(path)
        write = {".json": self.to_json, ".csv": self.to_csv, ".md": self.to_markdown}[target.suffix]
        with atomic(target) as partial:
            partial.write_text(write(), encoding="utf-8")


def unit_names(rows: Sequence[WindowRow]) -> list[str]:
    """What each window counts as in a bootstrap: its clip, or itself where there is one clip only."""
    several = len({row.clip for row in rows}) > 1
    return [row.clip if several else str(i) for i, row in enumerate(rows)]


def read_environment(device: torch.device) -> Environment:
    """The machine and the versions that figures are taken with."""
    import rdvfi

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return Environment(
        device=name,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        rdvfi=rdvfi.__version__,
        commit=_commit(Path(rdvfi.__file__).parent),
    )


def _commit(package: Path) -> str | None:
    """Commit of the checkout that the package runs from, or None if it runs from no checkout."""
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    revision = None if tracked is None else _git(package, "rev-parse", "--short", "HEAD")
    if revision is None:
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", ".")
    return revision + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
