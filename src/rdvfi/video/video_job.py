"""A validated job: source, output times, and encoding."""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch

from rdvfi.interpolator import Interpolator
from rdvfi.media.outputs.output import is_folder_output
from rdvfi.media.outputs.pieces import FrameEncoder
from rdvfi.media.pipes import is_pipe
from rdvfi.media.planes import PlaneTarget
from rdvfi.media.reader import Source, SourceInfo, open_source
from rdvfi.media.video_files.codecs import AUTO, find_nvenc_codec
from rdvfi.media.video_files.encoding import SinkOptions, plan_encoding
from rdvfi.media.video_files.letterbox import Letterbox, find_letterbox
from rdvfi.media.writer import Sink, check_options, open_sink, segment_encoder_factory
from rdvfi.video.contact_sheet import ContactSheet
from rdvfi.video.engine import Engine, Progress
from rdvfi.video.job_options import PLAYBACK_RATE, JobOptions, PathLike
from rdvfi.video.job_report import VideoReport
from rdvfi.video.masks import evidence_reach, read_mask
from rdvfi.video.pair_interpolation import Mask
from rdvfi.video.segmented_jobs.job_identity import job_identity
from rdvfi.video.segmented_jobs.segment_store import SegmentStore, open_store
from rdvfi.video.segmented_jobs.segments import SegmentPlan, SegmentRecord, build_report, plan_segments
from rdvfi.video.speed_curve import SpeedRamp
from rdvfi.video.timing import IntervalRetiming, ListedTimes, Resample, Retiming

_FIXED_RATE_SUFFIXES = frozenset({".avi", ".apng"})
"""Formats that number frames instead of storing timestamps."""
_MAX_FRAMES = 10_000_000
"""Larger numbers of output frames are taken for mistakes."""


@dataclass(frozen=True, eq=False)
class VideoJob:
    """A job whose source is open: which frames are read and written, and when each is shown."""

    options: JobOptions
    source: Source
    info: SourceInfo
    retiming: Retiming
    bars: Letterbox | None
    mask: Mask
    encoding: SinkOptions
    rate: Fraction
    """Frames per second that encoders plan for."""

    @property
    def has_constant_speed(self) -> bool:
        """Whether the output runs at a constant speed."""
        return self.options.timing.curve is None and not isinstance(self.options.timing.rule, ListedTimes)

    @property
    def uses_pipe(self) -> bool:
        """Whether the source or the output is a pipe."""
        return is_pipe(self.options.target) or not self.source.repeatable

    @property
    def tick(self) -> Fraction:
        """A tick that divides every output timestamp."""
        return self.retiming.time_base(self.info.tick * self.options.timing.slow)

    def identity(self, model: Interpolator) -> dict[str, str]:
        """The settings that the frames depend on; see `rdvfi.video.segmented_jobs.job_identity`."""
        return job_identity(self.options.paths, self.options.identity(), model)

    def open_store(self, place: PathLike, model: Interpolator) -> SegmentStore:
        """The store for the segments of the job in a folder or at a URL."""
        return open_store(place, lambda: self.identity(model), self.options.target.absolute().parent)

    def encoder_factory(self) -> Callable[[], FrameEncoder]:
        """Creates the encoders of segments, without an output file."""
        return segment_encoder_factory(self.options.target, self.info, self.encoding, tick=self.tick, rate=self.rate)

    def create_engine(
        self, model: Interpolator, *, sheet: ContactSheet | None = None, progress: Progress | None = None
    ) -> Engine:
        """The engine for the frames; on a GPU with decoded and encoded planes there, unless ``hwaccel`` is off."""
        target = None
        if self.uses_device_planes(model.device):
            self.source.use_device(model.device)
            target = self._target_planes()
        return Engine(
            model,
            self.source,
            self.retiming,
            self.options,
            bars=self.bars,
            mask=self.mask,
            sheet=sheet,
            progress=progress,
            target=target,
        )

    def uses_device_planes(self, device: torch.device) -> bool:
        """Whether frames are copied to and from a device as video planes."""
        return self.options.hwaccel != "off" and device.type == "cuda"

    def _target_planes(self) -> PlaneTarget | None:
        """The planes that the encoder takes, if they can be made on the device."""
        if is_folder_output(self.options.target):
            return None
        from rdvfi.media.video_files.video_encoder import plane_target

        encoding = plan_encoding(self.options.target, self.info, self.encoding)
        return plane_target(self.info, encoding, self.options.target.suffix.lower())

    def run(
        self, model: Interpolator, store: SegmentStore | None, *, resume: bool, progress: Progress | None
    ) -> VideoReport:
        """Write the output, and remove the segments that were kept for it."""
        picture = self.options.contact_sheet
        sheet = None if picture is None else ContactSheet(headroom=self.info.headroom)
        engine = self.create_engine(model, sheet=sheet, progress=progress)
        try:
            with self._open_sink() as sink:
                report = engine.run(sink, store, resume=resume)
        except BaseException as error:
            if store is not None and (kept := len(store.finished())):
                error.add_note(f"{kept} finished segments are kept in {store.place}; resume goes on from there")
            raise
        if store is not None:
            store.remove()
        notes = [*self._notes(sink), *report.notes]
        if sheet is not None and picture is not None:
            notes += _save_sheet(sheet, Path(picture), overwrite=self.options.overwrite)
        return replace(report, notes=tuple(notes))

    def plan_segments(self) -> list[SegmentPlan] | None:
        """All segments of the job; None if they are not known without decoding."""
        stamps = self.source.stamps()
        if stamps is None or self.options.timing.loop or not isinstance(self.retiming, IntervalRetiming):
            return None
        length, slow = self.options.segment_frames, self.options.timing.slow
        lead = evidence_reach(self.info) + 1 if isinstance(self.mask, str) else 0
        return plan_segments(stamps, self.retiming, length, slow=slow, max_gap=self.options.longest_gap, lead=lead)

    def join_segments(self, store: SegmentStore, count: int, start: float, notes: Iterable[str]) -> VideoReport:
        """Write the output from ``count`` stored segments, and remove them.

        The work started at ``start`` by `time.perf_counter`; workers made ``notes`` on the source.

        Raises:
            ValueError: If a segment is missing or damaged.
        """
        records = []
        with self._open_sink() as sink:
            for number in range(count):
                record = store.record(number)
                if record is None:
                    raise ValueError(f"segment {number} in {store.place} is missing or damaged; resume makes it again")
                records.append(SegmentRecord.from_json(record))
                for data in store.pieces(number):
                    sink.write_piece(sink.unpack(data))
        store.remove()
        notes = [*self._notes(sink), *(list(notes) or self.source.notes())]
        return build_report(
            records, self.info, time.perf_counter() - start, max_gap=self.options.longest_gap, notes=notes
        )

    def _notes(self, sink: Sink) -> list[str]:
        bars = [] if self.bars is None else [self.bars.note(self.info.name)]
        return [*_dropped_frames_note(self.info, self.retiming, self.options.timing.slow), *sink.notes, *bars]

    def _open_sink(self) -> AbstractContextManager[Sink]:
        overwrite = self.options.overwrite
        return open_sink(
            self.options.target, self.info, self.encoding, tick=self.tick, rate=self.rate, overwrite=overwrite
        )


def read_job(options: JobOptions) -> VideoJob:
    """Open the source of a job, and validate the options with it.

    Raises:
        ValueError: If an option is unusable, by itself or for this source.
        OSError: If a file cannot be read.
    """
    options.check()
    timing, paths, target, encoding = options.timing, options.paths, options.target, options.encoding
    source = open_source(paths[0] if len(paths) == 1 else paths, options.reading)
    source = timing.apply(source, keep_start=options.keep_start)
    info = replace(source.info, slowdown=timing.slowdown)
    if encoding.codec == AUTO and not is_folder_output(target):
        encoding = replace(encoding, codec=find_nvenc_codec(target.suffix.lower(), deep=info.layout.deep))
        options = replace(options, codec=encoding.codec)  # a resumed job goes on with the same one
    retiming = timing.retiming(info)
    for output in (target, options.contact_sheet):
        if output is not None:
            _check_not_source(paths, Path(output))
    rate = _output_rate(info, retiming, timing.slow)
    interval = _shortest_interval(info, retiming, rate)
    check_options(target, info, encoding, interval=interval)
    if not (retiming.is_regular or info.fits_mean_rate):
        rate = _variable_rate(target, info, rate, interval)
    bars = find_letterbox(source) if options.crop_bars else None
    return VideoJob(options, source, info, retiming, bars, _read_mask(options.mask, info), encoding, rate)


def _read_mask(mask: PathLike | None, info: SourceInfo) -> Mask:
    if mask is None:
        return None
    return "auto" if mask == "auto" else read_mask(Path(mask), info)


def _save_sheet(sheet: ContactSheet, picture: Path, *, overwrite: bool) -> list[str]:
    """Write the contact sheet; since the video is complete, an error becomes a note."""
    try:
        sheet.save(picture, overwrite=overwrite)
    except (OSError, ValueError) as error:
        return [f"the contact sheet {picture} was not written: {getattr(error, 'strerror', None) or error}"]
    return []


def _check_not_source(sources: Iterable[Path], destination: Path) -> None:
    for path in sources:
        if destination.exists() and destination.samefile(path):
            raise ValueError(f"{destination} is the source itself; choose another destination")
        if destination.is_dir() and destination.resolve() in path.resolve().parents:
            raise ValueError(f"the source {path} is inside {destination}, which would be replaced; choose another")


def _dropped_frames_note(info: SourceInfo, retiming: Retiming, slow: Fraction) -> list[str]:
    """A note if the output has fewer frames than the source."""
    count = retiming.count(info.frames, info.span * slow, info.tick * slow)
    if not isinstance(retiming, Resample) or count >= info.frames or info.span <= 0 or info.live:
        return []
    rate = float((info.frames - 1) / (info.span * slow))
    return [
        f"{float(retiming.fps):g} frames per second are fewer than the source's {rate:.3g}: "
        f"about {count} frames come out of {info.frames}"
    ]


def _variable_rate(target: Path, info: SourceInfo, rate: Fraction, interval: Fraction) -> Fraction:
    """The rate to write for an output with a variable frame rate.

    Raises:
        ValueError: If the format has a constant frame rate.
    """
    if target.suffix.lower() == ".y4m":
        raise ValueError(f"the frame rate of {info.name} varies, and y4m has one: set target_fps, or choose .mkv")
    return 1 / interval if target.suffix.lower() in _FIXED_RATE_SUFFIXES else rate  # timestamps are multiples of it


def _shortest_interval(info: SourceInfo, retiming: Retiming, rate: Fraction) -> Fraction:
    """About the shortest time between two output frames."""
    if retiming.is_regular or info.shortest_step is None or info.span <= 0 or info.frames < 2:
        return 1 / rate
    return min(Fraction(1), info.shortest_step * (info.frames - 1) / info.span) / rate


def _output_rate(info: SourceInfo, retiming: Retiming, slow: Fraction) -> Fraction:
    """About how many frames per second the output has, which encoders plan for.

    Raises:
        ValueError: If the output would have far too many frames.
    """
    span = info.span * slow
    count = retiming.count(info.frames, span, info.tick * slow)
    if count > _MAX_FRAMES:
        raise ValueError(f"{count} frames would come out, which is more than {_MAX_FRAMES}: make fewer")
    if isinstance(retiming, Resample | SpeedRamp):
        return retiming.fps
    if info.span <= 0 or count < 2:
        return PLAYBACK_RATE
    return max(Fraction((count - 1) / span).limit_denominator(1001), Fraction(1, 1001))
