"""A validated job: source, output times, and encoding."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, SupportsFloat

import torch

from rdvfi._inputs import check_count
from rdvfi.interpolator import Interpolator
from rdvfi.media.image_files.background import parse_colour
from rdvfi.media.image_files.image_header import MAX_PIXELS
from rdvfi.media.outputs.output import check_contact_sheet, is_folder_output
from rdvfi.media.outputs.pieces import FrameEncoder
from rdvfi.media.pipes import is_pipe, pipe_destination
from rdvfi.media.planes import PlaneTarget
from rdvfi.media.reader import ReadOptions, Source, SourceInfo, open_source
from rdvfi.media.video_files.codecs import AUTO, find_nvenc_codec
from rdvfi.media.video_files.encoding import SinkOptions, keeps_alpha, keeps_video_levels, plan_encoding
from rdvfi.media.video_files.hardware import check_hwaccel
from rdvfi.media.video_files.letterbox import Letterbox, find_letterbox
from rdvfi.media.writer import Sink, check_options, open_sink, segment_encoder_factory
from rdvfi.video.contact_sheet import ContactSheet
from rdvfi.video.engine import Engine, Progress
from rdvfi.video.frames_between import Mask
from rdvfi.video.job_report import VideoReport
from rdvfi.video.job_timing import JobTiming, read_timing
from rdvfi.video.masks import reach_of, read_mask
from rdvfi.video.scene_changes import SceneChanges, scene_changes
from rdvfi.video.segmented_jobs.job_identity import job_identity
from rdvfi.video.segmented_jobs.segment_store import SegmentStore, open_store
from rdvfi.video.segmented_jobs.segments import Part, SegmentRecord, planned, summed_up
from rdvfi.video.speed_curve import Ramped
from rdvfi.video.timing import IntervalRetiming, Listed, Multiply, Resample, Retiming, exact_rate

_PLAYBACK = Fraction(24)
"""Frames per second of what is made from images, unless a rate is given."""
_COUNTING = frozenset({".avi", ".apng"})
"""Files that number frames instead of saying when each is shown."""
_MOST_FRAMES = 10_000_000
"""Frames that come out at most: more is a slip, not a wish."""

PathLike = str | os.PathLike[str]


def listed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments whose iterators are read: they are needed more than once, and elsewhere."""
    once = {name: tuple(value) for name, value in given.items() if isinstance(value, Iterator)}
    return {**given, **once}


def output_of(source: PathLike | Sequence[PathLike], destination: PathLike, pipe_format: str | None) -> Path:
    """Where output goes; of standard output, with the suffix of what is written there."""
    return pipe_destination(Path(destination), _paths(source), pipe_format)


def default_segments(destination: Path) -> Path:
    """The folder in which finished segments are kept beside their destination."""
    return destination.with_name(f".{destination.name[:200]}.segments")


@dataclass(frozen=True, eq=False)
class VideoJob:
    """A job that has been read: what goes in, which frames come out when, and how they are written."""

    source: Source
    paths: Path | list[Path]
    info: SourceInfo
    timing: JobTiming
    retiming: Retiming
    scenes: SceneChanges
    max_gap: Fraction
    bars: Letterbox | None
    mask: Mask
    target: Path
    options: SinkOptions
    rate: Fraction
    picture: Path | None
    given: Mapping[str, Any]

    @property
    def steady(self) -> bool:
        """Whether output goes on as the source does."""
        return self.timing.curve is None and not isinstance(self.timing.rule, Listed)

    @property
    def piped(self) -> bool:
        """Whether the source or the output is a pipe."""
        return is_pipe(self.target) or not self.source.repeatable

    @property
    def tick(self) -> Fraction:
        """A time in which every timestamp of the output is whole."""
        return self.retiming.time_base(self.info.tick * self.timing.slow)

    def identity(self, model: Interpolator) -> dict[str, str]:
        """What the frames depend on; see `rdvfi.video.segmented_jobs.job_identity`."""
        asked = {name: value for name, value in self.given.items() if name not in _NOT_IN_FRAMES}
        # Of the destination its kind alone counts.
        asked["destination"] = "folder" if is_folder_output(self.target) else self.target.suffix.lower()
        return job_identity([self.paths] if isinstance(self.paths, Path) else self.paths, asked, model)

    def store(self, place: PathLike, model: Interpolator) -> SegmentStore:
        """The segments that are kept at a place."""
        return open_store(place, lambda: self.identity(model), self.target.absolute().parent)

    def encoders(self) -> Callable[[], FrameEncoder]:
        """What makes the encoder of a segment, without the output."""
        return segment_encoder_factory(self.target, self.info, self.options, tick=self.tick, rate=self.rate)

    def engine(
        self, model: Interpolator, *, sheet: ContactSheet | None = None, progress: Progress | None = None
    ) -> Engine:
        """What makes the frames; on a GPU its planes, if `hwaccel` is not off."""
        target = None
        if self.by_planes(model.device):
            self.source.use_device(model.device)
            target = self._target_planes()
        return Engine(
            model,
            self.source,
            self.retiming,
            seed=self.given["seed"],
            chunk=self.given["chunk"],
            batch=self.given["batch"],
            sheet=sheet,
            progress=progress,
            scenes=self.scenes,
            max_gap=self.max_gap,
            bars=self.bars,
            mask=self.mask,
            slow=self.timing.slow,
            loop=self.timing.loop,
            length=self.given["segment_frames"],
            target=target,
        )

    def by_planes(self, device: torch.device) -> bool:
        """Whether frames go to a device and come back as planes of video."""
        return self.given["hwaccel"] != "off" and device.type == "cuda"

    def _target_planes(self) -> PlaneTarget | None:
        """Frames as the encoder takes them, if a device can make them."""
        if is_folder_output(self.target):
            return None
        from rdvfi.media.video_files.video_encoder import plane_target

        encoding = plan_encoding(self.target, self.info, self.options)
        return plane_target(self.info, encoding, self.target.suffix.lower())

    def run(
        self, model: Interpolator, store: SegmentStore | None, *, resume: bool, progress: Progress | None
    ) -> VideoReport:
        """Make the output, and remove the segments that were kept for it."""
        sheet = None if self.picture is None else ContactSheet(headroom=self.info.headroom)
        engine = self.engine(model, sheet=sheet, progress=progress)
        try:
            with self._sink() as sink:
                report = engine.run(sink, store, resume=resume)
        except BaseException as error:
            if store is not None and (kept := len(store.finished())):
                error.add_note(f"{kept} finished segments are kept in {store.place}; resume goes on from there")
            raise
        if store is not None:
            store.remove()
        notes = [*self._notes(sink), *report.notes]
        if sheet is not None and self.picture is not None:
            notes += _save_sheet(sheet, self.picture, overwrite=self.given["overwrite"])
        return replace(report, notes=tuple(notes))

    def parts(self) -> list[Part] | None:
        """All segments, as far as they are known without decoding; None if they are not."""
        stamps = self.source.stamps()
        if stamps is None or self.timing.loop or not isinstance(self.retiming, IntervalRetiming):
            return None
        length, slow = self.given["segment_frames"], self.timing.slow
        lead = reach_of(self.info) + 1 if isinstance(self.mask, str) else 0
        return planned(stamps, self.retiming, length, slow=slow, max_gap=self.max_gap, lead=lead)

    def put_together(self, store: SegmentStore, count: int, begun: float, notes: Iterable[str]) -> VideoReport:
        """Make the output of segments that are all there, and remove them.

        Args:
            store: Has the segments.
            count: How many there are.
            begun: When the work began, by `time.perf_counter`.
            notes: Those of the source, by who read it.

        Raises:
            ValueError: If one is missing or damaged.
        """
        records = []
        with self._sink() as sink:
            for number in range(count):
                record = store.record(number)
                if record is None:
                    raise ValueError(f"segment {number} in {store.place} is missing or damaged; resume makes it again")
                records.append(SegmentRecord.from_json(record))
                for data in store.pieces(number):
                    sink.write_piece(sink.unpack(data))
        store.remove()
        told = [*self._notes(sink), *(list(notes) or self.source.notes())]
        return summed_up(records, self.info, time.perf_counter() - begun, max_gap=self.max_gap, notes=told)

    def _notes(self, sink: Sink) -> list[str]:
        bars = [] if self.bars is None else [self.bars.note(self.info.name)]
        return [*_thinned(self.info, self.retiming, self.timing.slow), *sink.notes, *bars]

    def _sink(self) -> AbstractContextManager[Sink]:
        overwrite = self.given["overwrite"]
        return open_sink(self.target, self.info, self.options, tick=self.tick, rate=self.rate, overwrite=overwrite)


AROUND = frozenset(
    {"model", "device", "dtype", "allow_untrained", "progress", "resume", "segments", "compare", "report"}
)
"""Arguments of `interpolate_video` that do not say what the job is; all others go to `read_job`."""


_TIMING = ("multiplier", "target_fps", "slow", "speed", "timestamps", "start", "end", "loop", "dedup")
_WRITING = ("codec", "crf", "audio", "preset", "bitrate", "pix_fmt", "odd")
"""Arguments that `read_timing` and `SinkOptions` take."""

_NOT_IN_FRAMES = frozenset({"source", "destination", "overwrite", "contact_sheet"})
"""Arguments that do not change what the frames are, or whose content counts and not their name."""


def read_job(given: Mapping[str, Any]) -> VideoJob:
    """Read what was asked of `interpolate_video`, whose arguments these are by name, and refuse what cannot be done."""
    for name in ("segment_frames", "batch"):
        check_count(name, given[name])
    check_hwaccel(given["hwaccel"])
    timing = read_timing(**{name: given[name] for name in _TIMING})
    target = output_of(given["source"], given["destination"], given["pipe_format"])
    scenes = scene_changes(given["on_scene_change"], given["scene_threshold"])
    gap = _max_gap(given["max_gap"])
    paths = _paths(given["source"])
    options = SinkOptions(**{name: given[name] for name in _WRITING})
    if options.codec is None and is_pipe(target):
        options = replace(options, codec="raw")  # another program reads it at once
    picture = None if given["contact_sheet"] is None else Path(given["contact_sheet"])
    if picture is not None:
        check_contact_sheet(picture, overwrite=given["overwrite"])
        if timing == JobTiming(Multiply(Fraction(1))):
            raise ValueError("multiplier is 1: no new frame is made to show on a contact sheet")
    max_pixels = given["max_pixels"]
    reading = ReadOptions(
        image_rate=_image_rate(given["image_rate"], timing.rule),
        keep_start=given["keep_start"],
        strict=given["strict"],
        deinterlace=_deinterlacing(given["deinterlace"]),
        headroom=not is_folder_output(target) and keeps_video_levels(target, options),
        alpha=keeps_alpha(target, options),
        background=parse_colour(given["background"]),
        max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
    )
    opened = timing.part(open_source(paths, reading), keep_start=given["keep_start"])
    info = replace(opened.info, slowdown=timing.pace)
    if options.codec == AUTO and not is_folder_output(target):
        options = replace(options, codec=find_nvenc_codec(target.suffix.lower(), deep=info.layout.deep))
        given = {**given, "codec": options.codec}  # a resumed job goes on with the same one
    retiming = timing.retiming(info)
    for place in (target,) if picture is None else (target, picture):
        _check_apart(paths, place)
    rate = _rate(info, retiming, timing.slow)
    interval = _interval(info, retiming, rate)
    check_options(target, info, options, interval=interval)
    if not (retiming.regular or info.fits_mean_rate):
        rate = _counting_rate(target, info, rate, interval)
    bars = find_letterbox(opened) if given["crop_bars"] else None
    mask = given["mask"]
    return VideoJob(
        opened,
        paths,
        info,
        timing,
        retiming,
        scenes,
        gap,
        bars,
        "auto" if mask == "auto" else None if mask is None else read_mask(Path(mask), info),
        target,
        options,
        rate,
        picture,
        MappingProxyType(dict(given)),
    )


def _save_sheet(sheet: ContactSheet, picture: Path, *, overwrite: bool) -> list[str]:
    """Write the contact sheet; the video is done, so that what goes wrong here is a note."""
    try:
        sheet.save(picture, overwrite=overwrite)
    except (OSError, ValueError) as error:
        return [f"the contact sheet {picture} was not written: {getattr(error, 'strerror', None) or error}"]
    return []


def _max_gap(given: SupportsFloat) -> Fraction:
    seconds = float(given)
    if not seconds > 0:
        raise ValueError(f"max_gap is {given} s; it must be greater than 0")
    return Fraction(seconds) if seconds < float("inf") else Fraction(10**9)


def _deinterlacing(choice: str) -> str:
    if choice not in ("auto", "off", "on"):
        raise ValueError(f"deinterlace is {choice!r}; it must be auto, off or on")
    return choice


def _paths(source: PathLike | Sequence[PathLike]) -> Path | list[Path]:
    if isinstance(source, (str, os.PathLike)):
        return Path(source)
    paths = [Path(path) for path in source]
    if not paths:
        raise ValueError("source is an empty list; give a video, a folder or at least two images")
    return paths[0] if len(paths) == 1 else paths


def _image_rate(given: SupportsFloat | None, retiming: Retiming) -> Fraction:
    if given is not None:
        return exact_rate(given)
    return _PLAYBACK / retiming.multiplier if isinstance(retiming, Multiply) else _PLAYBACK


def _check_apart(source: Path | list[Path], destination: Path) -> None:
    for path in [source] if isinstance(source, Path) else source:
        if destination.exists() and destination.samefile(path):
            raise ValueError(f"{destination} is the source itself; choose another destination")
        if destination.is_dir() and destination.resolve() in path.resolve().parents:
            raise ValueError(f"the source {path} is inside {destination}, which would be replaced; choose another")


def _thinned(info: SourceInfo, retiming: Retiming, slow: Fraction) -> list[str]:
    """A note, if frames of the source are not among those that come out."""
    count = retiming.count(info.frames, info.span * slow, info.tick * slow)
    if not isinstance(retiming, Resample) or count >= info.frames or info.span <= 0 or info.live:
        return []
    rate = float((info.frames - 1) / (info.span * slow))
    return [
        f"{float(retiming.fps):g} frames per second are fewer than the source's {rate:.3g}: "
        f"about {count} frames come out of {info.frames}"
    ]


def _counting_rate(target: Path, info: SourceInfo, rate: Fraction, interval: Fraction) -> Fraction:
    """The rate of a file whose frames do not come at a steady one.

    Raises:
        ValueError: If it has one rate and no gaps.
    """
    if target.suffix.lower() == ".y4m":
        raise ValueError(f"the frame rate of {info.name} varies, and y4m has one: set target_fps, or choose .mkv")
    return 1 / interval if target.suffix.lower() in _COUNTING else rate  # times are multiples of it there


def _interval(info: SourceInfo, retiming: Retiming, rate: Fraction) -> Fraction:
    """About the shortest time between two frames that come out."""
    if retiming.regular or info.shortest_step is None or info.span <= 0 or info.frames < 2:
        return 1 / rate
    return min(Fraction(1), info.shortest_step * (info.frames - 1) / info.span) / rate


def _rate(info: SourceInfo, retiming: Retiming, slow: Fraction) -> Fraction:
    """About how many frames per second come out; encoders plan by it, timestamps do not.

    Raises:
        ValueError: If far too many frames come out.
    """
    span = info.span * slow
    count = retiming.count(info.frames, span, info.tick * slow)
    if count > _MOST_FRAMES:
        raise ValueError(f"{count} frames would come out, which is more than {_MOST_FRAMES}: make fewer")
    if isinstance(retiming, Resample | Ramped):
        return retiming.fps
    if info.span <= 0 or count < 2:
        return _PLAYBACK
    return max(Fraction((count - 1) / span).limit_denominator(1001), Fraction(1, 1001))
