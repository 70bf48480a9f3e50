r"""Detection of repeated frames, as in animation on twos, capture stutter and telecine.

Interpolating between two showings of one picture gives stillness, and twice the speed afterwards. So
repeats are passed over, and new frames between the pictures on both sides take their places; count and
times of the output stay as they are.

*Change.* InterpolatedPair neighbouring frames ``s_i`` is the mean of the largest half per cent of
``|G * (Y_i - Y_{i-1})|``, with Y the brightness at a reduced size and G a Gaussian: noise and what a
codec leaves are smoothed away, a mouth that moves is not averaged away by what stands still.

*Two kinds of change.* Where a film repeats pictures, ``log(s + 1)`` has two clusters in the frames
around, one of noise alone and one of motion; Otsu's threshold (1979) divides them. The division counts
if the clusters are far enough from each other, in their spreads, and the rarer small changes are the more is
asked: one in ten may be the turning point of a motion.

*Runs.* A repeat is short: at most ``longest`` showings in all, between two changes that are clearly
larger and not small for what changes around; at an end of the film one of them is missing, and there has to be a repeat
elsewhere. A shot that stands still is a long run, a motion that slows
down and turns comes to rest by degrees; neither is taken for repeats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, SupportsFloat

import cv2
import numpy as np
import torch
from jaxtyping import Float

from rdvfi.media.pixels import Pixels, to_picture
from rdvfi.media.reader import Source, SourceFrame
from rdvfi.media.timestamps import Stamp

_WIDTH = 320
"""Pixels of the longer side at which frames are compared."""
_SIGMA = 1.5
_LARGEST = 200
"""One in so many pixels counts: those that change most."""
_FLOOR = 1.0
"""Grey levels, added before the logarithm: rounding is no motion."""
_AROUND = 30
"""Frames to either side that say what is usual."""
_FEW = 0.15
"""Share of small changes around, below which they may be chance, and more is asked of each."""


class _Asked(NamedTuple):
    """What is asked of a repeat."""

    apart: float
    """Distance of the two clusters, in their spreads."""
    ratio: float
    """Its change is less than this share of the smaller change beside its run."""
    usual: float
    """The changes beside its run are at least this share of what motion is around."""


_OFTEN, _SELDOM = _Asked(1.5, 0.55, 0.25), _Asked(2.5, 0.35, 0.6)
_LEAST = 3.0
"""Grey levels by which motion changes a film: less is what a codec does to a still one."""
LONGEST = 4
"""Showings of one picture, by default, up to which they are repeats."""
_MOST = 1000
_CYCLE, _CYCLES, _ALWAYS = 5, 4, 0.8
"""Frames of a cycle of telecine, cycles that are needed to tell, and the share of them that has to agree."""


def brightness(pixels: Pixels) -> Float[np.ndarray, "h w"]:
    """Brightness of a frame at a reduced size, in grey levels of 8 bits."""
    picture = np.ascontiguousarray(to_picture(pixels)[..., :3])
    height, width = picture.shape[:2]
    factor = _WIDTH / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)


def change(before: Float[np.ndarray, "h w"], after: Float[np.ndarray, "h w"]) -> float:
    """How much one frame differs from the one before, where it differs most, in grey levels."""
    smooth = np.abs(cv2.GaussianBlur(after - before, (0, 0), _SIGMA)).ravel()
    count = max(1, len(smooth) // _LARGEST)
    return float(np.partition(smooth, -count)[-count:].mean())


def find_repeats(changes: Sequence[float], longest: int = LONGEST) -> list[bool]:
    """Which frames repeat the one before.

    Args:
        changes: Of every frame but the first, from the frame before.
        longest: Showings of one picture up to which they are repeats.

    Returns:
        One value per frame, the first included.
    """
    s = np.asarray(changes, dtype=np.float64)
    found, low, motion, edges = np.zeros(len(s) + 1, bool), np.zeros(len(s), bool), np.zeros(len(s)), []
    asked, logs = [_OFTEN] * len(s), np.log(s + _FLOOR)
    for i in range(len(s)):
        around = logs[max(0, i - _AROUND) : i + _AROUND + 1]
        threshold, apart, upper = _divided(around)
        asked[i] = _OFTEN if (around < threshold).mean() >= _FEW else _SELDOM
        low[i], motion[i] = apart >= asked[i].apart and logs[i] < threshold, np.exp(upper) - _FLOOR
    for begin, end in _runs(low):
        beside = min((s[k] for k in (begin - 1, end) if 0 <= k < len(s)), default=0.0)
        rule, inside = asked[begin], begin > 0 and end < len(s)
        least = max(_LEAST, rule.usual * motion[begin])
        if end - begin < longest and beside >= least and s[begin:end].max() < rule.ratio * beside:
            found[begin + 1 : end + 1] = inside
            edges += [] if inside else [(begin, end)]
    for begin, end in edges if found.any() else ():  # at an end of the film, as elsewhere in it
        found[begin + 1 : end + 1] = True
    return found.tolist()


def is_telecine(repeated: Sequence[bool]) -> bool:
    """Whether frames repeat as where 24 pictures a second are shown as 30 or 60 frames: in cycles of five.

    In each cycle the same one is a repeat, or the same three; four cycles are needed to tell.
    """
    cycles = np.array(repeated[: len(repeated) // _CYCLE * _CYCLE], bool).reshape(-1, _CYCLE)
    shares = cycles.mean(0) if len(cycles) >= _CYCLES else np.full(_CYCLE, 0.5)
    always, never = shares > _ALWAYS, shares < 1 - _ALWAYS
    return int(always.sum()) in (1, 3) and bool((always | never).all())


def _divided(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Otsu's threshold, how far apart the two clusters are in spreads, and the mean of the upper one."""
    x, n = np.sort(values), len(values)
    if n < 4:
        return -np.inf, 0.0, 0.0
    total, k = np.cumsum(x), np.arange(1, n)
    lower, upper = total[:-1] / k, (total[-1] - total[:-1]) / (n - k)
    j = int(np.argmax(k * (n - k) * (upper - lower) ** 2))
    spread = x[: j + 1].std() + x[j + 1 :].std() + 0.12
    return (x[j] + x[j + 1]) / 2, (upper[j] - lower[j]) / spread, float(upper[j])


def _runs(marked: np.ndarray) -> Iterator[tuple[int, int]]:
    """Begin and end of every run of marked entries."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], marked.astype(np.int8), [0]))))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


class DeduplicatedSource(Source):
    """A source whose repeats are marked; it is looked through once for them.

    Args:
        source: The frames.
        longest: Showings of one picture up to which they are repeats.

    Raises:
        ValueError: If the source can be read once only.
    """

    def __init__(self, source: Source, longest: int) -> None:
        if not source.repeatable:
            raise ValueError(f"dedup looks through the source first, and {source.info.name} can be read once only")
        self._source = source
        times, changes = [], []
        before: np.ndarray | None = None
        for frame in source.frames():
            now = brightness(frame.pixels)
            if before is not None:
                changes.append(change(before, now))
            times.append(frame.stamp.time)
            before = now
        repeated = find_repeats(changes, longest)
        self.repeats = frozenset(time for time, again in zip(times, repeated, strict=False) if again)
        """When pictures are shown once more, in seconds."""
        found = f"{len(self.repeats)} of {len(times)} frames repeat the one before: new frames take their places"
        notes = [*source.info.notes, found if self.repeats else "no frame repeats the one before"]
        if is_telecine(repeated):
            notes.append(
                f"the repeats of {source.info.name} are those of telecine: its pictures keep the uneven times at which "
                "they are shown; for even motion take the repeats out first, with FFmpeg's filter decimate"
            )
        self.info = replace(source.info, notes=tuple(notes))

    @property
    def seekable(self) -> bool:
        return self._source.seekable

    def stamps(self) -> list[Stamp] | None:
        """See `Source.stamps`; what is repeated is marked."""
        known = self._source.stamps()
        return known and [stamp._replace(repeat=stamp.time in self.repeats) for stamp in known]

    def notes(self) -> list[str]:
        own = self.info.notes[len(self._source.info.notes) :]
        return [*self._source.notes(), *own]

    def use_device(self, device: torch.device) -> None:
        self._source.use_device(device)

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """See `Source.frames`; what is repeated is marked."""
        for frame in self._source.frames(since):
            time, duration, _ = frame.stamp
            yield frame.with_stamp(Stamp(time, duration, time in self.repeats))


def read_dedup(given: SupportsFloat | str) -> int | None:
    """The longest run of showings that are repeats: ``auto``, or a whole number; None for ``off``.

    Raises:
        ValueError: If it is something else.
    """
    if given in ("off", "auto"):
        return None if given == "off" else LONGEST
    try:
        longest = int(str(given))
    except ValueError:
        longest = 0
    if not 2 <= longest <= _MOST:
        raise ValueError(
            f"dedup is {given!r}; it must be off, auto, or the most times that a picture is shown, from 2 to {_MOST}"
        )
    return longest
