"""What was done to a clip."""

from dataclasses import dataclass
from fractions import Fraction


class LowConfidenceWarning(UserWarning):
    """Some pairs of frames have too little in common to be interpolated well."""


@dataclass(frozen=True)
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
