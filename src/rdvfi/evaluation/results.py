"""Results of an evaluation: values that print as a table and save as JSON or CSV."""

import csv
import io
import json
import os
import subprocess
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from rich.table import Table

_OUTPUTS = (".json", ".csv")


@dataclass(frozen=True)
class Score:
    """Means of one method over all frames that it made.

    ``gradient_ratio`` is the gradient energy of the new frames over that of the true ones: below 1
    they are smoother. ``ms_per_frame`` is the median over pairs of the whole time for a pair
    divided by its new frames. The perceptual scores are there when they were asked for.
    """

    method: str
    psnr: float
    ssim: float
    gradient_ratio: float
    ms_per_frame: float
    fsim: float | None = None
    vif: float | None = None
    gmsd: float | None = None


@dataclass(frozen=True)
class AblationLoss:
    """What a model loses when one of its parts is replaced: ``psnr_lost`` in dB."""

    method: str
    replaced: str
    psnr_lost: float
    ssim_lost: float


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
    gap: int
    size: tuple[int, int]
    """(height, width) of the frames."""
    pairs: int
    frames: int
    """New frames that each method made."""
    skipped: int
    """Pairs left out because the scene changes between them."""
    scores: tuple[Score, ...]
    losses: tuple[AblationLoss, ...]
    environment: Environment

    def score(self, method: str) -> Score:
        """The score of one method.

        Raises:
            KeyError: If it was not part of this evaluation.
        """
        for score in self.scores:
            if score.method == method:
                return score
        names = ", ".join(score.method for score in self.scores)
        raise KeyError(f"no method {method!r} in this report; it has {names}")

    def title(self) -> str:
        """What was measured, in one line."""
        h, w = self.size
        skipped = f", {self.skipped} with a scene cut left out" if self.skipped else ""
        return f"{self.clip}: gap {self.gap}, {w}x{h}, {self.pairs} pairs, {self.frames} new frames{skipped}"

    def table(self) -> "Table":
        """The scores as a rich table, without title and environment line."""
        from rich.table import Table

        perceptual = any(score.fsim is not None for score in self.scores)
        names = ["PSNR dB", "SSIM", "gradient", "ms/frame"]
        names += ["FSIM", "VIF", "GMSD"] if perceptual else []
        table = Table()
        table.add_column("method")
        for name in names:
            table.add_column(name, justify="right")
        for score in self.scores:
            values = [
                f"{score.psnr:.2f}",
                f"{score.ssim:.4f}",
                f"{score.gradient_ratio:.3f}",
                f"{score.ms_per_frame:.1f}",
            ]
            if perceptual:
                extra = (score.fsim, score.vif, score.gmsd)
                values += ["" if value is None else f"{value:.4f}" for value in extra]
            table.add_row(score.method, *values)
        return table

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

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
        columns = [field.name for field in fields(Score)]
        writer = csv.DictWriter(text, [*columns, *shared], lineterminator="\n")
        writer.writeheader()
        for score in self.scores:
            writer.writerow({**asdict(score), **shared})
        return text.getvalue()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as ``.json`` or ``.csv``; the file appears when it is complete.

        Raises:
            ValueError: If the suffix is neither.
            FileNotFoundError: If the folder does not exist.
        """
        target = check_output(path)
        text = self.to_json() if target.suffix == ".json" else self.to_csv()
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_text(text)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def check_output(path: str | os.PathLike[str]) -> Path:
    """The path of a report, once it is clear that one can be written there."""
    target = Path(path)
    if target.suffix not in _OUTPUTS:
        raise ValueError(f"cannot write a report to {target}: the name must end in .json or .csv")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
    return target


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
