"""`interpolate_frames`: lazy interpolation of any iterable of frames."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import SupportsFloat, TypeVar

import torch

from rdvfi import _inputs
from rdvfi.interpolator import Interpolator
from rdvfi.video.frame_kinds import FrameKind, frame_kind
from rdvfi.video.model_loading import DEFAULT_MODEL, DEFAULT_MULTIPLIER, ModelLike, prepare_model
from rdvfi.video.pair_interpolation import PairInterpolator
from rdvfi.video.scene_changes import scene_changes
from rdvfi.video.timing import Multiply, exact_number

Frame = TypeVar("Frame")

_MAX_MULTIPLIER = 1_000_000
"""Larger multipliers are taken for mistakes."""


def interpolate_frames(
    frames: Iterable[Frame],
    *,
    multiplier: SupportsFloat | None = None,
    timesteps: Sequence[float] | torch.Tensor | None = None,
    model: ModelLike = DEFAULT_MODEL,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    chunk: int | None = None,
    allow_untrained: bool = False,
    on_scene_change: str = "blend",
    scene_threshold: float | None = None,
) -> Iterator[Frame]:
    """Interpolate a stream of frames lazily; new frames are of the same kind as those of the stream.

    A frame is taken from ``frames`` when it is needed. Only two of them and a few new ones are held at a time, so the
    stream may be endless; the work stops with the iteration.

    Args:
        frames: At least two frames of one kind and size: NumPy arrays (H, W, 3) of 8 or 16 bits;
            PIL images, RGB or grey; or tensors (3, H, W) or (1, 3, H, W), floats in [0, 1] or 8-bit.
        multiplier: n frames become (n - 1) * multiplier + 1; 8 if nothing is given.
        timesteps: Instead of a multiplier, times in (0, 1) of the new frames of every pair.
        model: A name or folder for `create_model`, or a model.
        seed: Seed of the noise.
        device: Where a named model runs; CUDA if there is a device, else the CPU.
        dtype: Type of a named model; float16 on CUDA, float32 elsewhere.
        chunk: Frames rendered at once; chosen by their size if not given.
        allow_untrained: Accept a model with untrained learned parts.
        on_scene_change: What is shown between two scenes: ``blend``, ``hold_previous`` or
            ``hold_nearest``.
        scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames are taken
            to be of two scenes; at 0 every pair is interpolated. 0.4 if not given.

    Returns:
        An iterator. Frames of the input are passed on as they are; new tensors are on the device of
        the input.

    Raises:
        ValueError: At once if an option is unusable; while iterating if there are fewer than two
            frames, or one that is not like the first.
        TypeError: While iterating, if the first frame is of an unknown kind.
        MemoryError: While iterating, if not even one frame fits into the device's memory.
    """
    if not isinstance(frames, Iterable):
        raise TypeError(f"frames is of type {type(frames).__name__}; an iterable of frames is expected")
    times = _read_timesteps(multiplier, timesteps)
    scenes = scene_changes(on_scene_change, scene_threshold)
    prepared = prepare_model(model, device, dtype, allow_untrained=allow_untrained)
    pairs = PairInterpolator(prepared, seed=seed, chunk=chunk, scenes=scenes)
    return _interpolate_stream(iter(frames), times, prepared, pairs)


def _read_timesteps(multiplier: SupportsFloat | None, timesteps: Sequence[float] | torch.Tensor | None) -> list[float]:
    if timesteps is None:
        times = Multiply(
            exact_number("multiplier", DEFAULT_MULTIPLIER if multiplier is None else multiplier)
        ).multiplier
        if times > _MAX_MULTIPLIER:
            raise ValueError(f"multiplier is {multiplier!r}; at most {_MAX_MULTIPLIER} frames are made of one")
        if times.denominator != 1:
            raise ValueError(f"multiplier is {multiplier!r}; it must be a whole number, for every frame is passed on")
        return [j / int(times) for j in range(1, int(times))]
    if multiplier is not None:
        raise ValueError("give either multiplier or timesteps, not both")
    times = _inputs.read_times(timesteps, torch.device("cpu")).tolist()
    marks = [0.0, *times, 1.0]
    wrong = next((b if b < 1.0 else a for a, b in pairwise(marks) if b <= a), None)
    if wrong is not None:
        raise ValueError(f"timesteps must rise between 0 and 1, where the frames themselves are; {wrong:g} does not")
    return times


def _interpolate_stream(
    frames: Iterator[Frame], times: list[float], model: Interpolator, pairs: PairInterpolator
) -> Iterator[Frame]:
    first, second = next(frames, None), next(frames, None)
    if first is None or second is None:
        count = "no frame" if first is None else "a single frame"
        raise ValueError(f"frames holds {count}; at least two are needed")
    kind = frame_kind(first)
    img0 = kind.to_image(first, 0, model)
    yield first
    for number, last in enumerate(chain((second,), frames), start=1):
        img1 = kind.to_image(last, number, model)
        yield from _new_frames(pairs, kind, img0, img1, times)
        yield last
        img0 = img1


def _new_frames(
    pairs: PairInterpolator, kind: FrameKind, img0: torch.Tensor, img1: torch.Tensor, times: list[float]
) -> Iterator:
    """The new frames of one pair; inference mode is off while the caller has control."""
    if not times:
        return
    with torch.inference_mode():
        frames = pairs.interpolate(img0, img1, times).frames
    while True:
        with torch.inference_mode():
            frame = next(frames, None)
        if frame is None:
            return
        yield kind.from_image(frame)
