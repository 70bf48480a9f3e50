"""Interpolating a whole video with bounded memory: decode, compute and encode overlapped.

Two frames, a few new ones and the short queues between the threads are all that is held, whatever
the length of the clip. Source frames pass through untouched; they and the new frames take the same
way into the encoder.
"""

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
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
from rdvfi.video.frames_between import Between, Mask, Pairs
from rdvfi.video.job_report import PairReport, UncertainPair, VideoReport
from rdvfi.video.masks import StaticPixels, reach_of
from rdvfi.video.pipeline import Prefetch
from rdvfi.video.reel import ReelStep, played, stepwise
from rdvfi.video.scene_changes import SceneChanges
from rdvfi.video.segmented_jobs.segment_output import SegmentOutput
from rdvfi.video.segmented_jobs.segment_store import SEGMENT_FRAMES, SegmentStore
from rdvfi.video.segmented_jobs.segments import Part, Segment, SegmentRecord, in_segments, settled, summed_up
from rdvfi.video.speed_curve import Ramped
from rdvfi.video.timing import IntervalRetiming, Moment, Retiming

Progress = Callable[[int, int], bool | None]
"""Called with the number of pairs of frames that are done and the number expected; False stops the work."""

_QUEUE = 4
"""Frames that may wait between two threads."""


class Stopped(Exception):
    """The progress callback returned False: the work was stopped, and nothing of it is left."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How the frames of a clip are made."""

    seed: int = 0
    """Seed of the noise, the same for every pair."""
    chunk: int | None = None
    """Timesteps drawn at once; None chooses by the frame size."""
    batch: int = 1
    """Pairs that go through the model together, if they need new frames at the same times."""
    segment_frames: int = SEGMENT_FRAMES
    """About how many output frames a segment has; see `rdvfi.video.segmented_jobs.segment_store`."""
    scenes: SceneChanges | None = None
    """How scene changes are recognised and filled; None for the default."""
    max_gap: Fraction | None = None
    """Seconds between two source frames above which the first is held; None fills every gap."""
    bars: Letterbox | None = None
    """Letterbox bars, which are copied."""
    mask: Mask = None
    """Static pixels: where they are, or ``auto`` to detect them."""
    slow: Fraction = Fraction(1)
    """Factor by which the output is longer than the source."""
    loop: bool = False
    """The source's last frame is its first one, shown again."""


class Engine:
    """One run over one clip.

    Args:
        model: Interpolates.
        source: The clip.
        retiming: When output frames are shown.
        options: How they are made.
        sheet: Gets every pair, if given.
        progress: Called after every pair; see `Progress`.
        target: The planes that the encoder takes from the device; None if it takes pixels.
    """

    def __init__(
        self,
        model: Interpolator,
        source: Source,
        retiming: Retiming,
        options: EngineOptions | None = None,
        *,
        sheet: ContactSheet | None = None,
        progress: Progress | None = None,
        target: PlaneTarget | None = None,
    ) -> None:
        info, options = source.info, options or EngineOptions()
        if min(info.width, info.height) < MINIMUM_SIDE:
            raise ValueError(
                f"{info.name} is {info.width}x{info.height} pixels; both sides must be at least {MINIMUM_SIDE}"
            )
        self._model, self._source, self._retiming, self._options = model, source, retiming, options
        self._transfer = FrameTransfer(model.device, model.dtype, deep=info.layout.deep, target=target)
        bars = options.bars or Letterbox()
        self._inside = bars.crop_pixels
        self._reach = reach_of(info) if isinstance(options.mask, str) else None
        mask = None if isinstance(options.mask, str) else options.mask
        self._pairs = Pairs(model, seed=options.seed, chunk=options.chunk, scenes=options.scenes, bars=bars, mask=mask)
        self._sheet, self._progress = sheet, progress
        self._batch = 1 if info.layout.alpha else options.batch
        self._done = 0
        self._second: tuple[SourceFrame | None, Image] | None = None

    @torch.inference_mode()
    def run(self, sink: Sink, store: SegmentStore | None = None, *, resume: bool = False) -> VideoReport:
        """Interpolate the whole clip into ``sink``.

        Args:
            sink: Where frames go.
            store: Keeps finished segments.
            resume: Use what the store has.

        Raises:
            ValueError: If the source holds a single frame, or is damaged.
            MemoryError: If not even one frame fits into the device's memory.
            Stopped: If ``progress`` returned False.
        """
        begun = time.perf_counter()
        records: list[SegmentRecord] = []
        with (
            SegmentOutput(sink.encoder, sink=sink, store=store, resume=resume) as output,
            closing(self.segments()) as segments,
        ):
            self._tell(0)
            for segment in segments:
                kept = output.reuse(segment.number)
                records.append(self._passed(segment, kept) if kept is not None else self.make(segment, output))
            if sum(record.read for record in records) < 2:
                raise ValueError(f"{self._source.info.name} holds a single frame; at least two are needed")
            output.finish()
        seconds, gap = time.perf_counter() - begun, self._options.max_gap or Fraction(0)
        return summed_up(records, self._source.info, seconds, max_gap=gap, notes=self._source.notes())

    def segments(self) -> Generator[Segment]:
        """The segments of the clip in order; each has to be walked through before the next one."""
        with closing(self.steps()) as steps:
            yield from in_segments(steps, self._options.segment_frames)

    def steps(self, entry: Part | None = None) -> Generator[ReelStep]:
        """The steps of the clip, from the first of a segment on if one is given."""
        source = self._source.frames() if entry is None else self._source.frames(entry.since)
        with Prefetch(self._transfer.sent(source), _QUEUE) as frames:
            steps = settled(self._steps(iter(frames), entry), lasts=self._retiming.lasts)
            yield from steps if self._reach is None else StaticPixels(self._reach, self._inside).along(steps)

    def _passed(self, segment: Segment, kept: Mapping[str, Any]) -> SegmentRecord:
        """Walk through a segment that is made already."""
        for step in segment.steps:
            self._count(step)
        return SegmentRecord.from_json(kept)

    def make(self, segment: Segment, output: SegmentOutput, *, always: bool = False) -> SegmentRecord:
        """Make the frames of a segment.

        Args:
            segment: Which one.
            output: Where they go.
            always: Keep the segment also if it is the only one.
        """
        self._pairs.forget()
        record = SegmentRecord()
        output.begin()
        with self._transfer.working():
            for step, frames in self._frames(segment.steps, record):
                for frame, moment in frames:
                    output.put(frame, moment)
                    record.frames += 1
                record.read += 1 + len(step.interval.repeats)
                record.gaps += step.gap
                record.starts.append([step.interval.index, str(step.interval.start)])
                self._count(step)
            self._pairs.check_finite()
        record.notes = list(self._notes())
        output.end(segment.number, record.to_json(), keep=always or segment.number > 0 or not segment.last)
        record.starts = []  # they are in the segment; a film has many
        return record

    def _count(self, step: ReelStep) -> None:
        if step.last is not None:
            self._done += 1
            self._tell(self._done)

    def _steps(self, frames: Iterable[SourceFrame], entry: Part | None) -> Iterator[ReelStep]:
        rule = self._retiming
        if isinstance(rule, IntervalRetiming):
            first, origin = (0, None) if entry is None else (entry.entry, entry.origin)
            options = {"slow": self._options.slow, "max_gap": self._options.max_gap, "loop": self._options.loop}
            return stepwise(frames, rule, **options, first=first, origin=origin)
        assert isinstance(rule, Ramped)
        since = self._sent_since if self._source.repeatable else None
        return played(frames, rule, self._source.info, since, max_gap=self._options.max_gap)

    def _sent_since(self, time: Fraction) -> Iterator[SourceFrame]:
        return self._transfer.sent(self._source.frames(time))

    def _frames(
        self, steps: Iterator[ReelStep], record: SegmentRecord
    ) -> Iterator[tuple[ReelStep, Iterator[tuple[OutputFrame, Moment]]]]:
        """Each step with its output frames, of which several steps may be made together."""
        for group in _groups(steps, self._batch):
            times = _new_times(group[0])
            if not times:
                yield group[0], self._still(group[0])
                continue
            for step, found in zip(group, self._between(group, times), strict=True):
                yield step, self._shown(step, found, times, record)

    def _still(self, step: ReelStep) -> Iterator[tuple[OutputFrame, Moment]]:
        """The output frames of a step without new ones."""
        if step.moments:
            shown = self._transfer.shown(step.first)
            yield from ((shown, moment) for moment in step.moments)

    def _between(self, group: list[ReelStep], times: list[Fraction]) -> list[Between]:
        """What the model makes for some steps that follow each other."""
        images = [
            self._first(group[0].first),
            *(self._transfer.image(step.last) for step in group if step.last is not None),
        ]
        self._second = (group[-1].last, images[-1])
        at, statics = [float(time) for time in times], [step.static and step.static() for step in group]
        if len(group) > 1:
            return self._pairs.together(images, at, statics)
        return [self._pairs.between(images[0], images[1], at, static=statics[0])]

    def _shown(
        self, step: ReelStep, found: Between, times: list[Fraction], record: SegmentRecord
    ) -> Iterator[tuple[OutputFrame, Moment]]:
        """The output frames from the first frame of a step up to its last, without that itself."""
        new = self._made(step, found, times, record)
        shown = first = self._transfer.shown(step.first)
        part = Fraction(0)
        for moment in step.moments:
            if not moment.is_interpolated:
                shown, part = first, Fraction(0)
            elif moment.timestep != part:  # a curve of speed may stay at one for a while
                shown, part = next(new), moment.timestep
            yield shown, moment

    def _tell(self, done: int) -> None:
        """Tell the callback how far the work is."""
        expected = max(self._source.info.frames - 1, done)
        if self._progress is not None and self._progress(done, expected) is False:
            raise Stopped(f"stopped after {done} pairs of frames")

    def _made(
        self, step: ReelStep, found: Between, times: list[Fraction], record: SegmentRecord
    ) -> Iterator[OutputFrame]:
        """The new frames of a step, told in the record."""
        first, last = step.first, step.last
        assert last is not None
        index, span, reason = step.interval.index, (first.stamp.time, last.stamp.time), sys.intern(found.reason)
        record.confidences.append(found.confidence)
        record.pairs.append(PairReport(index, *span, len(times), found.way, reason, found.confidence, found.content))
        if not found.same_scene:
            record.uncertain.append(UncertainPair(index, *span, found.confidence, reason))
        if self._sheet is not None:
            self._sheet.begin(first.pixels, last.pixels, trusted=found.same_scene)
        frames = found.frames
        if self._source.info.layout.alpha:
            cover0, cover1 = (self._transfer.image_of(alpha_as_rgb(frame.pixels)) for frame in (first, last))
            frames = map(unpremultiply, frames, self._pairs.along(cover0, cover1, [float(time) for time in times]))
        for frame, timestep in zip(frames, times, strict=True):
            if self._sheet is not None:
                self._sheet.add(to_pixels(frame, deep=self._source.info.layout.deep), float(timestep))
            yield self._transfer.drawn(frame)

    def _first(self, frame: SourceFrame) -> Image:
        """A frame that may have been the last one of the step before."""
        return self._second[1] if self._second is not None and self._second[0] is frame else self._transfer.image(frame)

    def _notes(self) -> Iterator[str]:
        """What is to be told of the model."""
        if apart := self._model.parts_trained_apart():
            yield (
                f"{', '.join(apart)} learned in another model than the rest: measure before you "
                "trust what they make together"
            )
        if fewer := self._model.drawn_at_once:
            yield f"memory ran out on {self._model.device}: {fewer} frames were drawn at once from then on"


def _new_times(step: ReelStep) -> list[Fraction]:
    """Where new frames of a step are wanted, one after the other; where a curve turns, some come twice."""
    if step.last is None or step.gap:
        return []
    return [timestep for timestep, _ in groupby(moment.timestep for moment in step.moments) if timestep]


def _groups(steps: Iterable[ReelStep], most: int) -> Iterator[list[ReelStep]]:
    """Steps that can be made together: each begins where the one before ends, and all want the same times."""
    group: list[ReelStep] = []
    for step in steps:
        joins = group and step.first is group[-1].last and _new_times(step) == _new_times(group[0]) != []
        if group and (len(group) == most or not joins):
            yield group
            group = []
        group.append(step)
        if most == 1:
            yield group
            group = []
    if group:
        yield group
