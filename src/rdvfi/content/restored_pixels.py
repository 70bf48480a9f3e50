"""Pixels that are copied unchanged from an input frame: bars, and pixels that the caller declares static."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.types import Image


def restored_pixels(
    frames: Float[Tensor, "b t 3 H W"],
    keep: Bool[Tensor, "b 1 H W"],
    img0: Image,
    img1: Image,
    timesteps: Float[Tensor, " t"],
) -> Float[Tensor, "b t 3 H W"]:
    """Frames with the pixels of the input frame nearer in time wherever ``keep`` is true.

    Args:
        frames: New frames.
        keep: Where pixels are copied from an input frame.
        img0: First frames.
        img1: Last frames.
        timesteps: Times of the new frames.
    """
    later = (timesteps > 0.5)[None, :, None, None, None]
    return torch.where(keep[:, None], torch.where(later, img1[:, None], img0[:, None]), frames)
