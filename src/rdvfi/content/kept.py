"""Pixels that new frames have from an input frame, bit for bit: bars, and what stands still by decree."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.types import Image


def kept_pixels(
    frames: Float[Tensor, "b t 3 H W"],
    keep: Bool[Tensor, "b 1 H W"],
    img0: Image,
    img1: Image,
    timesteps: Float[Tensor, " t"],
) -> Float[Tensor, "b t 3 H W"]:
    """Frames with the pixels of the nearer input frame where these are kept.

    Args:
        frames: New frames.
        keep: Where pixels are kept.
        img0: First frames.
        img1: Last ones.
        timesteps: Of the new frames.
    """
    later = (timesteps > 0.5)[None, :, None, None, None]
    return torch.where(keep[:, None], torch.where(later, img1[:, None], img0[:, None]), frames)
