"""The report of a job: every pair of frames, with decisions and reasons."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from rdvfi.media.outputs.output import atomic_output


class LowConfidenceWarning(UserWarning):
    """Some pairs of frames are too different to be interpolated well."""


@dataclass(frozen=True, slots=True)
class UncertainPair:
    """Two source frames whose motion is not reliable."""

    index: int
    """Number of the first of the two."""
    start: Fraction
    """Time of the first, in seconds."""
    end: Fraction
    """Time of the second, in seconds."""
    confidence: float
    """Mean confidence of the motion, in (0, 1]."""
    reason: str
    """Why they are taken for two scenes, in one line."""


@dataclass(frozen=True, slots=True)
class PairReport:
    """What was done between two source frames."""

    index: int
    """Number of the first of the two."""
    start: Fraction
    """Time of the first, in seconds."""
    end: Fraction
    """Time of the second, in seconds."""
    new: int
    """Number of new frames between them."""
    way: str
    """How these were made: interpolated, cross-faded or held."""
    reason: str
    """Why, in one line."""
    confidence: float
    """Mean confidence of the motion, in (0, 1]."""
    content: tuple[str, ...]
    """What was handled besides motion: bars, overlay, illumination change, static pixels."""

    def to_json(self) -> dict[str, object]:
        """Plain values for JSON; times are seconds."""
        return {**asdict(self), "start": float(self.start), "end": float(self.end)}


@dataclass(frozen=True)
class VideoReport:
    """The result of a job."""

    frames_read: int
    frames_written: int
    width: int
    height: int
    seconds: float
    """Duration of the work."""
    confidence: float
    """Mean confidence of the motion over all pairs, in (0, 1]."""
    notes: tuple[str, ...]
    """Deviations from what was requested, and notes on source and model."""
    pairs: tuple[PairReport, ...] = ()
    """Every pair between which frames were made."""

    @property
    def uncertain(self) -> tuple[UncertainPair, ...]:
        """The pairs that were taken for scene changes."""
        changes = (pair for pair in self.pairs if pair.way != "interpolated")
        return tuple(UncertainPair(p.index, p.start, p.end, p.confidence, p.reason) for p in changes)

    def to_json(self) -> dict[str, object]:
        """Plain values for JSON, as ``--report`` writes them."""
        totals = {
            name: getattr(self, name)
            for name in ("frames_read", "frames_written", "width", "height", "seconds", "confidence")
        }
        ways = Counter(pair.way for pair in self.pairs)
        return {
            **totals,
            "ways": dict(ways),
            "notes": list(self.notes),
            "pairs": [pair.to_json() for pair in self.pairs],
        }

    def warning(self) -> str | None:
        """One sentence on the uncertain pairs; None if there are none."""
        uncertain = self.uncertain
        if not uncertain:
            return None
        spans = [f"{float(p.start):.2f}-{float(p.end):.2f} s" for p in uncertain[:5]]
        more = len(uncertain) - len(spans)
        return (
            f"{len(uncertain)} of {self.frames_read - 1} pairs of frames have too little in "
            f"common to be interpolated well (scene cut, or very large motion): "
            f"{', '.join(spans)}{f' and {more} more' if more else ''}"
        )


def check_report(path: Path, *, overwrite: bool) -> Path:
    """Check, before any work, that a report can be written.

    Raises:
        ValueError: If the path does not end in ``.json``.
        FileNotFoundError: If its folder does not exist.
        FileExistsError: If it exists, and ``overwrite`` is off.
    """
    if path.suffix.lower() != ".json":
        raise ValueError(f"report is {path}; it must be a .json file")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of report {path} does not exist")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; replace it with overwrite=True, or choose another name")
    return path


def write_report(path: Path, report: VideoReport) -> None:
    """Write a report as JSON; the file appears when it is complete.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n"
    try:
        with atomic_output(path) as partial:
            # File names may hold undecodable bytes; their surrogates are written as escapes of JSON.
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OSError(f"the video is complete, but its report {path} was not written: {error.strerror}") from error
