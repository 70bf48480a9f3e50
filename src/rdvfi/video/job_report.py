"""The report of a job: every pair, with decisions and reasons."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from rdvfi.media.outputs.output import atomic_output


class LowConfidenceWarning(UserWarning):
    """Some pairs of frames have too little in common to be interpolated well."""


@dataclass(frozen=True, slots=True)
class UncertainPair:
    """Two source frames between which the motion is not to be trusted."""

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
    """New frames between them."""
    way: str
    """What these are: interpolated, cross-faded or held."""
    reason: str
    """Why, in one line."""
    confidence: float
    """Mean confidence of the motion, in (0, 1]."""
    content: tuple[str, ...]
    """What was taken care of beside motion: bars, overlay, light, static pixels."""

    def to_json(self) -> dict[str, object]:
        """Plain values; times are seconds."""
        return {**asdict(self), "start": float(self.start), "end": float(self.end)}


@dataclass(frozen=True)
class VideoReport:
    """What was done."""

    frames_read: int
    frames_written: int
    width: int
    height: int
    seconds: float
    """Time that the work took."""
    confidence: float
    """Mean confidence of the motion over all pairs, in (0, 1]."""
    uncertain: tuple[UncertainPair, ...]
    """The pairs that were taken for scene changes."""
    notes: tuple[str, ...]
    """What had to be done differently than asked, and parts that were trained apart."""
    pairs: tuple[PairReport, ...] = ()
    """Every pair between which frames were made."""

    def to_json(self) -> dict[str, object]:
        """Plain values, as ``--report`` writes them."""
        whole = {
            name: getattr(self, name)
            for name in ("frames_read", "frames_written", "width", "height", "seconds", "confidence")
        }
        ways = Counter(pair.way for pair in self.pairs)
        return {
            **whole,
            "ways": dict(ways),
            "notes": list(self.notes),
            "pairs": [pair.to_json() for pair in self.pairs],
        }

    def warning(self) -> str | None:
        """One sentence on the pairs of low confidence, if there are any."""
        if not self.uncertain:
            return None
        spans = [f"{float(p.start):.2f}-{float(p.end):.2f} s" for p in self.uncertain[:5]]
        more = len(self.uncertain) - len(spans)
        return (
            f"{len(self.uncertain)} of {self.frames_read - 1} pairs of frames have too little in "
            f"common to be interpolated well (scene cut, or very large motion): "
            f"{', '.join(spans)}{f' and {more} more' if more else ''}"
        )


def check_report(path: Path, *, overwrite: bool) -> Path:
    """Refuse, before any work, a place where no report can be written.

    Raises:
        ValueError: If it is no ``.json`` file.
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
    """Write a report as JSON; the file appears when it is whole.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n"
    try:
        with atomic_output(path) as partial:
            # Names of files may be bytes that are no text; what stands for them is an escape of JSON too.
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OSError(f"the video is complete, but its report {path} was not written: {error.strerror}") from error
