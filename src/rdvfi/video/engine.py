"""Interpolating a whole video with bounded memory: decode, compute and encode overlapped.

Two frames, a few new ones and the short queues between the threads are all that is held, whatever
the length of the clip. Source frames pass through untouched; they and the new frames take the same
way into the encoder.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from typing import Any

import torch

from rdvfi._inputs import check_count
from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.interpolator import Interpolator
from rdvfi.media.letterbox import Letterbox
from rdvfi.media.pixels import Opaque, Pixels, composited, coverage, straight, to_pixels, to_tensor
from rdvfi.media.reader import Source, SourceFrame
from rdvfi.media.writer import Sink
from rdvfi.types import Image
from rdvfi.video.contact_sheet import ContactSheet
from rdvfi.video.frames_between import Mask, Pairs
from rdvfi.video.job_report import PairReport, UncertainPair, VideoReport
from rdvfi.video.pipeline import Prefetch
from rdvfi.video.reel import ReelStep, played, stepwise
from rdvfi.video.scene_changes import SceneChanges
from rdvfi.video.segment_output import SegmentOutput
from rdvfi.video.segment_store import SEGMENT_FRAMES, SegmentStore
from rdvfi.video.segments import Segment, SegmentRecord, in_segments, settled, summed_up
from rdvfi.video.speed_curve import Ramped
from rdvfi.video.timing import Moment, Retiming

Progress = Callable[[int, int], bool | None]
"""Called with the number of pairs of frames that are done and the number expected; False stops the work."""

_QUEUE = 4
"""Frames that may wait between two threads."""


class Stopped(Exception):
    """The progress callback returned False: the work was stopped, and nothing of it is left."""


class Engine:
    """One run over one clip.

    Args:
        model: Makes the frames.
        source: Where frames come from.
        retiming: Where new frames are wanted.
        seed: Seed of the noise, the same for every pair.
        chunk: Timesteps drawn at once; None chooses by the frame size.
        sheet: Is shown every pair, if given.
        progress: Is told of every pair that is done; see `Progress`.
        scenes: What is shown between two frames of two scenes.
        max_gap: Seconds between two frames from which on the first is held, instead of new ones made.
        bars: Bars around the picture, which stay as they are.
        slow: Times are this much longer in the output.
        loop: The source's last frame is its first one, shown again.
        mask: Pixels that stand still: where, or ``auto`` to find them.
        length: Output frames of a segment, about; see `rdvfi.video.segment_store`.
    """

    def __init__(
        self,
        model: Interpolator,
        source: Source,
        retiming: Retiming,
        *,
        seed: int = 0,
        chunk: int | None = None,
        sheet: ContactSheet | None = None,
        progress: Progress | None = None,
        scenes: SceneChanges | None = None,
        max_gap: Fraction | None = None,
        bars: Letterbox | None = None,
        slow: Fraction = Fraction(1),
        loop: bool = False,
        mask: Mask = None,
        length: int = SEGMENT_FRAMES,
    ) -> None:
        check_count("segment_frames", length)
        info = source.info
        if min(info.width, info.height) < MINIMUM_SIDE:
            raise ValueError(
                f"{info.name} is {info.width}x{info.height} pixels; both sides must be at least {MINIMUM_SIDE}"
            )
        self._model = model
        self._pairs = Pairs(model, seed=seed, chunk=chunk, scenes=scenes, bars=bars, mask=mask)
        self._source = source
        self._retiming = retiming
        self._sheet = sheet
        self._progress = progress
        self._max_gap = max_gap
        self._slow, self._loop, self._length = slow, loop, length
        self._gaps = self._read = 0
        self._done = self._steps_through = 0
        self._second: tuple[SourceFrame, Image] | None = None

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
            if self._read < 2:
                raise ValueError(f"{self._source.info.name} holds a single frame; at least two are needed")
            output.finish()
        return summed_up(records, self._source.info, self._read, time.perf_counter() - begun, self._notes())

    def segments(self) -> Generator[Segment]:
        """The segments of the clip in order; each has to be walked through before the next one."""
        with Prefetch(self._source.frames(), _QUEUE) as frames:
            steps = settled(self._steps(self._counted(frames)), lasts=self._retiming.lasts)
            yield from in_segments(steps, self._length)

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
        for step in segment.steps:
            for pixels, moment in self._shown(step, record):
                output.put(pixels, moment)
                record.frames += 1
            self._count(step)
        output.end(segment.number, record.to_json(), keep=always or segment.number > 0 or not segment.last)
        return record

    def _count(self, step: ReelStep) -> None:
        self._gaps += step.gap
        self._steps_through += 1
        self._read = max(self._read, self._steps_through)
        if step.last is not None:
            self._done += 1
            self._tell(self._done)

    def _counted(self, frames: Iterable[SourceFrame]) -> Iterator[SourceFrame]:
        for frame in frames:
            self._read += not isinstance(self._retiming, Ramped)
            yield frame

    def _steps(self, frames: Iterable[SourceFrame]) -> Iterator[ReelStep]:
        if isinstance(self._retiming, Ramped):
            since = self._source.frames if self._source.repeatable else None
            return played(frames, self._retiming, self._source.info, since, max_gap=self._max_gap)
        return stepwise(frames, self._retiming, slow=self._slow, max_gap=self._max_gap, loop=self._loop)

    def _shown(self, step: ReelStep, record: SegmentRecord) -> Iterator[tuple[Pixels, Moment]]:
        """The output frames of a step."""
        if step.last is None or step.gap:
            yield from ((step.first.pixels, moment) for moment in step.moments)
        else:
            yield from self._between(step.first, step.last, step.moments, step.interval.index, record)

    def _tell(self, done: int) -> None:
        """Tell the callback how far the work is."""
        expected = max(self._source.info.frames - 1, done)
        if self._progress is not None and self._progress(done, expected) is False:
            raise Stopped(f"stopped after {done} pairs of frames")

    def _between(
        self,
        first: SourceFrame,
        last: SourceFrame,
        moments: tuple[Moment, ...],
        index: int,
        record: SegmentRecord,
    ) -> Iterator[tuple[Pixels, Moment]]:
        """The output frames from ``first`` up to ``last``, without ``last`` itself."""
        parts = list(dict.fromkeys(moment.timestep for moment in moments if moment.new))
        new = self._made(first, last, parts, index, record) if parts else iter(())
        shown, part = first.pixels, Fraction(0)
        for moment in moments:
            if not moment.new:
                shown, part = first.pixels, Fraction(0)
            elif moment.timestep != part:  # a curve of speed may stay at one for a while
                shown, part = next(new), moment.timestep
            yield shown, moment

    def _made(
        self, first: SourceFrame, last: SourceFrame, timesteps: list[Fraction], index: int, record: SegmentRecord
    ) -> Iterator[Pixels]:
        """New frames at some times between two source frames."""
        img0 = self._second[1] if self._second is not None and self._second[0] is first else self._tensor(first)
        img1 = self._tensor(last)
        self._second = (last, img1)
        times = [float(timestep) for timestep in timesteps]
        found = self._pairs.between(img0, img1, times)
        record.confidences.append(found.confidence)
        span = (first.stamp.time, last.stamp.time)
        record.pairs.append(
            PairReport(index, *span, len(timesteps), found.way, found.reason, found.confidence, found.content)
        )
        if not found.same_scene:
            pair = UncertainPair(index, first.stamp.time, last.stamp.time, found.confidence, found.reason)
            record.uncertain.append(pair)
        if self._sheet is not None:
            self._sheet.begin(first.pixels, last.pixels, trusted=found.same_scene)
        frames = found.frames
        if self._source.info.layout.alpha:
            cover0, cover1 = (self._image(coverage(frame.pixels)) for frame in (first, last))
            frames = map(straight, frames, self._pairs.along(cover0, cover1, times))
        for frame, timestep in zip(frames, timesteps, strict=True):
            pixels = to_pixels(frame, deep=self._source.info.layout.deep)
            if self._sheet is not None:
                self._sheet.add(pixels, float(timestep))
            yield pixels

    def _tensor(self, frame: SourceFrame) -> Image:
        return self._image(composited(frame.pixels))

    def _image(self, pixels: Opaque) -> Image:
        return to_tensor(pixels, device=self._model.device, dtype=self._model.dtype)

    def _notes(self) -> Iterator[str]:
        """What had to be done differently than asked."""
        yield from self._source.notes()
        if self._gaps:
            yield f"{self._gaps} gaps of more than {float(self._max_gap or 0):g} s between frames are held, not filled"
        if apart := self._model.parts_trained_apart():
            yield (
                f"{', '.join(apart)} learned in another model than the rest: measure before you "
                "trust what they make together"
            )
        if fewer := self._model.drawn_at_once:
            yield f"memory ran out on {self._model.device}: {fewer} frames were drawn at once from then on"
