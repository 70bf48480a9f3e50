r"""Detection of repeated frames, as in animation on twos, capture stutter and telecine.

Interpolating between two copies of a picture gives a pause, followed by motion at twice the speed. Therefore repeats
are skipped and replaced by new frames between the pictures on both sides; number and times of the output frames do not
change.

*Change.* The change ``s_i`` between neighbouring frames is the mean of the largest half per cent of
``|G * (Y_i - Y_{i-1})|``, with Y the brightness at a reduced size and G a Gaussian: noise and codec artefacts are
smoothed, but a moving mouth is not averaged with static surroundings.

*Two clusters.* Where a video repeats pictures, ``log(s + 1)`` has two clusters in the frames around, one of noise and
one of motion, separated by Otsu's threshold (1979). The separation counts if the distance of the clusters is large
compared with their spreads. Criteria are stricter where small changes are rare: one in ten may be the turning point of
a motion.

*Runs.* A repeat is short: a picture is shown at most ``longest`` times, between two changes that are clearly larger
and not small compared with other changes around. At an end of the video one of these is missing, and there must be
repeats elsewhere. A static shot is a long run, and a motion that turns slows down gradually; neither is a repeat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, SupportsFloat

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float

from rdvfi.media.pixels import Pixels, to_picture
from rdvfi.media.reader import Source, SourceFrame
from rdvfi.media.timestamps import Stamp

_WIDTH = 320
"""Longer side, in pixels, at which frames are compared."""
_SIGMA = 1.5
_PIXELS_PER_SAMPLE = 200
"""The mean is over one in so many pixels: those with the largest change."""
_NOISE_FLOOR = 1.0
"""Grey levels, added before the logarithm, so that rounding does not count."""
_CONTEXT = 30
"""Number of frames on either side from which the clusters are determined."""
_COMMON_SHARE = 0.15
"""Share of small changes in the context below which they may be chance, and stricter criteria apply."""


class _Criteria(NamedTuple):
    """Criteria for a repeat."""

    separation: float
    """Least distance of the two clusters, in units of their spreads."""
    ratio: float
    """Its change is less than this share of the smaller change at the ends of its run."""
    typical: float
    """The changes at the ends of its run are at least this share of the motion in the context."""


_COMMON, _RARE = _Criteria(1.5, 0.55, 0.25), _Criteria(2.5, 0.35, 0.6)
_MIN_MOTION = 3.0
"""Least change by motion in grey levels; codecs change static pictures by less."""
LONGEST = 4
"""Default of the largest number of times that a picture is shown."""
_MAX_LONGEST = 1000
_CYCLE, _MIN_CYCLES, _MIN_AGREEMENT = 5, 4, 0.8
"""Telecine: frames in a cycle, least number of cycles, and least share of cycles that agree."""


def brightness(pixels: Pixels) -> Float[np.ndarray, "h w"]:
    """The brightness of a frame at a reduced size, in 8-bit grey levels."""
    picture = np.ascontiguousarray(to_picture(pixels)[..., :3])
    height, width = picture.shape[:2]
    factor = _WIDTH / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)


def change(before: Float[np.ndarray, "h w"], after: Float[np.ndarray, "h w"]) -> float:
    """The change between two frames, in grey levels: a mean over the pixels with the largest one."""
    smooth = np.abs(cv2.GaussianBlur(after - before, (0, 0), _SIGMA)).ravel()
    count = max(1, len(smooth) // _PIXELS_PER_SAMPLE)
    return float(np.partition(smooth, -count)[-count:].mean())


def find_repeats(changes: Sequence[float], longest: int = LONGEST) -> list[bool]:
    """Which frames repeat the previous one.

    Args:
        changes: Change of every frame but the first from the previous one.
        longest: Largest number of times that a picture is shown; longer runs are not repeats.

    Returns:
        One value per frame, the first included.
    """
    s = np.asarray(changes, dtype=np.float64)
    repeated, edge_runs = np.zeros(len(s) + 1, bool), []
    is_small, motion, criteria = _classify_changes(s)
    for begin, end in _true_runs(is_small):
        adjacent = min((s[k] for k in (begin - 1, end) if 0 <= k < len(s)), default=0.0)
        rule, is_inside = criteria[begin], begin > 0 and end < len(s)
        least = max(_MIN_MOTION, rule.typical * motion[begin])
        if end - begin < longest and adjacent >= least and s[begin:end].max() < rule.ratio * adjacent:
            repeated[begin + 1 : end + 1] = is_inside
            edge_runs += [] if is_inside else [(begin, end)]
    for begin, end in edge_runs if repeated.any() else ():
        repeated[begin + 1 : end + 1] = True
    return repeated.tolist()


def _classify_changes(
    s: Float[np.ndarray, " n"],
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"], list[_Criteria]]:
    """Whether each change is small in its context, the mean motion there, and the criteria that apply."""
    is_small, motion, criteria = np.zeros(len(s), bool), np.zeros(len(s)), []
    logs = np.log(s + _NOISE_FLOOR)
    for i in range(len(s)):
        context = logs[max(0, i - _CONTEXT) : i + _CONTEXT + 1]
        threshold, separation, upper = _otsu_threshold(context)
        criteria.append(_COMMON if (context < threshold).mean() >= _COMMON_SHARE else _RARE)
        is_small[i] = separation >= criteria[i].separation and logs[i] < threshold
        motion[i] = np.exp(upper) - _NOISE_FLOOR
    return is_small, motion, criteria


def is_telecine(repeated: Sequence[bool]) -> bool:
    """Whether frames repeat in cycles of five, as where 24 pictures per second are shown as 30 or 60 frames.

    The same one or three frames of each cycle must be repeats, in at least four cycles.
    """
    cycles = np.array(repeated[: len(repeated) // _CYCLE * _CYCLE], bool).reshape(-1, _CYCLE)
    shares = cycles.mean(0) if len(cycles) >= _MIN_CYCLES else np.full(_CYCLE, 0.5)
    always, never = shares > _MIN_AGREEMENT, shares < 1 - _MIN_AGREEMENT
    return int(always.sum()) in (1, 3) and bool((always | never).all())


def _otsu_threshold(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Otsu's threshold, the distance of the clusters in units of their spreads, and the mean of the upper one."""
    x, n = np.sort(values), len(values)
    if n < 4:
        return -np.inf, 0.0, 0.0
    total, k = np.cumsum(x), np.arange(1, n)
    lower, upper = total[:-1] / k, (total[-1] - total[:-1]) / (n - k)
    j = int(np.argmax(k * (n - k) * (upper - lower) ** 2))
    spread = x[: j + 1].std() + x[j + 1 :].std() + 0.12
    return (x[j] + x[j + 1]) / 2, (upper[j] - lower[j]) / spread, float(upper[j])


def _true_runs(values: Bool[np.ndarray, " n"]) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], values.astype(np.int8), [0]))))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


class DeduplicatedSource(Source):
    """A source whose repeats are marked; it is read once to find them.

    Args:
        source: The frames.
        longest: Largest number of times that a repeated picture is shown.

    Raises:
        ValueError: If the source can be read only once.
    """

    def __init__(self, source: Source, longest: int) -> None:
        if not source.repeatable:
            raise ValueError(f"dedup looks through the source first, and {source.info.name} can be read once only")
        self._source = source
        times, changes = [], []
        previous: np.ndarray | None = None
        for frame in source.frames():
            current = brightness(frame.pixels)
            if previous is not None:
                changes.append(change(previous, current))
            times.append(frame.stamp.time)
            previous = current
        repeated = find_repeats(changes, longest)
        self.repeats = frozenset(time for time, is_repeat in zip(times, repeated, strict=False) if is_repeat)
        """Times of the repeats, in seconds."""
        count = f"{len(self.repeats)} of {len(times)} frames repeat the one before: new frames take their places"
        self._own_notes = [count if self.repeats else "no frame repeats the one before"]
        if is_telecine(repeated):
            self._own_notes.append(
                f"the repeats of {source.info.name} are those of telecine: its pictures keep the uneven times at which "
                "they are shown; for even motion take the repeats out first, with FFmpeg's filter decimate"
            )
        self.info = replace(source.info, notes=(*source.info.notes, *self._own_notes))

    @property
    def seekable(self) -> bool:
        return self._source.seekable

    def stamps(self) -> list[Stamp] | None:
        """See `Source.stamps`; repeats are marked."""
        stamps = self._source.stamps()
        return stamps and [stamp._replace(repeat=stamp.time in self.repeats) for stamp in stamps]

    def notes(self) -> list[str]:
        return [*self._source.notes(), *self._own_notes]

    def use_device(self, device: torch.device) -> None:
        self._source.use_device(device)

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """See `Source.frames`; repeats are marked."""
        for frame in self._source.frames(since):
            time, duration, _ = frame.stamp
            yield frame.with_stamp(Stamp(time, duration, time in self.repeats))


def read_dedup(given: SupportsFloat | str) -> int | None:
    """The largest number of times that a repeated picture is shown, from ``auto`` or an integer; None for ``off``.

    Raises:
        ValueError: If it is anything else.
    """
    if given in ("off", "auto"):
        return None if given == "off" else LONGEST
    try:
        longest = int(str(given))
    except ValueError:
        longest = 0
    if not 2 <= longest <= _MAX_LONGEST:
        raise ValueError(
            f"dedup is {given!r}; it must be off, auto, or the most times that a picture is shown, from 2 to "
            f"{_MAX_LONGEST}"
        )
    return longest
