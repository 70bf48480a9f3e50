"""Sources of evaluation windows: a clip, generated scenes, or a copy of a published data set."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rdvfi.evaluation.clip_evaluation import LONG_CLIP, EvaluationWindow, windows
from rdvfi.evaluation.dataset_protocol import Protocol, load_protocol
from rdvfi.evaluation.procedural import procedural_windows, scene_count, scene_sets
from rdvfi.evaluation.protocol_windows import find_windows, windows_of
from rdvfi.media.clip import open_clip
from rdvfi.media.pixels import CONVERSIONS, FFMPEG, Picture
from rdvfi.registry import did_you_mean

GAP = 9
"""Distance between the input frames of a clip, unless another is asked for."""


@dataclass(frozen=True)
class WindowSource:
    """What is measured on; the fields are arguments of `rdvfi.evaluate`.

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
        if self.chosen is not None:
            for name, unset in (("start", 0), ("max_size", None), ("skip_cuts", None)):
                if getattr(self, name) != unset:
                    raise ValueError(f"{name} does not apply to a protocol, which says this itself")
        elif not self._generated and not Path(self.clip).exists():
            raise FileNotFoundError(f"no such clip: {self.clip}{did_you_mean(str(self.clip), scene_sets())}")

    @cached_property
    def chosen(self) -> Protocol | None:
        """The protocol, if there is one."""
        return None if self.protocol is None else choose_protocol(self.protocol, self.gap)

    @property
    def distance(self) -> int:
        """The gap, in frames."""
        if self.chosen is not None:
            return self.chosen.gap
        return GAP if self.gap is None else self.gap

    @property
    def title(self) -> str:
        """What a report calls it."""
        if self.chosen is not None:
            return self.chosen.title
        return str(self.clip) if self._generated else Path(self.clip).name

    @property
    def leaves_cuts_out(self) -> bool:
        """Whether windows with a scene cut inside are left out: in films, unless said otherwise."""
        if self.skip_cuts is not None or self.chosen is not None or self._generated:
            return bool(self.skip_cuts)
        return len(open_clip(self.clip)) > LONG_CLIP

    @property
    def _generated(self) -> bool:
        return str(self.clip) in scene_sets()

    def count(self) -> int:
        """How many windows there are."""
        if self.chosen is not None:
            whole = len(find_windows(self.chosen, Path(self.clip)).windows)
        elif self._generated:
            return scene_count(str(self.clip)) if self.pairs is None else self.pairs
        else:
            whole = max(0, (len(open_clip(self.clip)) - 1 - self.start) // max(1, self.distance))
        return whole if self.pairs is None else min(whole, self.pairs)

    def windows(self) -> Iterator[EvaluationWindow]:
        """The windows, in order.

        Raises:
            ValueError: If the clip is too short, a copy is not whole, or a file is damaged; it is named.
        """
        if self.chosen is not None:
            return windows_of(self.chosen, Path(self.clip), pairs=self.pairs, conversion=self.conversion)
        gap, start, most = self.distance, self.start, self.max_size
        if self._generated:
            if most is not None:
                raise ValueError("max_size does not apply to procedural sets, which are 448x256")
            return procedural_windows(gap, name=str(self.clip), start=start, pairs=self.pairs)
        if most is not None and most < 16:
            raise ValueError(f"max_size is {most} pixels; it must be at least 16")
        opened = open_clip(self.clip, conversion=self.conversion)
        if len(opened) - start <= gap:
            raise ValueError(
                f"{self.clip} has {len(opened)} frames; from frame {start} at a gap of {gap} "
                f"at least {start + gap + 1} are needed"
            )
        frames = opened.frames(start)
        reduced = frames if most is None else (_reduced(frame, most) for frame in frames)
        return windows(reduced, gap, start=start, pairs=self.pairs)


def choose_protocol(protocol: str | Protocol, gap: int | None = None) -> Protocol:
    """The protocol of a name or file; ``gap`` is for ``folder``, which has none of its own.

    Raises:
        ValueError: If there is none, or ``gap`` is given with another protocol.
    """
    chosen = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if gap is None:
        return chosen
    if chosen.name != "folder":
        raise ValueError(f"gap is {gap}; the protocol {chosen.name} has a gap of its own, {chosen.gap}")
    return chosen.with_gap(gap)


def _reduced(picture: Picture, max_size: int) -> Picture:
    """The picture with its longer side reduced to ``max_size``, by averaging areas."""
    import cv2

    h, w = picture.shape[:2]
    scale = max_size / max(h, w)
    if scale >= 1.0:
        return picture
    return cv2.resize(picture, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)
