"""`interpolate`: a clip with more frames, which are computed when VapourSynth requests them.

If source frames are numbered 0, 1, 2, ..., output frame k is at position ``k / m``, with ``m`` the multiplier,
or the new rate over the old one. A clip of n frames becomes ``ceil(n m)`` frames, so that its duration is the same
and sound remains synchronous; the last source frame is held at the end.

VapourSynth requests frames in any order, several at a time and from several threads. The motion of a pair is
estimated at the first request that needs it, and kept while its other frames are drawn. No pair depends on another,
so frames do not depend on the order of requests.

Scene changes that a previous filter has marked (``_SceneChangeNext`` on the frame before a cut, or
``_SceneChangePrev`` on the frame after it) are respected; others are detected by the confidence of the motion.
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
from rdvfi.video.model_loading import DEFAULT_MODEL, ModelLike, prepare_model
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

    Values of source frames are clamped to [0, 1] for interpolation; source frames themselves are passed unchanged.

    Args:
        clip: A clip in format RGBS or RGBH, of constant size.
        multiplier: Output frames per source frame, such as 2, 2.5 or "5/2"; 2 if neither it nor fps_num is given.
        fps_num: Numerator of the new frame rate, instead of a multiplier; the clip must have a constant rate.
        fps_den: Denominator of the new frame rate.
        model: A name or folder for `rdvfi.create_model`, or a model.
        seed: Seed of the noise, the same for every pair.
        device: Device of a named model; CUDA if available, else the CPU.
        dtype: Type of a named model; float16 on CUDA, float32 elsewhere.
        workers: Maximum number of frames computed at the same time.
        on_scene_change: Frames between two scenes: ``hold_previous``, ``hold_nearest`` or ``blend``.
        scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames belong to two scenes;
            with 0 only marked changes count.
        allow_untrained: Accept a model with untrained learned parts.

    Raises:
        ValueError: If the clip or an option is unusable; the message says what is expected.
    """
    _check_clip(clip)
    factor = _frame_factor(clip, multiplier, fps_num, fps_den)
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    scenes = scene_changes(on_scene_change, scene_threshold)
    ready = prepare_model(model, device, dtype, allow_untrained=allow_untrained)
    return _InterpolatedClip(clip, factor, _FrameRenderer(ready, seed, workers, scenes)).node()


def _check_clip(clip: Any) -> None:
    vs: Any = importlib.import_module("vapoursynth")  # the module of the running script
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


def _frame_factor(clip: Any, multiplier: SupportsFloat | str | None, fps_num: int | None, fps_den: int) -> Fraction:
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
        raise ValueError(f"{name}; expected more than 0, and fewer than 2^31 output frames")
    return factor


@dataclass(frozen=True)
class _InterpolatedClip:
    """The output of one call of `interpolate`."""

    clip: Any
    factor: Fraction
    frames: "_FrameRenderer"

    def node(self) -> Any:
        """The output clip; no frame is computed yet."""
        count = math.ceil(self.clip.num_frames * self.factor)
        rate = self.clip.fps * self.factor
        blank = self.clip.std.BlankClip(
            length=count, fpsnum=rate.numerator, fpsden=rate.denominator if rate else 1, keep=True
        )
        return blank.std.FrameEval(lambda n: self._frame_clip(n, blank))

    def _frame_clip(self, n: int, blank: Any) -> Any:
        position = n / self.factor
        index = min(math.floor(position), self.clip.num_frames - 1)
        last = index == self.clip.num_frames - 1
        time = Fraction(0) if last else position - index
        sources = [index] if not time else [index, index + 1]
        repeated = [self.clip[i].std.Loop(times=blank.num_frames) for i in sources]

        def select(n: int, f: Any) -> Any:
            source_frames = f if isinstance(f, list) else [f]
            frame = source_frames[0].copy()
            if time:
                self.frames.draw(index, float(time), source_frames, frame)
            self._set_properties(frame, source_frames[0], position, (n + 1) / self.factor)
            return frame

        return blank.std.ModifyFrame(repeated, select)

    def _set_properties(self, frame: Any, first: Any, position: Fraction, next_position: Fraction) -> None:
        """Set duration, absolute time and scene changes of a frame from the properties of the source frame before."""
        index = math.floor(position)
        if _NUM in first.props and _DEN in first.props:
            duration = Fraction(int(first.props[_NUM]), int(first.props[_DEN])) / self.factor
            frame.props[_NUM], frame.props[_DEN] = duration.numerator, duration.denominator
            if _TIME in first.props:
                frame.props[_TIME] = float(first.props[_TIME]) + float(duration * self.factor * (position - index))
        if position != index and _PREVIOUS in frame.props:
            frame.props[_PREVIOUS] = 0
        if next_position < index + 1 and _NEXT in frame.props:
            frame.props[_NEXT] = 0


@dataclass
class _PairMotion:
    """The motion of a pair of frames, once it has been estimated."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    motion: Motion | None = None


class _FrameRenderer:
    """Draws frames for all threads of VapourSynth.

    Args:
        model: The model.
        seed: Seed of the noise.
        workers: Maximum number of frames at the same time.
        scenes: The handling of scene changes.
    """

    def __init__(self, model: Interpolator, seed: int, workers: int, scenes: SceneChanges) -> None:
        self._model, self._seed, self._scenes = model, seed, scenes
        self._slots = threading.Semaphore(workers)
        self._pairs: OrderedDict[int, _PairMotion] = OrderedDict()
        self._max_pairs = 2 * workers + 2
        self._pairs_lock = threading.Lock()

    @torch.inference_mode()
    def draw(self, index: int, time: float, sources: list[Any], output: Any) -> None:
        """Write the frame at ``time`` between two source frames into ``output``."""
        if sources[0].props.get(_NEXT) == 1 or sources[1].props.get(_PREVIOUS) == 1:
            if self._scenes.holds:
                return self._write_held(time, sources, output)
            return _write_planes(output, _blend(_read_planes(sources[0]), _read_planes(sources[1]), time))
        with self._slots:
            first, last = (self._to_tensor(frame) for frame in sources)
            motion = self._motion(index, first, last)
            if self._scenes.holds and not bool(motion.scene.same_scene[0]):
                return self._write_held(time, sources, output)
            frame = self._model.render(first, last, motion, [time])[0, 0]
            return _write_planes(output, frame.float().cpu().numpy())

    def _write_held(self, time: float, sources: list[Any], output: Any) -> None:
        """Write the source frame that is held at ``time``; ``output`` is a copy of the first one."""
        if not self._scenes.holds_first(time):
            _write_planes(output, _read_planes(sources[1]))

    def _to_tensor(self, frame: Any) -> Image:
        pixels = torch.from_numpy(_read_planes(frame).clip(0.0, 1.0))[None]
        return pixels.to(self._model.device, self._model.dtype)

    def _motion(self, index: int, first: Image, last: Image) -> Motion:
        with self._pairs_lock:
            pair = self._pairs.setdefault(index, _PairMotion())
            self._pairs.move_to_end(index)
            while len(self._pairs) > self._max_pairs:
                self._pairs.popitem(last=False)
        with pair.lock:
            if pair.motion is None:
                pair.motion = self._model.estimate(first, last, seed=self._seed, scene_threshold=self._scenes.threshold)
            return pair.motion


def _read_planes(frame: Any) -> np.ndarray:
    """The planes of a frame as float32, (3, H, W)."""
    return np.stack([np.asarray(frame[plane]) for plane in range(3)]).astype(np.float32)


def _write_planes(frame: Any, pixels: np.ndarray) -> None:
    for plane in range(3):
        target = np.asarray(frame[plane])
        np.copyto(target, pixels[plane].astype(target.dtype))


def _blend(first: np.ndarray, last: np.ndarray, time: float) -> np.ndarray:
    return first + np.float32(time) * (last - first)
