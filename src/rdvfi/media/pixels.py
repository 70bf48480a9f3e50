"""Pixels of files, and between them and the tensors of models."""

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from rdvfi.types import Image

Picture = UInt8[np.ndarray, "_ _ 3"]
"""One RGB frame, 8 bits a channel."""

Pixels = UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]
"""One RGB frame; 16 bits a channel where the source has more than 8."""


def to_tensor(pixels: Pixels, *, device: torch.device, dtype: torch.dtype) -> Image:
    """RGB pixels as one (1, 3, H, W) image in [0, 1].

    Deep pixels stay in float32 whatever the model's type: half precision has 11 bits.
    """
    scale = 1.0 / np.iinfo(pixels.dtype).max
    tensor = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None]
    image = tensor.to(torch.float32).mul_(scale).contiguous()
    return image if pixels.dtype.itemsize > 1 else image.to(dtype)


def to_pixels(frame: Float[Tensor, "3 H W"], *, deep: bool) -> Pixels:
    """One image in [0, 1] as RGB pixels, rounded to the nearest value."""
    most = 65535 if deep else 255
    scaled = frame.permute(1, 2, 0).to(torch.float32).mul(most).add_(0.5).clamp_(0, most)
    rounded = scaled.to(torch.int32).to(torch.uint16) if deep else scaled.to(torch.uint8)
    return rounded.cpu().contiguous().numpy()


def to_picture(pixels: Pixels) -> Picture:
    """The same pixels with 8 bits a channel: the upper byte of 16."""
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def bytes_of_frame(width: int, height: int) -> int:
    """Size of one float32 RGB frame."""
    return 12 * width * height
