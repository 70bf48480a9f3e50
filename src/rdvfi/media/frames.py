"""Pixels of files to tensors of models, and back."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.media.colour import Pixels
from rdvfi.types import Image


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


def bytes_of_frame(width: int, height: int) -> int:
    """Size of one float32 RGB frame."""
    return 12 * width * height
