"""Timing options of a job, validated before any work."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from rdvfi.media.reader import Source, SourceInfo
from rdvfi.media.source_parts import LoopedSource, TrimmedSource
from rdvfi.video.ready import DEFAULT_MULTIPLIER
from rdvfi.video.repeats import Deduplicated, read_dedup
from rdvfi.video.speed_curve import Ramped, SpeedCurve, read_speed_curve, read_time
from rdvfi.video.timing import Listed, Multiply, Resample, Retiming, choose_retiming, exact_number, exact_rate

if TYPE_CHECKING:
    from rdvfi.video.job_options import JobOptions

Number = SupportsFloat | str
"""A number of any kind, or text such as ``24000/1001``."""
Speed = SpeedCurve | str | Path | Iterable[tuple[SupportsFloat | str, SupportsFloat | str]]
"""A curve, its file, or its key points: times of the output and speeds."""


@dataclass(frozen=True)
class JobTiming:
    """When output frames are shown, as far as it can be told without the source."""

    rule: Retiming
    """As asked; with a curve, the rule that gives its rate."""
    slow: Fraction = Fraction(1)
    curve: SpeedCurve | None = None
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    loop: bool = False
    repeats: int | None = None
    """Showings of one picture up to which they are repeats; None if all frames are pictures of their own."""

    def part(self, source: Source, *, keep_start: bool) -> Source:
        """The part of the source that is used."""
        if self.start or self.end is not None:
            source = TrimmedSource(source, self.start, self.end, keep_start=keep_start)
        if self.repeats is not None:
            source = Deduplicated(source, self.repeats)
        return LoopedSource(source) if self.loop else source

    def retiming(self, info: SourceInfo) -> Retiming:
        """The rule for a source; raises ValueError if timestamps are asked for that it does not have."""
        if isinstance(self.rule, Multiply):
            if self.curve is not None:
                return Ramped(source_rate(info) * self.rule.multiplier, self.curve)
            return Multiply(self.rule.multiplier * self.slow)
        if isinstance(self.rule, Resample) and self.curve is not None:
            return Ramped(self.rule.fps, self.curve)
        if isinstance(self.rule, Listed):
            self._check_listed(self.rule, info)
        return self.rule

    def _check_listed(self, rule: Listed, info: SourceInfo) -> None:
        end = info.span + source_step(info)
        for k in (0, len(rule.times) - 1):
            if not (info.begin or 0) <= rule.times[k] <= (info.begin or 0) + end:
                raise ValueError(
                    f"timestamps[{k}] is {float(rule.times[k]):g} s; {info.name} goes from "
                    f"{float(info.begin or 0):g} to {float(end):g} s"
                )

    @property
    def pace(self) -> Fraction | None:
        """How many times longer the output runs; None if that varies."""
        return None if self.curve is not None else self.slow


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
    """Mean seconds between two frames of a source."""
    return info.span / (info.frames - 1) if info.frames > 1 and info.span > 0 else Fraction(1, 24)


def source_rate(info: SourceInfo) -> Fraction:
    """Frames per second of a source: its own fraction, or the usual one that it rounds to."""
    rate = 1 / source_step(info)
    return rate if rate.denominator in (1, 1001) else exact_rate(float(rate)).limit_denominator(1001)
