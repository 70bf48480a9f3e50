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
from rdvfi.video.engine import Engine, EngineOptions, Progress
from rdvfi.video.frames_between import Mask
from rdvfi.video.job_options import PLAYBACK_RATE, JobOptions, PathLike
from rdvfi.video.job_report import VideoReport
from rdvfi.video.job_timing import JobTiming
from rdvfi.video.masks import reach_of, read_mask
from rdvfi.video.segmented_jobs.job_identity import job_identity
from rdvfi.video.segmented_jobs.segment_store import SegmentStore, open_store
from rdvfi.video.segmented_jobs.segments import Part, SegmentRecord, planned, summed_up
from rdvfi.video.speed_curve import Ramped
from rdvfi.video.timing import IntervalRetiming, Listed, Resample, Retiming

_COUNTING = frozenset({".avi", ".apng"})
"""Files that number frames instead of saying when each is shown."""
_MOST_FRAMES = 10_000_000
"""Frames that come out at most: more is a slip, not a wish."""


@dataclass(frozen=True, eq=False)
class VideoJob:
    """A job whose source is open: which frames are read and written, and when each is shown."""

    options: JobOptions
    source: Source
    info: SourceInfo
    timing: JobTiming
    retiming: Retiming
    bars: Letterbox | None
    mask: Mask
    encoding: SinkOptions
    rate: Fraction
    """Frames per second that encoders plan for."""

    @property
    def target(self) -> Path:
        """The output; see `JobOptions.target`."""
        return self.options.target

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
        return job_identity(self.options.paths, self.options.identity(), model)

    def store(self, place: PathLike, model: Interpolator) -> SegmentStore:
        """The segments that are kept at a place."""
        return open_store(place, lambda: self.identity(model), self.target.absolute().parent)

    def encoders(self) -> Callable[[], FrameEncoder]:
        """What makes the encoder of a segment, without the output."""
        return segment_encoder_factory(self.target, self.info, self.encoding, tick=self.tick, rate=self.rate)

    def engine(
        self, model: Interpolator, *, sheet: ContactSheet | None = None, progress: Progress | None = None
    ) -> Engine:
        """What makes the frames; on a GPU its planes, if `hwaccel` is not off."""
        target = None
        if self.by_planes(model.device):
            self.source.use_device(model.device)
            target = self._target_planes()
        options = EngineOptions(
            seed=self.options.seed,
            chunk=self.options.chunk,
            batch=self.options.batch,
            segment_frames=self.options.segment_frames,
            scenes=self.options.scenes,
            max_gap=self.options.longest_gap,
            bars=self.bars,
            mask=self.mask,
            slow=self.timing.slow,
            loop=self.timing.loop,
        )
        return Engine(model, self.source, self.retiming, options, sheet=sheet, progress=progress, target=target)

    def by_planes(self, device: torch.device) -> bool:
        """Whether frames go to a device and come back as planes of video."""
        return self.options.hwaccel != "off" and device.type == "cuda"

    def _target_planes(self) -> PlaneTarget | None:
        """Frames as the encoder takes them, if a device can make them."""
        if is_folder_output(self.target):
            return None
        from rdvfi.media.video_files.video_encoder import plane_target

        encoding = plan_encoding(self.target, self.info, self.encoding)
        return plane_target(self.info, encoding, self.target.suffix.lower())

    def run(
        self, model: Interpolator, store: SegmentStore | None, *, resume: bool, progress: Progress | None
    ) -> VideoReport:
        """Make the output, and remove the segments that were kept for it."""
        picture = self.options.contact_sheet
        sheet = None if picture is None else ContactSheet(headroom=self.info.headroom)
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
        if sheet is not None and picture is not None:
            notes += _save_sheet(sheet, Path(picture), overwrite=self.options.overwrite)
        return replace(report, notes=tuple(notes))

    def parts(self) -> list[Part] | None:
        """All segments, as far as they are known without decoding; None if they are not."""
        stamps = self.source.stamps()
        if stamps is None or self.timing.loop or not isinstance(self.retiming, IntervalRetiming):
            return None
        length, slow = self.options.segment_frames, self.timing.slow
        lead = reach_of(self.info) + 1 if isinstance(self.mask, str) else 0
        return planned(stamps, self.retiming, length, slow=slow, max_gap=self.options.longest_gap, lead=lead)

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
        return summed_up(records, self.info, time.perf_counter() - begun, max_gap=self.options.longest_gap, notes=told)

    def _notes(self, sink: Sink) -> list[str]:
        bars = [] if self.bars is None else [self.bars.note(self.info.name)]
        return [*_thinned(self.info, self.retiming, self.timing.slow), *sink.notes, *bars]

    def _sink(self) -> AbstractContextManager[Sink]:
        overwrite = self.options.overwrite
        return open_sink(self.target, self.info, self.encoding, tick=self.tick, rate=self.rate, overwrite=overwrite)


def read_job(options: JobOptions) -> VideoJob:
    """Open the source of a job, and validate the options with it.

    Raises:
        ValueError: If an option is unusable, by itself or for this source.
        OSError: If a file cannot be read.
    """
    options.check()
    timing, paths, target, encoding = options.timing, options.paths, options.target, options.encoding
    source = open_source(paths[0] if len(paths) == 1 else paths, options.reading)
    source = timing.part(source, keep_start=options.keep_start)
    info = replace(source.info, slowdown=timing.pace)
    if encoding.codec == AUTO and not is_folder_output(target):
        encoding = replace(encoding, codec=find_nvenc_codec(target.suffix.lower(), deep=info.layout.deep))
        options = replace(options, codec=encoding.codec)  # a resumed job goes on with the same one
    retiming = timing.retiming(info)
    for output in (target, options.contact_sheet):
        if output is not None:
            _check_apart(paths, Path(output))
    rate = _rate(info, retiming, timing.slow)
    interval = _interval(info, retiming, rate)
    check_options(target, info, encoding, interval=interval)
    if not (retiming.regular or info.fits_mean_rate):
        rate = _counting_rate(target, info, rate, interval)
    bars = find_letterbox(source) if options.crop_bars else None
    return VideoJob(options, source, info, timing, retiming, bars, _read_mask(options.mask, info), encoding, rate)


def _read_mask(mask: PathLike | None, info: SourceInfo) -> Mask:
    if mask is None:
        return None
    return "auto" if mask == "auto" else read_mask(Path(mask), info)


def _save_sheet(sheet: ContactSheet, picture: Path, *, overwrite: bool) -> list[str]:
    """Write the contact sheet; the video is done, so that what goes wrong here is a note."""
    try:
        sheet.save(picture, overwrite=overwrite)
    except (OSError, ValueError) as error:
        return [f"the contact sheet {picture} was not written: {getattr(error, 'strerror', None) or error}"]
    return []


def _check_apart(sources: Iterable[Path], destination: Path) -> None:
    for path in sources:
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
        return PLAYBACK_RATE
    return max(Fraction((count - 1) / span).limit_denominator(1001), Fraction(1, 1001))
