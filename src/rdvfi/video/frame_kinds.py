"""Kinds of frames for `interpolate_frames`: NumPy arrays, PIL images, tensors."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import MINIMUM_SIDE
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import to_pixels, to_tensor
from rdvfi.types import Image

_EXPECTED = (
    "expected a NumPy array (H, W, 3) of uint8 or uint16, a PIL image of mode RGB or L, or a tensor (3, H, W) or "
    "(1, 3, H, W) of floats in [0, 1] or uint8"
)


class FrameKind(ABC):
    """Between frames of one kind and images of the model.

    Args:
        like: The first frame, which all others must be like.
    """

    def __init__(self, like: Any) -> None:
        self._first = describe(like)
        height, width = self.size(like)
        if min(height, width) < MINIMUM_SIDE:
            raise ValueError(f"frame 0 is {width}x{height} pixels; both sides must be at least {MINIMUM_SIDE}")

    @staticmethod
    @abstractmethod
    def size(frame: Any) -> tuple[int, int]:
        """Height and width."""

    @abstractmethod
    def load(self, frame: Any, device: torch.device, dtype: torch.dtype) -> Image:
        """A frame as (1, 3, H, W) in [0, 1]."""

    @abstractmethod
    def from_image(self, image: Float[Tensor, "3 H W"]) -> Any:
        """A new frame of this kind."""

    def to_image(self, frame: Any, number: int, model: Interpolator) -> Image:
        """A frame as an image on the model's device; raises ValueError if it is not like the first one."""
        if describe(frame) != self._first:
            raise ValueError(
                f"frame {number} is {describe(frame)}, the first one is {self._first}; all frames must be alike"
            )
        return self.load(frame, model.device, model.dtype)


class ArrayKind(FrameKind):
    """NumPy arrays (H, W, 3) of 8 or 16 bits."""

    def __init__(self, like: np.ndarray) -> None:
        super().__init__(like)
        self._deep = like.dtype == np.uint16

    @staticmethod
    def size(frame: np.ndarray) -> tuple[int, int]:
        return frame.shape[0], frame.shape[1]

    def load(self, frame: np.ndarray, device: torch.device, dtype: torch.dtype) -> Image:
        pixels = np.ascontiguousarray(frame)
        # torch warns of memory that it must not write to.
        return to_tensor(pixels if pixels.flags.writeable else pixels.copy(), device=device, dtype=dtype)

    def from_image(self, image: Float[Tensor, "3 H W"]) -> np.ndarray:
        return to_pixels(image, deep=self._deep)


class PictureKind(FrameKind):
    """PIL images, in colour or grey."""

    def __init__(self, like: Any) -> None:
        super().__init__(like)
        self._mode = like.mode

    @staticmethod
    def size(frame: Any) -> tuple[int, int]:
        return frame.height, frame.width

    def load(self, frame: Any, device: torch.device, dtype: torch.dtype) -> Image:
        return to_tensor(np.array(frame.convert("RGB")), device=device, dtype=dtype)

    def from_image(self, image: Float[Tensor, "3 H W"]) -> Any:
        from PIL import Image as pillow

        return pillow.fromarray(to_pixels(image, deep=False)).convert(self._mode)


class TensorKind(FrameKind):
    """Tensors (3, H, W) or (1, 3, H, W)."""

    def __init__(self, like: Tensor) -> None:
        super().__init__(like)
        self._dtype, self._device, self._batched = like.dtype, like.device, like.ndim == 4

    @staticmethod
    def size(frame: Tensor) -> tuple[int, int]:
        return frame.shape[-2], frame.shape[-1]

    def load(self, frame: Tensor, device: torch.device, dtype: torch.dtype) -> Image:
        image = frame.detach().to(device)
        if self._dtype == torch.uint8:
            return (image / 255.0).to(dtype).reshape(1, *frame.shape[-3:])
        return image.to(dtype).reshape(1, *frame.shape[-3:])

    def from_image(self, image: Float[Tensor, "3 H W"]) -> Tensor:
        if self._dtype == torch.uint8:
            image = image.float().mul(255.0).round_().clamp_(0, 255)
        # A copy, not a view that keeps all frames of its part alive.
        made = image.to(self._device, self._dtype, copy=True)
        return made[None] if self._batched else made


def kind_of(frame: Any) -> FrameKind:
    """The kind of the first frame of a stream.

    Raises:
        TypeError: If it is of no kind that is known.
        ValueError: If it is smaller than a model takes.
    """
    if isinstance(frame, Tensor):
        shaped = (
            frame.layout is torch.strided
            and not frame.is_meta
            and frame.ndim in (3, 4)
            and frame.shape[-3] == 3
            and (frame.ndim == 3 or len(frame) == 1)
        )
        if shaped and (frame.is_floating_point() or frame.dtype == torch.uint8):
            return TensorKind(frame)
    elif isinstance(frame, np.ndarray):
        if frame.ndim == 3 and frame.shape[-1] == 3 and frame.dtype in (np.uint8, np.uint16):
            return ArrayKind(frame)
    elif _is_picture(frame) and frame.mode in ("RGB", "L"):
        return PictureKind(frame)
    raise TypeError(f"frame 0 is {describe(frame)}; {_EXPECTED}")


def describe(frame: Any) -> str:
    """Kind, type and size of a frame, for errors and to compare."""
    if isinstance(frame, Tensor):
        return f"a {frame.dtype} tensor {tuple(frame.shape)} on {frame.device}"
    if isinstance(frame, np.ndarray):
        return f"a {frame.dtype} array {frame.shape}"
    if _is_picture(frame):
        return f"a PIL image of mode {frame.mode} and {frame.width}x{frame.height} pixels"
    return f"of type {type(frame).__name__}"


def _is_picture(frame: Any) -> bool:
    """Whether it is a PIL image; Pillow need not be installed to say no."""
    return any(each.__module__.startswith("PIL.") and each.__name__ == "Image" for each in type(frame).__mro__)
