"""The timing options of a job: parsed, and applied to its source."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from rdvfi.media.reader import Source, SourceInfo
from rdvfi.media.source_parts import LoopedSource, TrimmedSource
from rdvfi.video.model_loading import DEFAULT_MULTIPLIER
from rdvfi.video.repeated_frames import DeduplicatedSource, read_dedup
from rdvfi.video.speed_curve import SpeedCurve, SpeedRamp, read_speed_curve, read_time
from rdvfi.video.timing import ListedTimes, Multiply, Resample, Retiming, choose_retiming, exact_number, exact_rate

if TYPE_CHECKING:
    from rdvfi.video.job_options import JobOptions

Number = SupportsFloat | str
"""A number of any kind, or text such as ``24000/1001``."""
Speed = SpeedCurve | str | Path | Iterable[tuple[SupportsFloat | str, SupportsFloat | str]]
"""A curve, its file, or its key points: times of the output and speeds."""


@dataclass(frozen=True)
class JobTiming:
    """The parsed timing options, which do not depend on the source."""

    rule: Retiming
    """The requested rule; with a speed curve, the rule that gives its frame rate."""
    slow: Fraction = Fraction(1)
    curve: SpeedCurve | None = None
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    loop: bool = False
    repeats: int | None = None
    """Longest run of equal frames that are replaced as repeats; None keeps all frames."""

    def apply(self, source: Source, *, keep_start: bool) -> Source:
        """The source trimmed, with its repeats marked, and looped, as requested."""
        if self.start or self.end is not None:
            source = TrimmedSource(source, self.start, self.end, keep_start=keep_start)
        if self.repeats is not None:
            source = DeduplicatedSource(source, self.repeats)
        return LoopedSource(source) if self.loop else source

    def retiming(self, info: SourceInfo) -> Retiming:
        """The rule for a source; raises ValueError if listed timestamps are outside it."""
        if isinstance(self.rule, Multiply):
            if self.curve is not None:
                return SpeedRamp(source_rate(info) * self.rule.multiplier, self.curve)
            return Multiply(self.rule.multiplier * self.slow)
        if isinstance(self.rule, Resample) and self.curve is not None:
            return SpeedRamp(self.rule.fps, self.curve)
        if isinstance(self.rule, ListedTimes):
            _check_listed(self.rule, info)
        return self.rule

    @property
    def slowdown(self) -> Fraction | None:
        """Factor by which the output is longer than the source; None if it varies."""
        return None if self.curve is not None else self.slow


def _check_listed(rule: ListedTimes, info: SourceInfo) -> None:
    begin = info.begin or 0
    end = begin + info.span + source_step(info)
    for k in (0, len(rule.times) - 1):
        if not begin <= rule.times[k] <= end:
            raise ValueError(
                f"timestamps[{k}] is {float(rule.times[k]):g} s; {info.name} goes from {float(begin):g} to "
                f"{float(end):g} s"
            )


def read_timing(options: "JobOptions") -> JobTiming:
    """The timing options of a job.

    Raises:
        ValueError: If one is unusable, or two contradict each other.
    """
    start, end, slow, multiplier = options.start, options.end, options.slow, options.multiplier
    exclusive = {"slow": slow, "speed": options.speed, "timestamps": options.timestamps, "loop": options.loop or None}
    named = [name for name, value in exclusive.items() if value is not None]
    if len(named) > 1 and named != ["slow", "loop"]:
        raise ValueError(f"give either {named[0]} or {named[1]}, not both")
    if multiplier is None and options.target_fps is None and options.timestamps is None:
        multiplier = DEFAULT_MULTIPLIER if slow is None and options.speed is None else 1
    first = Fraction(0) if start is None else read_time("start", start)
    stop = None if end is None else read_time("end", end)
    if first < 0:
        raise ValueError(f"start is {start}; it must be at least 0 s")
    if stop is not None and stop <= first:
        raise ValueError(f"end is {end}; it must be later than start, {float(first):g} s")
    factor = Fraction(1) if slow is None else exact_number("slow", slow)
    if factor <= 0:
        raise ValueError(f"slow is {slow}; it must be greater than 0")
    rule = choose_retiming(multiplier, options.target_fps, options.timestamps)
    curve = None if options.speed is None else _read_curve(options.speed)
    return JobTiming(rule, factor, curve, first, stop, options.loop, read_dedup(options.dedup))


def _read_curve(speed: Speed) -> SpeedCurve:
    if isinstance(speed, SpeedCurve):
        return speed
    if isinstance(speed, (str, Path)):
        return read_speed_curve(Path(speed))
    points = [(read_time(f"speed[{k}]", time), exact_number(f"speed[{k}]", v)) for k, (time, v) in enumerate(speed)]
    return SpeedCurve(tuple(points))


def source_step(info: SourceInfo) -> Fraction:
    """Mean seconds between the frames of a source; 1/24 if unknown."""
    return info.span / (info.frames - 1) if info.frames > 1 and info.span > 0 else Fraction(1, 24)


def source_rate(info: SourceInfo) -> Fraction:
    """Mean frames per second of a source, rounded to a common frame rate where it is close to one."""
    rate = 1 / source_step(info)
    return rate if rate.denominator in (1, 1001) else exact_rate(float(rate)).limit_denominator(1001)
