"""Validation of the arguments of `Interpolator`, and of other public functions.

Every message contains the name of the argument, the given value and what is expected.
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

_FLOAT_TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""Types of images that torch can compute with."""
_RANGE_TOLERANCE = 0.01
"""Tolerance around [0, 1], since resampling overshoots."""


def check_pair(img0: Tensor, img1: Tensor, device: torch.device) -> None:
    """Check that both frames are float RGB batches of one shape and type, on the model's device."""
    for name, image in (("img0", img0), ("img1", img1)):
        check_frame(name, image, device)
    if img0.shape != img1.shape:
        raise ValueError(f"img0 and img1 must have the same shape; got {tuple(img0.shape)} and {tuple(img1.shape)}")
    if img0.dtype != img1.dtype:
        raise ValueError(f"img0 and img1 must have the same type; got {img0.dtype} and {img1.dtype}")


def check_frame(name: str, image: Tensor, device: torch.device) -> None:
    """Check shape, type and device of a batch of frames."""
    if not isinstance(image, Tensor) or image.is_nested:
        what = type(image).__name__ if not isinstance(image, Tensor) else "nested tensor"
        raise ValueError(f"{name} must be a tensor of shape (B, 3, H, W); got a {what}")
    shape = tuple(image.shape)
    if image.dim() != 4 or shape[1] != 3 or shape[0] < 1:
        raise ValueError(f"{name} must have shape (B, 3, H, W); got {shape}")
    if image.dtype not in _FLOAT_TYPES or image.layout is not torch.strided:
        what = image.dtype if image.layout is torch.strided else image.layout
        raise ValueError(f"{name} must hold floats in [0, 1]; got {what} (for 8-bit images: {name}.float() / 255)")
    if min(shape[-2:]) < MINIMUM_SIDE:
        raise ValueError(
            f"{name} must be at least {MINIMUM_SIDE} pixels high and wide; got {shape[-2]} high and {shape[-1]} wide"
        )
    if image.device != device:
        raise ValueError(f"{name} is on {image.device} but the model is on {device}")


def _is_readable(tensor: Tensor) -> bool:
    """Whether values can be read: not while a graph is traced or captured, and not on the meta device."""
    if torch.compiler.is_compiling() or tensor.is_meta:
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def check_values(name: str, image: Tensor) -> None:
    """Check that all values are in [0, 1] and none is NaN. Waits for the device."""
    if not _is_readable(image):
        return
    low, high = (float(value) for value in image.detach().aminmax())
    if not (low >= -_RANGE_TOLERANCE and high <= 1.0 + _RANGE_TOLERANCE):
        raise ValueError(f"{name} must hold values in [0, 1]; got {low:g} to {high:g}")


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless a value is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1")


def read_device(device: str | torch.device) -> torch.device:
    """The device of this name, if it is available.

    Raises:
        ValueError: If the name is unknown to torch, or there is no such CUDA device.
    """
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {device!r}; expected a name such as cpu or cuda:0") from error
    count = torch.cuda.device_count()
    if parsed.type == "cuda" and (parsed.index or 0) >= count:
        raise ValueError(f"device is {str(device)!r}, but {count or 'no'} CUDA devices are available")
    if parsed.type == "cuda" and (reason := _cuda_error()):
        raise ValueError(f"device is {str(device)!r}, which cannot be used here: {reason}")
    return parsed


def _cuda_error() -> str | None:
    """Why torch cannot use the CUDA devices that it lists, such as a driver that is too old; None if it can."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None


def check_dtype(dtype: torch.dtype) -> None:
    """Raise ValueError unless a type is one that models can compute in."""
    if dtype not in _FLOAT_TYPES:
        raise ValueError(f"dtype must be torch.float32, float16, bfloat16 or float64; got {dtype!r}")


def check_threshold(threshold: float) -> None:
    """Raise ValueError unless a scene threshold is a number in [0, 1]."""
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not (number and 0.0 <= threshold <= 1.0):
        raise ValueError(f"scene_threshold must be a number in [0, 1]; got {threshold!r}")


def check_scene(threshold: float | None, same_scene: bool | Tensor | None, batch: int, device: torch.device) -> None:
    """Check the scene threshold, and the scene decision for all pairs or for each."""
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
    """Check that static pixels are a boolean tensor of the size of the images, on their device."""
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
    the device. Checking a tensor on the device waits for it, except while a graph is traced or
    captured: then it is not checked.
    """
    expected = "timesteps must be a number in [0, 1], a list of them, or a 1-D array or tensor"
    if isinstance(timesteps, Tensor):
        times = timesteps.detach()
        if times.layout is not torch.strided or times.is_nested or times.is_quantized or times.is_complex():
            raise ValueError(f"{expected}; got a tensor of {times.dtype}, {times.layout}")
        times = times.float() if times.is_floating_point() and times.dtype not in _FLOAT_TYPES else times
    else:
        times = _to_tensor(timesteps, expected)
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


def _to_tensor(timesteps: object, expected: str) -> Float[Tensor, "..."]:
    """Timesteps that are not a tensor, as a tensor; raises ValueError for text and other values that are no numbers."""
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

    With a seed, every sample of every batch has the same noise, so a pair of frames gives the same
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
        plain = noise.dtype in _FLOAT_TYPES and noise.layout is torch.strided
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
    return torch.stack([torch.randn(sample, generator=generator, device=generator.device) for _ in range(b)])


def read_seed(seed: SupportsIndex) -> int:
    """A seed as an integer that torch accepts; raises ValueError otherwise."""
    try:
        number = None if isinstance(seed, bool) else operator.index(seed)
    except (TypeError, ValueError, RuntimeError):  # torch may raise any of them for a tensor
        number = None
    if number is None or not -(2**63) <= number < 2**64:
        raise ValueError(f"seed must be an integer from -2**63 to 2**64 - 1; got {seed!r}")
    return number
