"""`JobOptions`: everything that decides the frames and the file of one job, as one value.

`rdvfi.interpolate_video`, `rdvfi.interpolate_many`, the command and the workers all build a job from it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsFloat

from rdvfi._inputs import check_count
from rdvfi.media.image_files.background import parse_colour
from rdvfi.media.image_files.image_header import MAX_PIXELS
from rdvfi.media.outputs.output import check_contact_sheet, is_folder_output
from rdvfi.media.pipes import is_pipe, pipe_destination
from rdvfi.media.reader import ReadOptions
from rdvfi.media.video_files.encoding import SinkOptions, keeps_alpha, keeps_video_levels
from rdvfi.media.video_files.hardware import check_hwaccel
from rdvfi.video.job_timing import JobTiming, Number, Speed, read_timing
from rdvfi.video.scene_changes import SceneChanges, scene_changes
from rdvfi.video.segmented_jobs.remote_files import is_url
from rdvfi.video.segmented_jobs.segment_store import SEGMENT_FRAMES
from rdvfi.video.timing import Multiply, Retiming, exact_rate

PathLike = str | os.PathLike[str]

PLAYBACK_RATE = Fraction(24)
"""Frames per second of what is made from images, unless a rate is given."""
_DEINTERLACING = ("auto", "off", "on")
_ENDLESS = Fraction(10**9)
"""Seconds that stand for an infinite ``max_gap``."""
_NOT_IN_FRAMES = frozenset({"source", "destination", "overwrite", "contact_sheet"})
"""Options that do not change the frames, or whose content counts and not their name."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The options of one job, under the names, with the defaults and meanings of `rdvfi.interpolate_video`.

    Values are kept as given, so that they can be sent to other machines and compared with those of an earlier run.
    `check` validates them, and the properties give them in their exact form.
    """

    source: PathLike | Sequence[PathLike]
    destination: PathLike

    # Timing: when output frames are shown.
    multiplier: Number | None = None
    target_fps: Number | None = None
    slow: Number | None = None
    speed: Speed | None = None
    timestamps: Iterable[Number] | None = None
    start: Number | None = None
    end: Number | None = None
    loop: bool = False
    dedup: Number = "off"

    # Reading: how the source is decoded.
    image_rate: SupportsFloat | None = None
    keep_start: bool = False
    strict: bool = False
    deinterlace: str = "auto"
    background: str = "black"
    max_pixels: int | None = None
    hwaccel: str = "auto"

    # Content: what is interpolated, and what is held.
    mask: PathLike | None = None
    crop_bars: bool = False
    max_gap: SupportsFloat = 10
    on_scene_change: str = "blend"
    scene_threshold: float | None = None

    # Computation: what may change frames by rounding, or cut the work into pieces.
    seed: int = 0
    chunk: int | None = None
    batch: int = 1
    segment_frames: int = SEGMENT_FRAMES

    # Encoding: how frames and audio are written.
    codec: str | None = None
    crf: int | None = None
    audio: bool = True
    preset: str | None = None
    bitrate: int | None = None
    pix_fmt: str | None = None
    odd: str = "pad"
    pipe_format: str | None = None
    overwrite: bool = False
    contact_sheet: PathLike | None = None

    @classmethod
    def names(cls) -> list[str]:
        """The names of all options."""
        return [field.name for field in fields(cls)]

    @classmethod
    def select(cls, arguments: Mapping[str, Any]) -> "JobOptions":
        """The options among arguments by name; iterators become tuples, since they are read more than once."""
        given: dict[str, Any] = {name: arguments[name] for name in cls.names() if name in arguments}
        given |= {name: tuple(value) for name, value in given.items() if isinstance(value, Iterator)}
        return cls(**given)

    def check(self) -> None:
        """Validate everything that does not depend on the content of the source.

        Raises:
            ValueError: If an option is unusable, or two contradict each other.
            FileExistsError: If the contact sheet exists and ``overwrite`` is off.
        """
        for name in ("segment_frames", "batch"):
            check_count(name, getattr(self, name))
        check_hwaccel(self.hwaccel)
        for name in ("timing", "target", "scenes", "longest_gap", "reading"):
            getattr(self, name)  # each property validates what it reads
        if self.contact_sheet is not None:
            check_contact_sheet(Path(self.contact_sheet), overwrite=self.overwrite)
            if self.timing == JobTiming(Multiply(Fraction(1))):
                raise ValueError("multiplier is 1: no new frame is made to show on a contact sheet")

    @property
    def paths(self) -> list[Path]:
        """The source: a video or a folder, or image files."""
        if isinstance(self.source, (str, os.PathLike)):
            return [Path(self.source)]
        if not self.source:
            raise ValueError("source is an empty list; give a video, a folder or at least two images")
        return [Path(path) for path in self.source]

    @cached_property
    def target(self) -> Path:
        """The output; of standard output, a name with the suffix of what is written there."""
        paths = self.paths
        return pipe_destination(Path(self.destination), paths[0] if len(paths) == 1 else paths, self.pipe_format)

    @cached_property
    def timing(self) -> JobTiming:
        """When output frames are shown."""
        return read_timing(self)

    @property
    def scenes(self) -> SceneChanges:
        """How scene changes are recognised and filled."""
        return scene_changes(self.on_scene_change, self.scene_threshold)

    @property
    def longest_gap(self) -> Fraction:
        """Seconds between two source frames that are still interpolated."""
        seconds = float(self.max_gap)
        if not seconds > 0:
            raise ValueError(f"max_gap is {self.max_gap} s; it must be greater than 0")
        return Fraction(seconds) if seconds < float("inf") else _ENDLESS

    @property
    def encoding(self) -> SinkOptions:
        """How the output is written. Pipes are not encoded by default: another program reads them at once."""
        codec = "raw" if self.codec is None and is_pipe(self.target) else self.codec
        return SinkOptions(codec, self.crf, self.audio, self.preset, self.bitrate, self.pix_fmt, self.odd)

    @property
    def reading(self) -> ReadOptions:
        """How the source is read, as the output can hold it."""
        if self.deinterlace not in _DEINTERLACING:
            raise ValueError(f"deinterlace is {self.deinterlace!r}; it must be auto, off or on")
        encoding = self.encoding
        return ReadOptions(
            image_rate=_image_rate(self.image_rate, self.timing.rule),
            keep_start=self.keep_start,
            strict=self.strict,
            deinterlace=self.deinterlace,
            headroom=not is_folder_output(self.target) and keeps_video_levels(self.target, encoding),
            alpha=keeps_alpha(self.target, encoding),
            background=parse_colour(self.background),
            max_pixels=MAX_PIXELS if self.max_pixels is None else self.max_pixels,
        )

    def identity(self) -> dict[str, Any]:
        """The options that the frames depend on, by name; of the destination its kind alone."""
        kind = "folder" if is_folder_output(self.target) else self.target.suffix.lower()
        options = {name: getattr(self, name) for name in self.names() if name not in _NOT_IN_FRAMES}
        return {**options, "destination": kind}

    def absolute(self) -> "JobOptions":
        """The same options with absolute paths, which mean the same on other machines with the same folders."""
        mask = self.mask if self.mask is None or self.mask == "auto" else absolute_path(self.mask)
        speed = absolute_path(self.speed) if isinstance(self.speed, str | os.PathLike) else self.speed
        if isinstance(self.source, str | os.PathLike):
            source = absolute_path(self.source)
        else:
            source = [absolute_path(path) for path in self.source]
        return replace(self, source=source, destination=absolute_path(self.destination), mask=mask, speed=speed)


def absolute_path(path: PathLike) -> str:
    """An absolute path; URLs and ``-`` are left as they are."""
    return str(path) if is_url(path) or str(path) == "-" else str(Path(path).absolute())


def _image_rate(rate: SupportsFloat | None, retiming: Retiming) -> Fraction:
    """Images per second of an image source; by default those with which the output plays at `PLAYBACK_RATE`."""
    if rate is not None:
        return exact_rate(rate)
    return PLAYBACK_RATE / retiming.multiplier if isinstance(retiming, Multiply) else PLAYBACK_RATE
