"""Interpolation of a whole video in bounded memory, with decoding, computation and encoding overlapped.

Only two source frames, a few new ones and the short queues between the threads are held, whatever the length of the
clip. Source frames are not changed; they and the new frames go to the encoder in the same way.
"""

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from itertools import groupby
from typing import Any

import torch

from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.interpolator import Interpolator
from rdvfi.media.outputs.pieces import OutputFrame
from rdvfi.media.pixels import alpha_as_rgb, to_pixels, unpremultiply
from rdvfi.media.planes import PlaneTarget
from rdvfi.media.reader import Source, SourceFrame
from rdvfi.media.video_files.letterbox import Letterbox
from rdvfi.media.writer import Sink
from rdvfi.types import Image
from rdvfi.video.contact_sheet import ContactSheet
from rdvfi.video.frame_transfer import FrameTransfer
from rdvfi.video.job_options import JobOptions
from rdvfi.video.job_report import PairReport, VideoReport
from rdvfi.video.masks import StaticPixelDetector, evidence_reach
from rdvfi.video.pair_interpolation import InterpolatedPair, Mask, PairInterpolator
from rdvfi.video.pipeline import Prefetch
from rdvfi.video.playback import PlaybackStep, curve_steps, forward_steps
from rdvfi.video.segmented_jobs.segment_output import SegmentOutput
from rdvfi.video.segmented_jobs.segment_store import SegmentStore
from rdvfi.video.segmented_jobs.segments import (
    Segment,
    SegmentPlan,
    SegmentRecord,
    build_report,
    settle_durations,
    split_segments,
)
from rdvfi.video.speed_curve import SpeedRamp
from rdvfi.video.timing import IntervalRetiming, Moment, Retiming

Progress = Callable[[int, int], bool | None]
"""Called with the number of pairs of frames that are done, and the number expected; returns False to stop."""

_QUEUE = 4
"""Largest number of frames that wait between two threads."""


class Stopped(Exception):
    """The progress callback returned False; no partial output is left."""


class Engine:
    """One run over one clip.

    Args:
        model: Interpolates.
        source: The clip.
        retiming: When output frames are shown.
        options: Options of the job on content and computation.
        bars: Letterbox bars, which are copied.
        mask: Static pixels: where they are, or ``auto`` to detect them.
        sheet: Gets every pair, if given.
        progress: Called after every pair; see `Progress`.
        target: The planes that the encoder takes from the device; None if it takes pixels.
    """

    def __init__(
        self,
        model: Interpolator,
        source: Source,
        retiming: Retiming,
        options: JobOptions,
        *,
        bars: Letterbox | None = None,
        mask: Mask = None,
        sheet: ContactSheet | None = None,
        progress: Progress | None = None,
        target: PlaneTarget | None = None,
    ) -> None:
        info, bars = source.info, bars or Letterbox()
        if min(info.width, info.height) < MINIMUM_SIDE:
            raise ValueError(
                f"{info.name} is {info.width}x{info.height} pixels; both sides must be at least {MINIMUM_SIDE}"
            )
        self._model, self._source, self._retiming, self._options = model, source, retiming, options
        self._max_gap = options.longest_gap
        self._transfer = FrameTransfer(model.device, model.dtype, deep=info.layout.deep, target=target)
        self._crop = bars.crop_pixels
        self._reach = evidence_reach(info) if isinstance(mask, str) else None
        self._pairs = PairInterpolator(
            model,
            seed=options.seed,
            chunk=options.chunk,
            scenes=options.scenes,
            bars=bars,
            mask=None if isinstance(mask, str) else mask,
        )
        self._sheet, self._progress = sheet, progress
        self._batch = 1 if info.layout.alpha else options.batch
        self._pairs_done = 0
        self._last_image: tuple[SourceFrame | None, Image] | None = None

    @torch.inference_mode()
    def run(self, sink: Sink, store: SegmentStore | None = None, *, resume: bool = False) -> VideoReport:
        """Interpolate the whole clip into ``sink``.

        Args:
            sink: Gets the encoded output.
            store: Keeps finished segments; None if they are not kept.
            resume: Reuse the segments of the store.

        Raises:
            ValueError: If the source has a single frame, or is damaged.
            MemoryError: If not even one frame fits into the device's memory.
            Stopped: If ``progress`` returned False.
        """
        start = time.perf_counter()
        records: list[SegmentRecord] = []
        with (
            SegmentOutput(sink.encoder, sink=sink, store=store, resume=resume) as output,
            closing(self.segments()) as segments,
        ):
            self._report_progress()
            for segment in segments:
                record = output.reuse(segment.number)
                records.append(self._skip(segment, record) if record is not None else self.make(segment, output))
            if sum(record.read for record in records) < 2:
                raise ValueError(f"{self._source.info.name} holds a single frame; at least two are needed")
            output.finish()
        seconds = time.perf_counter() - start
        return build_report(records, self._source.info, seconds, max_gap=self._max_gap, notes=self._source.notes())

    def segments(self) -> Generator[Segment]:
        """The segments of the clip in order; the steps of each must be consumed before the next one."""
        with closing(self.steps()) as steps:
            yield from split_segments(steps, self._options.segment_frames)

    def steps(self, plan: SegmentPlan | None = None) -> Generator[PlaybackStep]:
        """The steps of the clip, from the first one of a planned segment if given."""
        source = self._source.frames() if plan is None else self._source.frames(plan.entry_time)
        with Prefetch(self._transfer.send(source), _QUEUE) as frames:
            steps = settle_durations(self._raw_steps(iter(frames), plan), to_end=self._retiming.holds_to_end)
            if self._reach is not None:
                steps = StaticPixelDetector(self._reach, self._crop).mark_steps(steps)
            yield from steps

    def _skip(self, segment: Segment, record: Mapping[str, Any]) -> SegmentRecord:
        """Read past a segment that is already stored."""
        for step in segment.steps:
            self._count_pair(step)
        return SegmentRecord.from_json(record)

    def make(self, segment: Segment, output: SegmentOutput, *, always: bool = False) -> SegmentRecord:
        """Make the frames of a segment; with ``always`` it is stored even if it is the only one."""
        self._pairs.reset()
        record = SegmentRecord()
        output.begin()
        with self._transfer.compute_stream():
            for step, frames in self._output_frames(segment.steps, record):
                for frame, moment in frames:
                    output.put(frame, moment)
                    record.frames += 1
                record.read += 1 + len(step.interval.repeats)
                record.gaps += step.gap
                record.starts.append([step.interval.index, str(step.interval.start)])
                self._count_pair(step)
            self._pairs.check_finite()
        record.notes = list(self._model_notes())
        output.end(segment.number, record.to_json(), keep=always or segment.number > 0 or not segment.last)
        record.starts = []  # they are stored with the segment; a long video has many
        return record

    def _count_pair(self, step: PlaybackStep) -> None:
        if step.last is not None:
            self._pairs_done += 1
            self._report_progress()

    def _report_progress(self) -> None:
        expected = max(self._source.info.frames - 1, self._pairs_done)
        if self._progress is not None and self._progress(self._pairs_done, expected) is False:
            raise Stopped(f"stopped after {self._pairs_done} pairs of frames")

    def _raw_steps(self, frames: Iterable[SourceFrame], plan: SegmentPlan | None) -> Iterator[PlaybackStep]:
        """The steps with durations that are final only within each step."""
        rule = self._retiming
        if isinstance(rule, IntervalRetiming):
            first, origin = (0, None) if plan is None else (plan.entry_frame, plan.origin)
            options = {"slow": self._options.timing.slow, "max_gap": self._max_gap, "loop": self._options.loop}
            return forward_steps(frames, rule, **options, first=first, origin=origin)
        assert isinstance(rule, SpeedRamp)
        reopen = self._reopen if self._source.repeatable else None
        return curve_steps(frames, rule, self._source.info, reopen, max_gap=self._max_gap)

    def _reopen(self, time: Fraction) -> Iterator[SourceFrame]:
        return self._transfer.send(self._source.frames(time))

    def _output_frames(
        self, steps: Iterator[PlaybackStep], record: SegmentRecord
    ) -> Iterator[tuple[PlaybackStep, Iterator[tuple[OutputFrame, Moment]]]]:
        """Each step with its output frames; several steps may be interpolated in one batch."""
        for batch in _batch_steps(steps, self._batch):
            times = _new_times(batch[0])
            if not times:
                yield batch[0], self._step_frames(batch[0], iter(()))
                continue
            for step, pair in zip(batch, self._interpolate(batch, times), strict=True):
                yield step, self._step_frames(step, self._new_frames(step, pair, times, record))

    def _interpolate(self, batch: list[PlaybackStep], times: list[Fraction]) -> list[InterpolatedPair]:
        images = [
            self._first_image(batch[0].first),
            *(self._transfer.to_image(step.last) for step in batch if step.last is not None),
        ]
        self._last_image = (batch[-1].last, images[-1])
        timesteps, statics = [float(time) for time in times], [step.static and step.static() for step in batch]
        if len(batch) > 1:
            return self._pairs.interpolate_batch(images, timesteps, statics)
        return [self._pairs.interpolate(images[0], images[1], timesteps, static=statics[0])]

    def _first_image(self, frame: SourceFrame) -> Image:
        """The image of a frame, reused if it was the last one of the previous step."""
        if self._last_image is not None and self._last_image[0] is frame:
            return self._last_image[1]
        return self._transfer.to_image(frame)

    def _step_frames(
        self, step: PlaybackStep, new_frames: Iterator[OutputFrame]
    ) -> Iterator[tuple[OutputFrame, Moment]]:
        """The output frames from the first frame of a step up to its last, without the last itself."""
        if not step.moments:
            return
        frame = first = self._transfer.source_output(step.first)
        timestep = Fraction(0)
        for moment in step.moments:
            if not moment.is_interpolated:
                frame, timestep = first, Fraction(0)
            elif moment.timestep != timestep:  # a speed curve may stay at one time for a while
                frame, timestep = next(new_frames), moment.timestep
            yield frame, moment

    def _new_frames(
        self, step: PlaybackStep, pair: InterpolatedPair, times: list[Fraction], record: SegmentRecord
    ) -> Iterator[OutputFrame]:
        """The new frames of a step; the pair is added to the record and the contact sheet."""
        first, last = step.first, step.last
        assert last is not None
        index, span, reason = step.interval.index, (first.stamp.time, last.stamp.time), sys.intern(pair.reason)
        record.pairs.append(PairReport(index, *span, len(times), pair.way, reason, pair.confidence, pair.content))
        if self._sheet is not None:
            self._sheet.begin(first.pixels, last.pixels, trusted=pair.same_scene)
        frames = pair.frames
        if self._source.info.layout.alpha:
            alpha0, alpha1 = (self._transfer.pixels_to_image(alpha_as_rgb(frame.pixels)) for frame in (first, last))
            alphas = self._pairs.interpolate_alpha(alpha0, alpha1, [float(time) for time in times])
            frames = map(unpremultiply, frames, alphas)
        for frame, timestep in zip(frames, times, strict=True):
            if self._sheet is not None:
                self._sheet.add(to_pixels(frame, deep=self._source.info.layout.deep), float(timestep))
            yield self._transfer.rendered_output(frame)

    def _model_notes(self) -> Iterator[str]:
        if apart := self._model.parts_trained_apart():
            parts = ", ".join(apart)
            yield f"{parts} learned in another model than the rest: measure before you trust what they make together"
        if fewer := self._model.drawn_at_once:
            yield f"memory ran out on {self._model.device}: {fewer} frames were drawn at once from then on"


def _new_times(step: PlaybackStep) -> list[Fraction]:
    """Timesteps of the new frames of a step in order; where a speed curve turns, some occur twice."""
    if step.last is None or step.gap:
        return []
    return [timestep for timestep, _ in groupby(moment.timestep for moment in step.moments) if timestep]


def _batch_steps(steps: Iterable[PlaybackStep], size: int) -> Iterator[list[PlaybackStep]]:
    """Batches of at most ``size`` adjacent steps that need new frames at the same timesteps."""
    batch: list[PlaybackStep] = []
    for step in steps:
        fits = batch and step.first is batch[-1].last and _new_times(step) == _new_times(batch[0]) != []
        if batch and (len(batch) == size or not fits):
            yield batch
            batch = []
        batch.append(step)
        if size == 1:  # do not wait for the next step
            yield batch
            batch = []
    if batch:
        yield batch
