"""Interpolating a whole video with bounded memory: decode, compute and encode overlapped.

Two frames, a few new ones and the short queues between the threads are all that is held, whatever
the length of the clip. Source frames pass through untouched; they and the new frames take the same
way into the encoder. Motion is estimated once per pair of frames, then the new frames are drawn a
few timesteps at a time; if the device runs out of memory that number is halved and the work goes
on.
"""

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi._memory import is_out_of_memory
from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import Pixels, bytes_of_frame, to_pixels, to_tensor
from rdvfi.media.reader import Source, SourceFrame
from rdvfi.media.writer import Sink
from rdvfi.video.contact_sheet import ContactSheet
from rdvfi.video.pipeline import Background, Prefetch
from rdvfi.video.scenes import SceneChanges
from rdvfi.video.timing import Moment, Retiming, Stamp, schedule

Progress = Callable[[int, int], bool | None]
"""Called with the number of pairs of frames that are done and the number expected; False stops the work."""

_QUEUE = 4
"""Frames that may wait between two threads."""

_RENDER_BYTES = 2**28
"""New frames that are drawn at once: about this many bytes of float32 pixels."""


class Stopped(Exception):
    """The progress callback returned False: the work was stopped, and nothing of it is left."""


class LowConfidenceWarning(UserWarning):
    """Some pairs of frames have too little in common to be interpolated well."""


@dataclass(frozen=True)
class UncertainPair:
    """Two source frames between which the motion is not to be trusted."""

    index: int
    """Number of the first of the two."""
    start: Fraction
    """Time of the first, in seconds."""
    end: Fraction
    """Time of the second, in seconds."""
    confidence: float


@dataclass(frozen=True)
class VideoReport:
    """What was done."""

    frames_read: int
    frames_written: int
    width: int
    height: int
    seconds: float
    """Time that the work took."""
    confidence: float
    """Mean confidence of the motion over all pairs, in (0, 1]."""
    uncertain: tuple[UncertainPair, ...]
    """The pairs of low confidence."""
    chunk: int
    """Timesteps that the model was asked for at once."""
    notes: tuple[str, ...]
    """What had to be done differently than asked, and parts that were trained apart."""

    def warning(self) -> str | None:
        """One sentence on the pairs of low confidence, if there are any."""
        if not self.uncertain:
            return None
        spans = [f"{float(p.start):.2f}-{float(p.end):.2f} s" for p in self.uncertain[:5]]
        more = len(self.uncertain) - len(spans)
        return (
            f"{len(self.uncertain)} of {self.frames_read - 1} pairs of frames have too little in "
            f"common to be interpolated well (scene cut, or very large motion): "
            f"{', '.join(spans)}{f' and {more} more' if more else ''}"
        )


class Engine:
    """One run over one clip.

    Args:
        model: Makes the frames.
        source: Where frames come from.
        retiming: Where new frames are wanted.
        seed: Seed of the noise, the same for every pair.
        chunk: Timesteps asked for at once; None chooses by the frame size.
        sheet: Is shown every pair, if given.
        progress: Is told of every pair that is done; see `Progress`.
        scenes: What is shown between two frames of two scenes.
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
    ) -> None:
        info = source.info
        if min(info.width, info.height) < MINIMUM_SIDE:
            raise ValueError(
                f"{info.name} is {info.width}x{info.height} pixels; both sides must be at least {MINIMUM_SIDE}"
            )
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk is {chunk}; it must be at least 1")
        self._model = model
        self._source = source
        self._retiming = retiming
        self._seed = seed
        self._chunk = chunk or max(1, _RENDER_BYTES // bytes_of_frame(info.width, info.height))
        self._sheet = sheet
        self._progress = progress
        self._scenes = scenes or SceneChanges()
        self._pairs = info.frames - 1
        self._written = 0
        self._last: tuple[SourceFrame, Motion] | None = None
        self._confidences: list[float] = []
        self._uncertain: list[UncertainPair] = []
        self._notes: list[str] = []
        if apart := model.parts_trained_apart():
            self._notes.append(
                f"{', '.join(apart)} learned in another model than the rest: measure before you "
                "trust what they make together"
            )

    @torch.inference_mode()
    def run(self, sink: Sink) -> VideoReport:
        """Interpolate the whole clip into ``sink``."""
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
            tensors = _Tensors(self._model)
            for interval, moments in schedule(stamps(), self._retiming):
                first = held.popleft()
                read += 1
                made = iter([(first.pixels, moment) for moment in moments])
                if not interval.last:
                    made = self._between(tensors, first, held[0], moments, interval.index)
                for item in made:
                    encoder.put(item)
                if not interval.last:
                    self._tell(read)
            if read < 2:
                raise ValueError(f"{self._source.info.name} holds a single frame; at least two are needed")
            encoder.finish()
        return self._report(read, time.perf_counter() - begun)

    def _tell(self, done: int) -> None:
        """Tell the callback how far the work is.

        Raises:
            Stopped: If it returns False.
        """
        if self._progress is not None and self._progress(done, max(self._pairs, done)) is False:
            raise Stopped(f"stopped after {done} pairs of frames")

    def _between(
        self,
        tensors: "_Tensors",
        first: SourceFrame,
        last: SourceFrame,
        moments: tuple[Moment, ...],
        index: int,
    ) -> Iterator[tuple[Pixels, Moment]]:
        """The output frames from ``first`` up to ``last``, without ``last`` itself."""
        new = [moment for moment in moments if moment.timestep != 0]
        if len(new) < len(moments):
            yield first.pixels, moments[0]
        if not new:
            return
        img0, img1 = tensors.pair(first, last)
        motion = self._estimate(img0, img1, self._before(first))
        self._last = (last, motion)
        confidence = float(motion.scene.confidence[0])
        self._confidences.append(confidence)
        one_scene = bool(motion.scene.same_scene[0])
        if not one_scene:
            pair = UncertainPair(index, first.stamp.time, last.stamp.time, confidence)
            self._uncertain.append(pair)
        if self._sheet is not None:
            self._sheet.begin(first.pixels, last.pixels, trusted=one_scene)
        if one_scene:
            made = self._drawn(img0, img1, motion, new)
        else:
            made = self._across(first, last, img0, img1, new)
        for pixels, moment in made:
            if self._sheet is not None:
                self._sheet.add(pixels, float(moment.timestep))
            yield pixels, moment

    def _drawn(self, img0: Tensor, img1: Tensor, motion: Motion, new: list[Moment]) -> Iterator[tuple[Pixels, Moment]]:
        """Frames along the motion, a few at a time."""
        for start in range(0, len(new), self._chunk):
            part = new[start : start + self._chunk]
            frames = self._render(img0, img1, motion, [float(m.timestep) for m in part])
            for frame, moment in zip(frames[0], part, strict=True):
                yield self._pixels(frame), moment

    def _across(
        self,
        first: SourceFrame,
        last: SourceFrame,
        img0: Tensor,
        img1: Tensor,
        new: list[Moment],
    ) -> Iterator[tuple[Pixels, Moment]]:
        """What is shown between two scenes."""
        for moment in new:
            held = self._scenes.holds_first(float(moment.timestep))
            if held is None:
                yield self._pixels(torch.lerp(img0, img1, float(moment.timestep))[0]), moment
            else:
                yield (first if held else last).pixels, moment

    def _pixels(self, frame: Tensor) -> Pixels:
        return to_pixels(frame, deep=self._source.info.layout.deep)

    def _before(self, first: SourceFrame) -> Motion | None:
        """The motion of the pair that ends with this frame, if it was estimated."""
        if self._last is None or self._last[0] is not first:
            return None
        return self._last[1]

    def _estimate(self, img0: Tensor, img1: Tensor, after: Motion | None) -> Motion:
        try:
            threshold = self._scenes.threshold
            return self._model.estimate(img0, img1, seed=self._seed, after=after, scene_threshold=threshold)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"not enough memory on {self._model.device} to estimate the motion between two "
                "frames; free some, or use another device"
            ) from error

    def _render(self, img0: Tensor, img1: Tensor, motion: Motion, times: list[float]) -> Float[Tensor, "1 t 3 H W"]:
        """Frames at ``times``; that memory ran out and fewer are drawn at once becomes a note."""
        try:
            return self._noting(lambda: self._model.render(img0, img1, motion, times))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"not enough memory on {self._model.device} to draw a single frame of "
                f"{self._source.info.width}x{self._source.info.height}; use another device"
            ) from error

    def _noting(self, render: Callable[[], Tensor]) -> Tensor:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            frames = render()
        self._notes.extend(str(warning.message) for warning in caught)
        return frames

    def _report(self, read: int, seconds: float) -> VideoReport:
        info = self._source.info
        known = self._confidences
        return VideoReport(
            frames_read=read,
            frames_written=self._written,
            width=info.width,
            height=info.height,
            seconds=seconds,
            confidence=sum(known) / len(known) if known else 1.0,
            uncertain=tuple(self._uncertain),
            chunk=self._chunk,
            notes=tuple(self._notes),
        )


class _Tensors:
    """The two frames of a pair on the device; the second is the first of the next pair."""

    def __init__(self, model: Interpolator) -> None:
        self._model = model
        self._kept: tuple[SourceFrame, Tensor] | None = None

    def pair(self, first: SourceFrame, last: SourceFrame) -> tuple[Tensor, Tensor]:
        """Both frames as (1, 3, H, W) in [0, 1]."""
        if self._kept is not None and self._kept[0] is first:
            img0 = self._kept[1]
        else:
            img0 = self._load(first)
        img1 = self._load(last)
        self._kept = (last, img1)
        return img0, img1

    def _load(self, frame: SourceFrame) -> Tensor:
        return to_tensor(frame.pixels, device=self._model.device, dtype=self._model.dtype)
