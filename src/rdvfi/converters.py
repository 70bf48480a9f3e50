"""Conversion between images (PIL, NumPy) and tensors."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rdvfi.media.pixels import to_pixels
from rdvfi.media.pixels import to_tensor as pixels_to_tensor

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def to_tensor(picture: Any, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """An image as input of a model: (1, 3, H, W) in [0, 1].

    Args:
        picture: A PIL image of any mode, or a NumPy array (H, W, 3) of uint8 or uint16.
        device: Device of the tensor.
        dtype: Floating-point type of the tensor.

    Raises:
        TypeError: If it is neither, or an array of another shape or type.
    """
    import numpy as np

    pixels = picture
    if hasattr(picture, "convert"):
        pixels = np.array(picture.convert("RGB"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2:] != (3,):
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(picture).__name__
        raise TypeError(f"expected a PIL image or an array (H, W, 3) of uint8 or uint16; got {got}")
    return pixels_to_tensor(pixels, device=torch.device(device), dtype=dtype)


def to_image(frame: Tensor) -> "Picture":
    """A frame in [0, 1] as a PIL image, rounded to the nearest of 256 values.

    Args:
        frame: One frame: (3, H, W), or with leading axes of length one, as ``model(img0, img1, [0.5])`` returns it.

    Raises:
        ValueError: If it is not exactly one frame.
    """
    from PIL import Image

    if frame.ndim < 3 or frame.shape[-3] != 3 or frame.numel() != frame[(0,) * (frame.ndim - 3)].numel():
        raise ValueError(
            f"expected one frame (3, H, W); got {tuple(frame.shape)}: take one of several, as frames[0, i]"
        )
    return Image.fromarray(to_pixels(frame[(0,) * (frame.ndim - 3)].detach(), deep=False))
