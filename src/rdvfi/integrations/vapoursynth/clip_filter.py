"""`interpolate`: a clip in, a clip with more frames out, made when they are asked for.

If source frames are counted 0, 1, 2, ..., output frame k shows what lies at ``k / m``, with ``m`` the multiplier,
or the new rate over the old one. A clip of n frames gives ``ceil(n m)``, so that it lasts as long as before
and sound stays with it; after the last source frame that frame is held.

VapourSynth asks for frames in any order, several at a time and from several threads. A pair's motion is
estimated once, by whoever needs it first, and kept while neighbours are drawn; no pair depends on another, so a
frame is the same in whatever order it is asked for.

Scene changes that a filter before this one marked (``_SceneChangeNext`` on the frame before a cut, or
``_SceneChangePrev`` on the one after it) are obeyed; others are found by the confidence of the motion.
"""

import importlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, SupportsFloat

import numpy as np
import torch

from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator
from rdvfi.types import Image
from rdvfi.video.ready import DEFAULT_MODEL, ModelLike, ready_model
from rdvfi.video.scene_changes import SceneChanges, scene_changes
from rdvfi.video.timing import exact_number

_PREVIOUS, _NEXT = "_SceneChangePrev", "_SceneChangeNext"
_NUM, _DEN, _TIME = "_DurationNum", "_DurationDen", "_AbsoluteTime"


def interpolate(
    clip: Any,
    multiplier: SupportsFloat | str | None = None,
    *,
    fps_num: int | None = None,
    fps_den: int = 1,
    model: ModelLike = DEFAULT_MODEL,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    workers: int = 1,
    on_scene_change: str = "hold_previous",
    scene_threshold: float | None = None,
    allow_untrained: bool = False,
) -> Any:
    """A ``vapoursynth.VideoNode`` with more frames per second, and the same format and size.

    New frames are made of values in [0, 1]; source frames pass as they are.

    Args:
        clip: RGBS or RGBH, of one size.
        multiplier: New frames per source frame; whole or not, as 2, 2.5 or "5/2". 2 if nothing is given.
        fps_num: Instead: the new frame rate's numerator. The clip needs a constant rate then.
        fps_den: Its denominator.
        model: A name or folder for `rdvfi.create_model`, or a model.
        seed: Seed of the noise, the same for every pair.
        device: Where a named model runs; CUDA if there is a device, else the CPU.
        dtype: Type of a named model; float16 on CUDA, float32 elsewhere.
        workers: Frames that are made at the same time.
        on_scene_change: What is shown between two scenes: ``hold_previous``, ``hold_nearest`` or ``blend``.
        scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames are of two scenes;
            at 0 only marked changes count.
        allow_untrained: Accept a model with untrained learned parts.

    Raises:
        ValueError: If the clip or an option is unusable; the message says what is expected.
    """
    _check(clip)
    factor = _factor(clip, multiplier, fps_num, fps_den)
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    scenes = scene_changes(on_scene_change, scene_threshold)
    ready = ready_model(model, device, dtype, allow_untrained=allow_untrained)
    return _Filter(clip, factor, _Frames(ready, seed, workers, scenes)).node()


def _check(clip: Any) -> None:
    """Raises:
    ValueError: If it is no clip whose frames a model takes.
    """
    vs: Any = importlib.import_module("vapoursynth")  # as it is where the script runs
    if not isinstance(clip, vs.VideoNode):
        raise ValueError(f"clip is of type {type(clip).__name__}; expected a vapoursynth.VideoNode")
    if clip.format is None or clip.width == 0 or clip.height == 0:
        raise ValueError("clip changes its format or size from frame to frame; resize it to one, as RGBS or RGBH")
    if clip.format.id not in (vs.RGBS, vs.RGBH):
        raise ValueError(
            f"clip is {clip.format.name}; expected RGBS or RGBH: clip.resize.Bicubic(format=vs.RGBS), with "
            'matrix_in_s="709" or what the video has if it is YUV'
        )
    if min(clip.width, clip.height) < 16:
        raise ValueError(f"clip is {clip.width}x{clip.height} pixels; both sides must be at least 16")


def _factor(clip: Any, multiplier: SupportsFloat | str | None, fps_num: int | None, fps_den: int) -> Fraction:
    """Output frames per source frame."""
    if fps_num is None:
        factor = Fraction(2) if multiplier is None else exact_number("multiplier", multiplier)
        name = f"multiplier is {factor}"
    else:
        if multiplier is not None:
            raise ValueError("give either multiplier or fps_num, not both")
        if not clip.fps:
            raise ValueError("clip has no constant frame rate, which fps_num needs; give multiplier instead")
        if fps_num < 1 or fps_den < 1:
            raise ValueError(f"fps_num / fps_den is {fps_num} / {fps_den}; both must be at least 1")
        factor = Fraction(fps_num, fps_den) / clip.fps
        name = f"the new rate is {float(factor):.4g} times the old one"
    if factor <= 0 or math.ceil(clip.num_frames * factor) > 2**31 - 1:
        raise ValueError(f"{name}; expected more than 0, and fewer than 2^31 frames that come out")
    return factor


@dataclass(frozen=True)
class _Filter:
    """The nodes of one call."""

    clip: Any
    factor: Fraction
    frames: "_Frames"

    def node(self) -> Any:
        """The clip that comes out; no frame is made yet."""
        count = math.ceil(self.clip.num_frames * self.factor)
        rate = self.clip.fps * self.factor
        blank = self.clip.std.BlankClip(
            length=count, fpsnum=rate.numerator, fpsden=rate.denominator if rate else 1, keep=True
        )
        return blank.std.FrameEval(lambda n: self._shown(n, blank))

    def _shown(self, n: int, blank: Any) -> Any:
        """A clip whose frame ``n`` is the output's."""
        place = n / self.factor
        index = min(math.floor(place), self.clip.num_frames - 1)
        last = index == self.clip.num_frames - 1
        time = Fraction(0) if last else place - index
        sources = [index] if not time else [index, index + 1]
        repeated = [self.clip[i].std.Loop(times=blank.num_frames) for i in sources]

        def select(n: int, f: Any) -> Any:
            found = f if isinstance(f, list) else [f]
            made = found[0].copy()
            if time:
                self.frames.draw(index, float(time), found, made)
            self._mark(made, found[0], place, (n + 1) / self.factor)
            return made

        return blank.std.ModifyFrame(repeated, select)

    def _mark(self, made: Any, first: Any, place: Fraction, after: Fraction) -> None:
        """Properties that belong to the time: how long, when, and where the scene changes."""
        index = math.floor(place)
        if _NUM in first.props and _DEN in first.props:
            duration = Fraction(int(first.props[_NUM]), int(first.props[_DEN])) / self.factor
            made.props[_NUM], made.props[_DEN] = duration.numerator, duration.denominator
            if _TIME in first.props:
                made.props[_TIME] = float(first.props[_TIME]) + float(duration * self.factor * (place - index))
        if place != index and _PREVIOUS in made.props:
            made.props[_PREVIOUS] = 0
        if after < index + 1 and _NEXT in made.props:
            made.props[_NEXT] = 0


@dataclass
class _PairMotion:
    """Two frames, and their motion once somebody needed it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    motion: Motion | None = None


class _Frames:
    """Makes frames for all threads of VapourSynth.

    Args:
        model: Makes them.
        seed: Of the noise.
        workers: Frames at the same time.
        scenes: What is shown between two scenes.
    """

    def __init__(self, model: Interpolator, seed: int, workers: int, scenes: SceneChanges) -> None:
        self._model, self._seed, self._scenes = model, seed, scenes
        self._slots = threading.Semaphore(workers)
        self._pairs: OrderedDict[int, _PairMotion] = OrderedDict()
        self._kept = 2 * workers + 2
        self._keeping = threading.Lock()

    @torch.inference_mode()
    def draw(self, index: int, time: float, sources: list[Any], made: Any) -> None:
        """Write the frame at ``time`` between two source frames into ``made``."""
        if sources[0].props.get(_NEXT) == 1 or sources[1].props.get(_PREVIOUS) == 1:
            if self._scenes.holds:
                return self._hold(time, sources, made)
            return _write(made, _blend(_read(sources[0]), _read(sources[1]), time))
        with self._slots:
            first, last = (self._image(frame) for frame in sources)
            motion = self._motion(index, first, last)
            if self._scenes.holds and not bool(motion.scene.same_scene[0]):
                return self._hold(time, sources, made)
            frame = self._model.render(first, last, motion, [time])[0, 0]
            return _write(made, frame.float().cpu().numpy())

    def _hold(self, time: float, sources: list[Any], made: Any) -> None:
        if not self._scenes.holds_first(time):
            _write(made, _read(sources[1]))

    def _image(self, frame: Any) -> Image:
        pixels = torch.from_numpy(_read(frame).clip(0.0, 1.0))[None]
        return pixels.to(self._model.device, self._model.dtype)

    def _motion(self, index: int, first: Image, last: Image) -> Motion:
        with self._keeping:
            pair = self._pairs.setdefault(index, _PairMotion())
            self._pairs.move_to_end(index)
            while len(self._pairs) > self._kept:
                self._pairs.popitem(last=False)
        with pair.lock:
            if pair.motion is None:
                pair.motion = self._model.estimate(first, last, seed=self._seed, scene_threshold=self._scenes.threshold)
            return pair.motion


def _read(frame: Any) -> np.ndarray:
    """The planes of a frame as float32, (3, H, W)."""
    return np.stack([np.asarray(frame[plane]) for plane in range(3)]).astype(np.float32)


def _write(frame: Any, pixels: np.ndarray) -> None:
    for plane in range(3):
        target = np.asarray(frame[plane])
        np.copyto(target, pixels[plane].astype(target.dtype))


def _blend(first: np.ndarray, last: np.ndarray, time: float) -> np.ndarray:
    return first + np.float32(time) * (last - first)
