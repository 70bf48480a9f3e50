"""Masks of static pixels: read from an image, or detected.

Detected are overlays: pixels that are static in front of a moving picture (`rdvfi.video.overlay_evidence`). One pair of
frames shows too little of that near the centre of a zoom, or in slow motion. Therefore evidence is collected between
frames at several distances, in up to `REACH` pairs before and after a pair, and counts where the pixel is equal from
there to the pair. An overlay grows over adjacent pixels that are as stable and not flat; its flat background need not
be held. The mask of a pair depends only on the frames around it: it is the same in a run that was resumed, divided into
segments of any length, or distributed over workers.

Static ground in front of which something passes is not an overlay, and not held: what passes is rendered.
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
from rdvfi.video.pair_interpolation import StaticMask
from rdvfi.video.playback import PlaybackStep

REACH = 16
"""Number of pairs before and after a pair in which evidence is collected, unless frames are very large."""
_LOOKAHEAD_BYTES = 2**28
"""About how many bytes of frames are read ahead."""
_DISTANCES = ((1, 1), (4, 2), (16, 4))
"""Distances of the frames that are compared, and the steps between the first frames of the comparisons."""
_CODEC_NOISE = 6
"""Grey levels by which two frames of static content may differ."""
_STABLE_PAIRS = 3
"""Number of successive pairs, the current one among them, in which a pixel must be equal."""
_GROWTH_PAIRS = 8
"""Number of pairs before or after a pair in which pixels must be stable to be added to an overlay."""
_FLAT, _CONTRAST_RATIO = 4, 3
"""Largest range of grey levels in a 3x3 window that is flat; least ratio of the contrast of a static pixel, or of the
change by motion that it should have shown, to its variation."""
_GROWTH_SIZE, _GROWTH_STEPS = 5, 4
"""Window and number of the dilations by which an overlay grows, at the reduced size."""
_OUTLINE_GAP = 7
"""Largest gap in an outline, in pixels of the reduced size."""
_MIN_STABLE_SHARE, _MAX_AREA = 0.9, 0.25
"""Least share of stable pixels inside an outline, and its largest share of the picture, to hold all of the inside."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two neighbouring frames of a run at reduced size; a run is a sequence of pairs that share frames."""

    begin: SmallFrame
    end: SmallFrame
    index: int
    previous_index: int | None
    """Index of the previous pair; None for the first pair of a run."""

    def starts_comparison(self, every: int) -> bool:
        """Whether frames are compared from this pair on; it does not depend on where reading began."""
        return self.previous_index is None or self.index // every != self.previous_index // every


def evidence_reach(info: SourceInfo) -> int:
    """Number of pairs before and after a pair in which evidence is collected, limited by memory."""
    frame_bytes = 3 * info.width * info.height * (2 if info.layout.deep else 1)
    return min(REACH, max(_STABLE_PAIRS, _LOOKAHEAD_BYTES // frame_bytes))


class StaticPixelDetector:
    """Detects the static pixels of successive steps.

    Args:
        reach: Number of pairs before and after a pair in which evidence is collected.
        crop: Returns the part of a frame in which overlays are detected.
    """

    def __init__(self, reach: int, crop: Callable[[Pixels], Pixels]) -> None:
        self._reach, self._crop = reach, crop
        self._pairs: deque[_Pair | None] = deque(maxlen=2 * reach + 1)
        self._steps: deque[PlaybackStep] = deque(maxlen=reach + _STABLE_PAIRS)  # these hold whole frames
        self._ends: tuple[SourceFrame | None, SourceFrame | None] = None, None
        """The frames of the last pair, in the direction of its run."""

    def mark_steps(self, steps: Iterator[PlaybackStep]) -> Iterator[PlaybackStep]:
        """Set `PlaybackStep.static` of steps that go forwards or backwards; ``reach`` steps are read ahead."""
        unmarked = 0
        for step in steps:
            self._pairs.append(self._next_pair(step))
            self._steps.append(step)
            unmarked += 1
            if unmarked > self._reach:
                yield self._mark(unmarked)
                unmarked -= 1
        for remaining in range(unmarked, 0, -1):
            yield self._mark(remaining)

    def _next_pair(self, step: PlaybackStep) -> _Pair | None:
        """The pair of a step, as the next one of its run; None if its frames are not interpolated."""
        previous, ends = self._pairs[-1] if self._pairs else None, (step.first, step.last)
        begin, end = self._ends
        self._ends = ends
        if step.last is None or step.gap:
            return None
        if previous is not None and previous.previous_index is None and begin in ends:  # the run goes backwards
            previous = self._pairs[-1] = replace(previous, begin=previous.end, end=previous.begin)
            end = begin
        if previous is None or end not in ends:
            return _Pair(self._reduce(step.first), self._reduce(step.last), step.interval.index, None)
        self._ends = ends if end is step.first else (step.last, step.first)
        return _Pair(previous.end, self._reduce(self._ends[1]), step.interval.index, previous.index)

    def _reduce(self, frame: SourceFrame | None) -> SmallFrame:
        assert frame is not None
        return SmallFrame.from_picture(to_picture(self._crop(frame.pixels)))

    def _mark(self, remaining: int) -> PlaybackStep:
        """Mark the step that is the ``remaining``-th from the end of those that were read."""
        pairs, steps = list(self._pairs), list(self._steps)
        current, place = len(pairs) - remaining, len(steps) - remaining
        first = current
        while (
            first > max(0, current - self._reach)
            and (pair := pairs[first]) is not None
            and pair.previous_index is not None
        ):
            first -= 1
        later = takewhile(lambda pair: pair and pair.previous_index is not None, pairs[current + 1 :])
        window = [pair for pair in (*pairs[first : current + 1], *later) if pair is not None]
        if not window:
            return steps[place]
        before, after = current - first, len(window) - 1 - (current - first)
        near = steps[place - min(before, _STABLE_PAIRS - 1) : place + min(after, _STABLE_PAIRS - 1) + 1]
        detection = _PairDetection(window, before, after < self._reach, steps[place], near, self._crop)
        return replace(steps[place], static=detection.find_static)


@dataclass(frozen=True, eq=False)
class _PairDetection:
    """Detection of the static pixels of one pair, from the pairs around it."""

    pairs: list[_Pair]
    current: int
    """Index of the pair in ``pairs``."""
    is_run_end: bool
    """Whether the run ends with the last of these pairs."""
    step: PlaybackStep
    near: list[PlaybackStep]
    """The step and its neighbours, with whole frames."""
    crop: Callable[[Pixels], Pixels]

    def find_static(self) -> StaticMask | None:
        """The pixels of the pair that belong to an overlay; None if there are none."""
        spans = list(self._evidence())
        if not spans:
            return None
        variation = _Variation(self.frames, self.current)
        overlay = np.any([_is_static(variation(begin, end), seen) for begin, end, seen in spans], axis=0)
        overlay = overlay.astype(np.uint8)
        if not overlay.any():
            return None
        around = [variation(*self._growth_span(begin)) for begin in (self.current - _GROWTH_PAIRS, self.current)]
        contrast = np.maximum(_local_contrast(self.frames[self.current].picture), _FLAT) - _FLAT
        candidates = np.any([_is_static(levels, contrast) for levels in around], axis=0).astype(np.uint8)
        for _ in range(_GROWTH_STEPS):
            overlay |= cv2.dilate(overlay, np.ones((_GROWTH_SIZE, _GROWTH_SIZE), np.uint8)) & candidates
        overlay = _fill_outlines(overlay, (np.minimum(*around) <= EQUAL).astype(np.uint8))
        stable = self._stable_pixels()
        overlay = cv2.resize(cv2.dilate(overlay, np.ones((3, 3), np.uint8)), stable.shape[::-1]) & stable
        return overlay > 0 if overlay.any() else None

    @property
    def frames(self) -> list[SmallFrame]:
        """All frames of the pairs."""
        return [self.pairs[0].begin, *(pair.end for pair in self.pairs)]

    def _growth_span(self, begin: int) -> tuple[int, int]:
        """First and last frame of `_GROWTH_PAIRS` + 1 pairs from ``begin``, as far as there are so many."""
        begin = max(0, min(begin, len(self.pairs) - _GROWTH_PAIRS - 1))
        return begin, min(begin + _GROWTH_PAIRS + 1, len(self.pairs))

    def _evidence(self) -> Iterator[tuple[int, int, Evidence]]:
        """Two frames between which there is evidence, and the evidence."""
        frames = self.frames
        final = len(frames) - 1
        for distance, every in _DISTANCES:
            for begin, pair in enumerate(self.pairs):
                end = min(begin + distance, final) if self.is_run_end else begin + distance
                if end <= final and pair.starts_comparison(every):
                    evidence = frames[begin].evidence_until(frames[end], end - begin)
                    if evidence is not None:
                        yield begin, end, evidence

    def _stable_pixels(self) -> UInt8[np.ndarray, "H W"]:
        """1 where the pair, and enough of its neighbours, are equal; at full size."""
        equal, current = [self._equal_pixels(step) for step in self.near], self.near.index(self.step)
        count = min(_STABLE_PAIRS, len(equal))
        runs = (equal[k : k + count] for k in range(len(equal) - count + 1) if k <= current < k + count)
        return np.any([np.all(run, axis=0) for run in runs], axis=0).astype(np.uint8)

    def _equal_pixels(self, step: PlaybackStep) -> StaticMask:
        assert step.last is not None
        first, last = (self.crop(composite(frame.pixels)) for frame in (step.first, step.last))
        limit = _CODEC_NOISE * (257 if first.dtype == np.uint16 else 1)
        return cv2.inRange(cv2.absdiff(first, last), (0, 0, 0), (limit, limit, limit)) > 0


def _is_static(variation: UInt8[np.ndarray, "h w"], contrast: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where pixels vary little, and much less than their contrast."""
    return (variation <= EQUAL) & (contrast > 0) & (variation <= contrast // _CONTRAST_RATIO)


class _Variation:
    """Range of grey levels of each pixel over frames around the pair that begins with the current one."""

    def __init__(self, frames: Sequence[SmallFrame], current: int) -> None:
        self._current, self._cache = current, {}
        pictures = [frame.picture for frame in frames]
        self._before = _running_extrema(pictures[current::-1])
        self._after = _running_extrema(pictures[current + 1 :])

    def __call__(self, begin: int, end: int) -> UInt8[np.ndarray, "h w"]:
        """The range over the frames from ``begin`` to ``end``, and from there to the pair."""
        span = max(self._current - begin, 0), max(end - self._current - 1, 0)
        if span not in self._cache:
            (low0, high0), (low1, high1) = self._before[span[0]], self._after[span[1]]
            self._cache[span] = _max_channel(cv2.subtract(cv2.max(high0, high1), cv2.min(low0, low1)))
        return self._cache[span]


def _running_extrema(pictures: Sequence[Picture]) -> list[tuple[Picture, Picture]]:
    extrema = [(pictures[0], pictures[0])]
    for picture in pictures[1:]:
        low, high = extrema[-1]
        extrema.append((cv2.min(low, picture), cv2.max(high, picture)))
    return extrema


def _max_channel(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    red, green, blue = cv2.split(picture)
    return cv2.max(cv2.max(red, green), blue)


def _local_contrast(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    """Range of grey levels in a 3x3 window."""
    window = np.ones((3, 3), np.uint8)
    return _max_channel(cv2.subtract(cv2.dilate(picture, window), cv2.erode(picture, window)))


def _fill_outlines(overlay: UInt8[np.ndarray, "h w"], stable: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """An overlay with the inside of its outlines if that is stable: a flat box, but not the view through a frame."""
    without_gaps = cv2.morphologyEx(overlay, cv2.MORPH_CLOSE, np.ones((_OUTLINE_GAP, _OUTLINE_GAP), np.uint8))
    outlines, _ = cv2.findContours(without_gaps, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = overlay.copy()
    for outline in outlines:
        inside = cv2.drawContours(np.zeros_like(overlay), [outline], 0, 1, cv2.FILLED)
        area = inside.sum()
        if _MIN_STABLE_SHARE * area <= (inside & stable).sum() and area <= _MAX_AREA * overlay.size:
            filled |= inside
    return filled & stable


def read_mask(path: Path, info: SourceInfo) -> Bool[np.ndarray, "H W"]:
    """Read an image as a mask: pixels that are brighter than half are static.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image, or its size is not that of the video.
    """
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"mask is {path}, which {fault}; expected auto, or an image of the video's size")
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    if (height, width) != (info.height, info.width):
        raise ValueError(
            f"mask {path} is {width}x{height} pixels; the frames of {info.name} are {info.width}x{info.height}"
        )
    return np.asarray(pixels[..., :3].max(axis=2) > np.iinfo(pixels.dtype).max // 2)
