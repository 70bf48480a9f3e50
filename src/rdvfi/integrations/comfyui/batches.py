"""Interpolation of ComfyUI's image batches, (n, H, W, 3) in [0, 1].

The result is allocated once and filled frame by frame; only two frames and a few new ones are on the model's device.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import to_pixels
from rdvfi.serve.motion_layers import Layer, PointPaths, draw_layer, flow_scale
from rdvfi.video.pair_interpolation import PairInterpolator
from rdvfi.video.scene_changes import SceneChanges

Batch = Float[Tensor, "n H W c"]
Progress = Callable[[int, int], object]
"""Called with the number of pairs that are done, and the number of all pairs."""


def check_batch(images: Tensor) -> None:
    """Raise ValueError unless images are a batch of at least two RGB images that a model can interpolate."""
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[-1] != 3:
        raise ValueError(f"images are of shape {shape}; expected (frames, height, width, 3)")
    if shape[0] < 2:
        raise ValueError("images holds a single frame; at least two are needed")
    if min(shape[1:3]) < MINIMUM_SIDE:
        raise ValueError(f"images are {shape[2]}x{shape[1]} pixels; both sides must be at least {MINIMUM_SIDE}")


def interpolate_batch(
    images: Batch, factor: Fraction, model: Interpolator, *, seed: int, scenes: SceneChanges, progress: Progress
) -> Float[Tensor, "m H W c"]:
    """Frames at 0, 1 / factor, 2 / factor, ... up to the last, where source frames are numbered 0, 1, 2, ...

    Args:
        images: At least two frames.
        factor: Output frames per source frame.
        model: The model.
        seed: Seed of the noise.
        scenes: The handling of scene changes.
        progress: Called before every pair, and at the end.

    Raises:
        ValueError: If a model cannot interpolate the images, or the factor is not above 0.
    """
    check_batch(images)
    if factor <= 0:
        raise ValueError(f"multiplier is {float(factor):g}; it must be greater than 0")
    pairs, count = len(images) - 1, math.floor((len(images) - 1) * factor) + 1
    output = images.new_empty((count, *images.shape[1:]))
    interpolator = PairInterpolator(model, seed=seed, scenes=scenes)
    first = None
    for index in range(pairs):
        progress(index, pairs)
        numbers = range(math.ceil(index * factor), min(count, math.ceil((index + 1) * factor)))
        first = _to_tensor(images[index], model) if first is None else first
        last = _to_tensor(images[index + 1], model)
        times = [float(k / factor - index) for k in numbers if k / factor != index]
        frames = interpolator.interpolate(first, last, times).frames if times else iter(())
        for k in numbers:
            output[k] = images[index] if k / factor == index else next(frames).permute(1, 2, 0)
        first = last
    if (count - 1) / factor == pairs:
        output[-1] = images[-1]
    progress(pairs, pairs)
    return output


def preview_motion(
    images: Batch, model: Interpolator, layer: Layer, *, paths: bool, steps: int
) -> Float[Tensor, "m H W 3"]:
    """The first two images and ``steps`` frames between them, overlaid with a layer and the paths of points."""
    check_batch(images)
    first, last = (_to_tensor(image, model) for image in images[:2])
    motion = model.estimate(first, last)
    trajectory = motion.trajectory
    longest = flow_scale(trajectory, torch.zeros(1, device=model.device))
    point_paths = PointPaths.from_trajectory(trajectory, (images.shape[1], images.shape[2]), model.device)
    previews = []
    for time in torch.linspace(0.0, 1.0, steps + 2).tolist():
        picture = to_pixels(model.render(first, last, motion, [time])[0, 0], deep=False)
        picture = draw_layer(picture, trajectory, layer, torch.tensor([time], device=model.device), longest)
        previews.append(torch.from_numpy(point_paths.draw(picture, time) if paths else picture))
    return torch.stack(previews).float() / 255.0


def _to_tensor(frame: Float[Tensor, "H W 3"], model: Interpolator) -> Float[Tensor, "1 3 H W"]:
    pixels = frame.clamp(0.0, 1.0).permute(2, 0, 1)[None]
    return pixels.to(model.device, model.dtype).contiguous()
