"""Interpolating a whole video with bounded memory: decode, compute and encode overlapped.

Two frames, a few new ones and the short queues between the threads are all that is held, whatever
the length of the clip. Source frames pass through untouched; they and the new frames take the same
way into the encoder.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction

import torch

from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import Pixels, to_pixels, to_tensor
from rdvfi.media.reader import Source, SourceFrame
from rdvfi.media.writer import Sink
from rdvfi.types import Image
from rdvfi.video.contact_sheet import ContactSheet
from rdvfi.video.frames_between import Pairs
from rdvfi.video.job_report import UncertainPair, VideoReport
from rdvfi.video.pipeline import Background, Prefetch
from rdvfi.video.scene_changes import SceneChanges
from rdvfi.video.timing import Moment, Retiming, Stamp, schedule

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
    ) -> None:
        info = source.info
        if min(info.width, info.height) < MINIMUM_SIDE:
            raise ValueError(
                f"{info.name} is {info.width}x{info.height} pixels; both sides must be at least {MINIMUM_SIDE}"
            )
        self._model = model
        self._pairs = Pairs(model, seed=seed, chunk=chunk, scenes=scenes)
        self._source = source
        self._retiming = retiming
        self._sheet = sheet
        self._progress = progress
        self._max_gap = max_gap
        self._gaps = 0
        self._written = 0
        self._second: tuple[SourceFrame, Image] | None = None
        self._confidences: list[float] = []
        self._uncertain: list[UncertainPair] = []

    @torch.inference_mode()
    def run(self, sink: Sink) -> VideoReport:
        """Interpolate the whole clip into ``sink``.

        Raises:
            ValueError: If the source holds a single frame, or is damaged.
            MemoryError: If not even one frame fits into the device's memory.
            Stopped: If ``progress`` returned False.
        """
        begun = time.perf_counter()
        read = 0
        held: deque[SourceFrame] = deque()

        def write(item: tuple[Pixels, Moment]) -> None:
            sink.write(*item)
            self._written += 1

        with ExitStack() as stack:
            frames = stack.enter_context(Prefetch(self._source.frames(), _QUEUE))
            encoder = stack.enter_context(Background(write, _QUEUE))

            def stamps() -> Iterator[Stamp]:
                for frame in frames:
                    held.append(frame)
                    yield frame.stamp

            self._tell(0)
            for interval, moments in schedule(stamps(), self._retiming, max_gap=self._max_gap):
                first = held.popleft()
                read += 1
                gap = self._max_gap is not None and interval.end - interval.start > self._max_gap
                self._gaps += gap and not interval.last
                if interval.last or gap:
                    shown = ((first.pixels, moment) for moment in moments)
                else:
                    shown = self._between(first, held[0], tuple(moments), interval.index)
                for item in shown:
                    encoder.put(item)
                if not interval.last:
                    self._tell(read)
            if read < 2:
                raise ValueError(f"{self._source.info.name} holds a single frame; at least two are needed")
            encoder.finish()
        return self._report(read, time.perf_counter() - begun)

    def _tell(self, done: int) -> None:
        """Tell the callback how far the work is."""
        expected = max(self._source.info.frames - 1, done)
        if self._progress is not None and self._progress(done, expected) is False:
            raise Stopped(f"stopped after {done} pairs of frames")

    def _between(
        self, first: SourceFrame, last: SourceFrame, moments: tuple[Moment, ...], index: int
    ) -> Iterator[tuple[Pixels, Moment]]:
        """The output frames from ``first`` up to ``last``, without ``last`` itself."""
        new = [moment for moment in moments if moment.timestep != 0]
        if len(new) < len(moments):
            yield first.pixels, moments[0]
        if not new:
            return
        img0 = self._second[1] if self._second is not None and self._second[0] is first else self._tensor(first)
        img1 = self._tensor(last)
        self._second = (last, img1)
        found = self._pairs.between(img0, img1, [float(moment.timestep) for moment in new])
        self._confidences.append(found.confidence)
        if not found.same_scene:
            pair = UncertainPair(index, first.stamp.time, last.stamp.time, found.confidence, found.reason)
            self._uncertain.append(pair)
        if self._sheet is not None:
            self._sheet.begin(first.pixels, last.pixels, trusted=found.same_scene)
        for frame, moment in zip(found.frames, new, strict=True):
            pixels = to_pixels(frame, deep=self._source.info.layout.deep)
            if self._sheet is not None:
                self._sheet.add(pixels, float(moment.timestep))
            yield pixels, moment

    def _tensor(self, frame: SourceFrame) -> Image:
        return to_tensor(frame.pixels, device=self._model.device, dtype=self._model.dtype)

    def _report(self, read: int, seconds: float) -> VideoReport:
        info = self._source.info
        trust = self._confidences
        return VideoReport(
            frames_read=read,
            frames_written=self._written,
            width=info.width,
            height=info.height,
            seconds=seconds,
            confidence=sum(trust) / len(trust) if trust else 1.0,
            uncertain=tuple(self._uncertain),
            notes=tuple(self._notes()),
        )

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
