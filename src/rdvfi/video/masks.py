"""Masks of static pixels of a film: given as an image, or detected.

Detected are overlays: what stands still in front of what moves (`rdvfi.video.overlay_evidence`). One pair of frames
shows too little of that near the centre of a zoom, or in slow motion. So evidence is collected between frames at
several distances, in up to `REACH` pairs before and after the pair in question, and counts where the pixel stays
equal from there to the pair. An overlay is continued over what is as stable beside it and not flat: a flat background
of it need not be held. What is held in a pair follows from the frames around it alone: it is the same in a run that was
resumed, divided into segments of any length, or given to several workers.

Ground that stands still while something passes is no overlay, and is not held: what passes is drawn.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from rdvfi.media.image_files.images import read_image
from rdvfi.media.pixels import Picture, Pixels, composite, to_picture
from rdvfi.media.reader import SourceFrame, SourceInfo
from rdvfi.video.overlay_evidence import EQUAL, Evidence, SmallFrame
from rdvfi.video.reel import ReelStep

REACH = 16
"""Pairs before and after a pair in which evidence is looked for, of frames that are not very large."""
_AHEAD_BYTES = 2**28
"""Frames that are read ahead: about this many bytes."""
_DISTANCES = ((1, 1), (4, 2), (16, 4))
"""Frames are compared that are so far from each other, beginning with every so many."""
_EQUAL = 6
"""Grey levels that a codec may leave between two frames of what stands still."""
_STABLE = 3
"""Successive pairs, one of which is the pair in question, in which a pixel has to be equal."""
_AROUND = 8
"""Pairs before or after a pair in which an overlay has to be stable where it is continued, as far as there are."""
_FLAT, _STEADY = 4, 3
"""Grey levels in a 3x3 window that are flat; how many times more than it varies something static differs from what is
beside it, or from what motion would have made of it."""
_GROW, _GROWTHS = 5, 4
"""An overlay is continued so often, by half of this, at the reduced size."""
_GAP = 7
"""Pixels, at the reduced size, that may be missing of an outline."""
_SOLID, _LARGEST = 0.9, 0.25
"""Share of the inside of an outline that has to be stable, and of the picture that it is at most, to be held whole."""

Found = Bool[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two neighbouring frames of a run, reduced: the end of one pair is the begin of the next."""

    begin: SmallFrame
    end: SmallFrame
    index: int
    before: int | None
    """Index of the pair before; None for the first one of a run."""

    def starts(self, every: int) -> bool:
        """Whether frames are compared from here on; it does not depend on where reading began."""
        return self.before is None or self.index // every != self.before // every


def reach_of(info: SourceInfo) -> int:
    """Pairs before and after a pair in which evidence is looked for."""
    each = 3 * info.width * info.height * (2 if info.layout.deep else 1)
    return min(REACH, max(_STABLE, _AHEAD_BYTES // each))


class StaticPixels:
    """Goes along some steps, and tells the static pixels of each.

    Args:
        reach: Pairs before and after a pair in which evidence is looked for.
        inside: The part of a frame in which overlays are looked for.
    """

    def __init__(self, reach: int, inside: Callable[[Pixels], Pixels]) -> None:
        self._reach, self._inside = reach, inside
        self._pairs: deque[_Pair | None] = deque(maxlen=2 * reach + 1)
        self._steps: deque[ReelStep] = deque(maxlen=reach + _STABLE)  # whole frames are held no longer than needed
        self._ends: tuple[SourceFrame | None, SourceFrame | None] = None, None

    def along(self, steps: Iterator[ReelStep]) -> Iterator[ReelStep]:
        """The steps, forwards or backwards, each when those after it are read; `ReelStep.static` is set."""
        ahead = 0
        for step in steps:
            self._pairs.append(self._continued(step))
            self._steps.append(step)
            ahead += 1
            if ahead > self._reach:
                yield self._told(ahead)
                ahead -= 1
        for left in range(ahead, 0, -1):
            yield self._told(left)

    def _continued(self, step: ReelStep) -> _Pair | None:
        """The pair of a step; None if there is nothing between its frames."""
        before, ends = self._pairs[-1] if self._pairs else None, (step.first, step.last)
        begin, end = self._ends
        self._ends = ends
        if step.last is None or step.gap:
            return None
        if before is not None and before.before is None and begin in ends:  # the run goes backwards
            before = self._pairs[-1] = replace(before, begin=before.end, end=before.begin)
            end = begin
        if before is None or end not in ends:
            return _Pair(self._small(step.first), self._small(step.last), step.interval.index, None)
        self._ends = ends if end is step.first else (step.last, step.first)
        return _Pair(before.end, self._small(self._ends[1]), step.interval.index, before.index)

    def _small(self, frame: SourceFrame | None) -> SmallFrame:
        assert frame is not None
        return SmallFrame.of(to_picture(self._inside(frame.pixels)))

    def _told(self, ahead: int) -> ReelStep:
        """The step of which ``ahead`` - 1 more are read."""
        pairs, steps = list(self._pairs), list(self._steps)
        here, place = len(pairs) - ahead, len(steps) - ahead
        behind = here
        while behind > max(0, here - self._reach) and (pair := pairs[behind]) is not None and pair.before is not None:
            behind -= 1
        run = [*pairs[behind : here + 1], *takewhile(lambda pair: pair and pair.before is not None, pairs[here + 1 :])]
        window = [pair for pair in run if pair is not None]
        if not window:
            return steps[place]
        before, after = here - behind, len(window) - 1 - (here - behind)
        near = steps[place - min(before, _STABLE - 1) : place + min(after, _STABLE - 1) + 1]
        found = _PairsAround(window, before, after < self._reach, steps[place], near, self._inside)
        return replace(steps[place], static=found.find)


@dataclass(frozen=True, eq=False)
class _PairsAround:
    """A pair and those around it."""

    pairs: list[_Pair]
    here: int
    ends: bool
    """Whether the run ends with the last of these pairs."""
    step: ReelStep
    near: list[ReelStep]
    """It and those beside it, with their whole frames."""
    inside: Callable[[Pixels], Pixels]

    def find(self) -> Found | None:
        """Where pixels of the pair are those of an overlay; None if nowhere."""
        spans = list(self._spans())
        if not spans:
            return None
        varies = _Variation(self.frames, self.here)
        found = np.any([_held(varies(begin, end), seen) for begin, end, seen in spans], axis=0).astype(np.uint8)
        if not found.any():
            return None
        around = [varies(*self._span(begin)) for begin in (self.here - _AROUND, self.here)]
        contrast = np.maximum(_contrast(self.frames[self.here].picture), _FLAT) - _FLAT
        beside = np.any([_held(each, contrast) for each in around], axis=0).astype(np.uint8)
        for _ in range(_GROWTHS):
            found |= cv2.dilate(found, np.ones((_GROW, _GROW), np.uint8)) & beside
        found = _closed(found, (np.minimum(*around) <= EQUAL).astype(np.uint8))
        stable = self._stable()
        found = cv2.resize(cv2.dilate(found, np.ones((3, 3), np.uint8)), stable.shape[::-1]) & stable
        return found > 0 if found.any() else None

    @property
    def frames(self) -> list[SmallFrame]:
        """All frames of the pairs."""
        return [self.pairs[0].begin, *(pair.end for pair in self.pairs)]

    def _span(self, begin: int) -> tuple[int, int]:
        """Frames of `_AROUND` pairs more than one, from there on as far as there are so many."""
        begin = max(0, min(begin, len(self.pairs) - _AROUND - 1))
        return begin, min(begin + _AROUND + 1, len(self.pairs))

    def _spans(self) -> Iterator[tuple[int, int, Evidence]]:
        """Begin and end of the spans that hold evidence, and that."""
        frames = self.frames
        final = len(frames) - 1
        for distance, every in _DISTANCES:
            for begin, pair in enumerate(self.pairs):
                end = min(begin + distance, final) if self.ends else begin + distance
                if end <= final and pair.starts(every):
                    seen = frames[begin].until(frames[end], end - begin)
                    if seen is not None:
                        yield begin, end, seen

    def _stable(self) -> UInt8[np.ndarray, "H W"]:
        """1 where the pair, and enough of those beside it, are equal."""
        equal, here = [self._equal(step) for step in self.near], self.near.index(self.step)
        most = min(_STABLE, len(equal))
        runs = (equal[k : k + most] for k in range(len(equal) - most + 1) if k <= here < k + most)
        return np.any([np.all(run, axis=0) for run in runs], axis=0).astype(np.uint8)

    def _equal(self, step: ReelStep) -> Found:
        assert step.last is not None
        first, last = (self.inside(composite(frame.pixels)) for frame in (step.first, step.last))
        most = _EQUAL * (257 if first.dtype == np.uint16 else 1)
        return cv2.inRange(cv2.absdiff(first, last), (0, 0, 0), (most, most, most)) > 0


def _held(varies: UInt8[np.ndarray, "h w"], differs: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where something varies little, and much less than it differs."""
    return (varies <= EQUAL) & (differs > 0) & (varies <= differs // _STEADY)


class _Variation:
    """Grey levels by which each pixel varies around a pair, in its worst channel.

    Args:
        frames: Those around.
        here: Number of the first frame of the pair.
    """

    def __init__(self, frames: Sequence[SmallFrame], here: int) -> None:
        self._here, self._known = here, {}
        pictures = [frame.picture for frame in frames]
        self._before = _limits(pictures[here::-1])
        self._after = _limits(pictures[here + 1 :])

    def __call__(self, begin: int, end: int) -> UInt8[np.ndarray, "h w"]:
        """From one frame to another, and from there to the pair."""
        span = max(self._here - begin, 0), max(end - self._here - 1, 0)
        if span not in self._known:
            (low0, high0), (low1, high1) = self._before[span[0]], self._after[span[1]]
            self._known[span] = _worst(cv2.subtract(cv2.max(high0, high1), cv2.min(low0, low1)))
        return self._known[span]


def _limits(pictures: Sequence[Picture]) -> list[tuple[Picture, Picture]]:
    """The least and the largest values up to every picture."""
    limits = [(pictures[0], pictures[0])]
    for picture in pictures[1:]:
        low, high = limits[-1]
        limits.append((cv2.min(low, picture), cv2.max(high, picture)))
    return limits


def _worst(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    """The largest channel."""
    red, green, blue = cv2.split(picture)
    return cv2.max(cv2.max(red, green), blue)


def _contrast(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    """Grey levels between neighbours."""
    window = np.ones((3, 3), np.uint8)
    return _worst(cv2.subtract(cv2.dilate(picture, window), cv2.erode(picture, window)))


def _closed(found: UInt8[np.ndarray, "h w"], stable: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """With the inside of its outlines, where that is stable as well: a flat box, and not what is seen in a frame."""
    without_gaps = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8))
    outlines, _ = cv2.findContours(without_gaps, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    closed = found.copy()
    for outline in outlines:
        inside = cv2.drawContours(np.zeros_like(found), [outline], 0, 1, cv2.FILLED)
        if _SOLID * inside.sum() <= (inside & stable).sum() and inside.sum() <= _LARGEST * found.size:
            closed |= inside
    return closed & stable


def read_mask(path: Path, info: SourceInfo) -> Bool[np.ndarray, "H W"]:
    """A picture as a mask: where it is brighter than half, pixels stand still.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no picture, or of another size than the film.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"mask is {path}, which {what}; expected auto, or an image of the film's size")
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    if (height, width) != (info.height, info.width):
        raise ValueError(
            f"mask {path} is {width}x{height} pixels; the frames of {info.name} are {info.width}x{info.height}"
        )
    return np.asarray(pixels[..., :3].max(axis=2) > np.iinfo(pixels.dtype).max // 2)
