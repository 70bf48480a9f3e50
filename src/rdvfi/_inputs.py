"""Validation of the arguments of `Interpolator`, and of other public functions.

Every message says the name, what was got and what is expected.
"""

import numbers
import operator
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.types import Times, Timesteps

_TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""Types of images: those that torch computes with."""
_SLACK = 0.01
"""Tolerance around [0, 1], since resampling overshoots."""


def check_pair(img0: Tensor, img1: Tensor, device: torch.device) -> None:
    """Both frames are float RGB batches of one shape, of one type, on the model's device."""
    for name, image in (("img0", img0), ("img1", img1)):
        check_frame(name, image, device)
    if img0.shape != img1.shape:
        raise ValueError(f"img0 and img1 must have the same shape; got {tuple(img0.shape)} and {tuple(img1.shape)}")
    if img0.dtype != img1.dtype:
        raise ValueError(f"img0 and img1 must have the same type; got {img0.dtype} and {img1.dtype}")


def check_frame(name: str, image: Tensor, device: torch.device) -> None:
    """One batch of frames has a shape, a type and a device that the model can work on."""
    if not isinstance(image, Tensor) or image.is_nested:
        what = type(image).__name__ if not isinstance(image, Tensor) else "nested tensor"
        raise ValueError(f"{name} must be a tensor of shape (B, 3, H, W); got a {what}")
    shape = tuple(image.shape)
    if image.dim() != 4 or shape[1] != 3 or shape[0] < 1:
        raise ValueError(f"{name} must have shape (B, 3, H, W); got {shape}")
    if image.dtype not in _TYPES or image.layout is not torch.strided:
        what = image.dtype if image.layout is torch.strided else image.layout
        raise ValueError(f"{name} must hold floats in [0, 1]; got {what} (for 8-bit images: {name}.float() / 255)")
    if min(shape[-2:]) < MINIMUM_SIDE:
        raise ValueError(
            f"{name} must be at least {MINIMUM_SIDE} pixels high and wide; got {shape[-2]} high and {shape[-1]} wide"
        )
    if image.device != device:
        raise ValueError(f"{name} is on {image.device} but the model is on {device}")


def _is_readable(tensor: Tensor) -> bool:
    """Whether values may be read: not while a graph is traced or captured, nor on the meta device."""
    if torch.compiler.is_compiling() or tensor.is_meta:
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def check_values(name: str, image: Tensor) -> None:
    """Check that all values are in [0, 1] and none is NaN. Waits for the device."""
    if not _is_readable(image):
        return
    low, high = (float(value) for value in image.detach().aminmax())
    if not (low >= -_SLACK and high <= 1.0 + _SLACK):
        raise ValueError(f"{name} must hold values in [0, 1]; got {low:g} to {high:g}")


def check_count(name: str, value: int) -> None:
    """A whole number of at least 1; raises ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1")


def read_device(device: str | torch.device) -> torch.device:
    """The device of this name, if it is available.

    Raises:
        ValueError: If torch knows no such name, or there is no CUDA device.
    """
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {device!r}; expected a name such as cpu or cuda:0") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ValueError(f"device is {str(device)!r}, but {found or 'no'} CUDA devices are available")
    if place.type == "cuda" and (reason := _why_no_cuda()):
        raise ValueError(f"device is {str(device)!r}, which cannot be used here: {reason}")
    return place


def _why_no_cuda() -> str | None:
    """What torch says of CUDA devices that it sees and cannot use, as with a driver that is too old; None if it can."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None


def check_dtype(dtype: torch.dtype) -> None:
    """A type that models compute in; raises ValueError if it is none."""
    if dtype not in _TYPES:
        raise ValueError(f"dtype must be torch.float32, float16, bfloat16 or float64; got {dtype!r}")


def check_threshold(threshold: float) -> None:
    """A confidence in [0, 1]; raises ValueError if it is none."""
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not (number and 0.0 <= threshold <= 1.0):
        raise ValueError(f"scene_threshold must be a number in [0, 1]; got {threshold!r}")


def check_scene(threshold: float | None, same_scene: bool | Tensor | None, batch: int, device: torch.device) -> None:
    """Validate the scene threshold in [0, 1], or the scene decision per pair."""
    if threshold is not None:
        check_threshold(threshold)
    if same_scene is None or isinstance(same_scene, bool):
        return
    expected = f"same_scene must be True, False or a boolean tensor of shape ({batch},) on {device}"
    if not isinstance(same_scene, Tensor):
        raise ValueError(f"{expected}; got {same_scene!r}")
    if same_scene.dtype != torch.bool or tuple(same_scene.shape) != (batch,) or same_scene.device != device:
        got = f"{same_scene.dtype} of shape {tuple(same_scene.shape)} on {same_scene.device}"
        raise ValueError(f"{expected}; got {got}")


def check_static(static: Tensor | None, images: Tensor) -> None:
    """Static pixels: a boolean tensor of the images' size, on their device."""
    if static is None:
        return
    shape = (len(images), 1, *images.shape[-2:])
    if not isinstance(static, Tensor):
        raise ValueError(f"static must be a boolean tensor of shape {shape}; got a {type(static).__name__}")
    if static.dtype != torch.bool or tuple(static.shape) != shape or static.device != images.device:
        raise ValueError(
            f"static must be a boolean tensor of shape {shape} on {images.device}; got {static.dtype} of shape "
            f"{tuple(static.shape)} on {static.device}"
        )


def read_times(timesteps: Timesteps, device: torch.device) -> Times:
    """Timesteps as a float32 tensor on ``device``; all must be in [0, 1].

    A number is one timestep. Lists, NumPy arrays and tensors on the CPU are read without waiting for
    the device. A tensor that is on the device already costs one wait, except where a graph is traced or
    captured: there it is not checked.
    """
    expected = "timesteps must be a number in [0, 1], a list of them, or a 1-D array or tensor"
    if isinstance(timesteps, Tensor):
        times = timesteps.detach()
        if times.layout is not torch.strided or times.is_nested or times.is_quantized or times.is_complex():
            raise ValueError(f"{expected}; got a tensor of {times.dtype}, {times.layout}")
        times = times.float() if times.is_floating_point() and times.dtype not in _TYPES else times
    else:
        times = _listed(timesteps, expected)
    if times.dtype == torch.bool:
        raise ValueError(f"{expected}; got {timesteps!r}")
    if times.dim() > 1:
        raise ValueError(f"{expected}; got shape {tuple(times.shape)}")
    if times.is_meta and device.type != "meta":
        raise ValueError(f"{expected}; got a tensor on meta, which has no values")
    times = times.reshape(-1)
    if _is_readable(times):
        inside = (times >= 0) & (times <= 1)  # false for NaN
        if not bool(inside.all()):
            raise ValueError(f"{expected}; got {times[~inside][0].item()!r}")
    times = times.to(torch.float32)
    return times.to(device, non_blocking=times.device.type == "cpu")


def _listed(timesteps: object, expected: str) -> Float[Tensor, "..."]:
    """Numbers that are no tensor; text and truth values are no numbers."""
    try:
        array = np.asarray(timesteps)
        if array.dtype.kind not in "iufO":
            raise TypeError
        if array.dtype.kind == "O":  # fractions and the like; NumPy makes a number of None too
            array = np.array([float(value) for value in array.reshape(-1)]).reshape(array.shape)
        return torch.tensor(array.astype(np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected}; got {timesteps!r}") from error


def draw_noise(
    shape: tuple[int, ...],
    *,
    seed: SupportsIndex = 0,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    on_meta: bool = False,
) -> Float[Tensor, "b n c hz wz"]:
    """Standard normal noise, drawn per sample on the CPU in float32.

    With a seed, every sample of every batch draws the same: so a pair of frames gives the same
    result alone, in a batch, or in a stream. A generator is advanced sample by sample.
    """
    if noise is not None:
        if isinstance(noise, Tensor) and noise.is_meta and not on_meta:
            raise ValueError("noise is on meta, which has no values")
        if generator is not None:
            raise ValueError("give generator or noise, not both")
        if not isinstance(noise, Tensor) or tuple(noise.shape) != tuple(shape):
            got = tuple(noise.shape) if isinstance(noise, Tensor) else type(noise).__name__
            raise ValueError(f"noise must be a tensor of shape {tuple(shape)}; got {got}")
        plain = noise.dtype in _TYPES and noise.layout is torch.strided
        if not plain or (_is_readable(noise) and not bool(noise.isfinite().all())):
            got = "values that are not finite" if plain else f"{noise.dtype}, {noise.layout}"
            raise ValueError(f"noise must hold finite floats, standard normal; got {got}")
        return noise
    b, *sample = shape
    if generator is None:
        one = torch.randn(sample, generator=torch.Generator().manual_seed(read_seed(seed)))
        return one.expand(b, *sample)
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator; got a {type(generator).__name__}")
    where = generator.device
    return torch.stack([torch.randn(sample, generator=generator, device=where) for _ in range(b)])


def read_seed(seed: SupportsIndex) -> int:
    """A seed that torch takes; raises ValueError if it is none."""
    try:
        number = None if isinstance(seed, bool) else operator.index(seed)
    except (TypeError, ValueError, RuntimeError):  # torch raises each of them for a tensor that is no number
        number = None
    if number is None or not -(2**63) <= number < 2**64:
        raise ValueError(f"seed must be an integer from -2**63 to 2**64 - 1; got {seed!r}")
    return number
