"""The data of an evaluation: a clip, generated scenes, or a local copy of a published data set."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rdvfi.evaluation.dataset_protocol import Protocol, load_protocol
from rdvfi.evaluation.dataset_windows import find_windows, read_windows
from rdvfi.evaluation.evaluation_window import LONG_CLIP_FRAMES, EvaluationWindow, split_windows
from rdvfi.evaluation.procedural import procedural_windows, scene_count, scene_sets
from rdvfi.media.clip import open_clip
from rdvfi.media.pixels import CONVERSIONS, FFMPEG, Picture
from rdvfi.registry import did_you_mean

DEFAULT_GAP = 9
"""Distance between the input frames of a clip."""
_MIN_SIZE = 16
"""Shortest allowed ``max_size``, in pixels."""


@dataclass(frozen=True)
class EvaluationData:
    """The data that methods are measured on; the fields are arguments of `rdvfi.evaluate`.

    Raises:
        FileNotFoundError: If the clip, the folder or the protocol's file does not exist.
        ValueError: If there is no such protocol, or an argument does not apply.
    """

    clip: str | os.PathLike[str]
    protocol: str | Protocol | None = None
    gap: int | None = None
    start: int = 0
    pairs: int | None = None
    max_size: int | None = None
    skip_cuts: bool | None = None
    conversion: str = FFMPEG

    def __post_init__(self) -> None:
        if self.conversion not in CONVERSIONS:
            raise ValueError(f"conversion is {self.conversion!r}; it must be one of {', '.join(CONVERSIONS)}")
        if self.resolved_protocol is not None:
            for name, unset in (("start", 0), ("max_size", None), ("skip_cuts", None)):
                if getattr(self, name) != unset:
                    raise ValueError(f"{name} does not apply to a protocol, which defines it")
        elif not self._is_generated and not Path(self.clip).exists():
            raise FileNotFoundError(f"no such clip: {self.clip}{did_you_mean(str(self.clip), scene_sets())}")

    @cached_property
    def resolved_protocol(self) -> Protocol | None:
        """The protocol, read from its file if ``protocol`` is a name; None for clips and generated scenes."""
        return None if self.protocol is None else resolve_protocol(self.protocol, self.gap)

    @property
    def resolved_gap(self) -> int:
        """Frames from one input to the next."""
        if self.resolved_protocol is not None:
            return self.resolved_protocol.gap
        return DEFAULT_GAP if self.gap is None else self.gap

    @property
    def title(self) -> str:
        """Name of the data in a report."""
        if self.resolved_protocol is not None:
            return self.resolved_protocol.title
        return str(self.clip) if self._is_generated else Path(self.clip).name

    @property
    def skips_cuts(self) -> bool:
        """Whether windows with a scene cut inside are skipped; by default in long clips only."""
        if self.skip_cuts is not None or self.resolved_protocol is not None or self._is_generated:
            return bool(self.skip_cuts)
        return len(open_clip(self.clip)) > LONG_CLIP_FRAMES

    @property
    def _is_generated(self) -> bool:
        return str(self.clip) in scene_sets()

    def window_count(self) -> int:
        """The number of windows."""
        if self.resolved_protocol is not None:
            available = len(find_windows(self.resolved_protocol, Path(self.clip)).windows)
        elif self._is_generated:
            return scene_count(str(self.clip)) if self.pairs is None else self.pairs
        else:
            available = max(0, (len(open_clip(self.clip)) - 1 - self.start) // max(1, self.resolved_gap))
        return available if self.pairs is None else min(available, self.pairs)

    def windows(self) -> Iterator[EvaluationWindow]:
        """The windows, in order; raises ValueError for a short clip, an incomplete data set or a damaged file."""
        if self.resolved_protocol is not None:
            return read_windows(self.resolved_protocol, Path(self.clip), pairs=self.pairs, conversion=self.conversion)
        if self._is_generated:
            if self.max_size is not None:
                raise ValueError("max_size does not apply to procedural sets, which are 448x256")
            return procedural_windows(self.resolved_gap, name=str(self.clip), start=self.start, pairs=self.pairs)
        return self._clip_windows()

    def _clip_windows(self) -> Iterator[EvaluationWindow]:
        gap, start, max_size = self.resolved_gap, self.start, self.max_size
        if max_size is not None and max_size < _MIN_SIZE:
            raise ValueError(f"max_size is {max_size} pixels; it must be at least {_MIN_SIZE}")
        clip = open_clip(self.clip, conversion=self.conversion)
        if len(clip) - start <= gap:
            raise ValueError(
                f"{self.clip} has {len(clip)} frames; from frame {start} at a gap of {gap} "
                f"at least {start + gap + 1} are needed"
            )
        frames = clip.frames(start)
        if max_size is not None:
            frames = (_limit_size(frame, max_size) for frame in frames)
        return split_windows(frames, gap, start=start, pairs=self.pairs)


def resolve_protocol(protocol: str | Protocol, gap: int | None = None) -> Protocol:
    """The protocol of a name or file, with ``gap``, which only the protocol ``folder`` accepts.

    Raises:
        ValueError: If there is no such protocol, or ``gap`` is given with one that defines it.
    """
    resolved = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if gap is None:
        return resolved
    if resolved.name != "folder":
        raise ValueError(f"gap is {gap}; the protocol {resolved.name} has a gap of its own, {resolved.gap}")
    return resolved.with_gap(gap)


def _limit_size(picture: Picture, max_size: int) -> Picture:
    """The picture, downscaled by area averaging if its longer side exceeds ``max_size``."""
    import cv2

    h, w = picture.shape[:2]
    scale = max_size / max(h, w)
    if scale >= 1.0:
        return picture
    return cv2.resize(picture, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)
