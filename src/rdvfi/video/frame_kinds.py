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
    """Conversion between frames of one kind and images of the model.

    Args:
        like: The first frame, which all others must be like.
    """

    def __init__(self, like: Any) -> None:
        self._description = describe(like)
        height, width = self.size(like)
        if min(height, width) < MINIMUM_SIDE:
            raise ValueError(f"frame 0 is {width}x{height} pixels; both sides must be at least {MINIMUM_SIDE}")

    @staticmethod
    @abstractmethod
    def size(frame: Any) -> tuple[int, int]:
        """Height and width."""

    @abstractmethod
    def load(self, frame: Any, device: torch.device, dtype: torch.dtype) -> Image:
        """Convert a frame to (1, 3, H, W) in [0, 1]."""

    @abstractmethod
    def from_image(self, image: Float[Tensor, "3 H W"]) -> Any:
        """Convert a new frame to this kind."""

    def to_image(self, frame: Any, number: int, model: Interpolator) -> Image:
        """Convert a frame to an image on the model's device; ValueError if it differs from the first one in kind."""
        if describe(frame) != self._description:
            raise ValueError(
                f"frame {number} is {describe(frame)}, the first one is {self._description}; all frames must be alike"
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
        # torch warns about memory that is not writable.
        return to_tensor(pixels if pixels.flags.writeable else pixels.copy(), device=device, dtype=dtype)

    def from_image(self, image: Float[Tensor, "3 H W"]) -> np.ndarray:
        return to_pixels(image, deep=self._deep)


class PillowKind(FrameKind):
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
        # A copy, since a view would keep all frames of its batch in memory.
        frame = image.to(self._device, self._dtype, copy=True)
        return frame[None] if self._batched else frame


def frame_kind(frame: Any) -> FrameKind:
    """The kind of the first frame of a stream.

    Raises:
        TypeError: If the kind is unknown.
        ValueError: If the frame is too small for a model.
    """
    if isinstance(frame, Tensor):
        is_image = (
            frame.layout is torch.strided
            and not frame.is_meta
            and frame.ndim in (3, 4)
            and frame.shape[-3] == 3
            and (frame.ndim == 3 or len(frame) == 1)
        )
        if is_image and (frame.is_floating_point() or frame.dtype == torch.uint8):
            return TensorKind(frame)
    elif isinstance(frame, np.ndarray):
        if frame.ndim == 3 and frame.shape[-1] == 3 and frame.dtype in (np.uint8, np.uint16):
            return ArrayKind(frame)
    elif _is_pillow_image(frame) and frame.mode in ("RGB", "L"):
        return PillowKind(frame)
    raise TypeError(f"frame 0 is {describe(frame)}; {_EXPECTED}")


def describe(frame: Any) -> str:
    """The kind, type and size of a frame, for messages and comparison."""
    if isinstance(frame, Tensor):
        return f"a {frame.dtype} tensor {tuple(frame.shape)} on {frame.device}"
    if isinstance(frame, np.ndarray):
        return f"a {frame.dtype} array {frame.shape}"
    if _is_pillow_image(frame):
        return f"a PIL image of mode {frame.mode} and {frame.width}x{frame.height} pixels"
    return f"of type {type(frame).__name__}"


def _is_pillow_image(frame: Any) -> bool:
    # Pillow need not be installed.
    return any(base.__module__.startswith("PIL.") and base.__name__ == "Image" for base in type(frame).__mro__)
