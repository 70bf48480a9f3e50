"""Pixels of a film that must not move: given as a picture, or found.

Found are pixels that are equal in both frames of a pair, have been for several frames, and are part of an
overlay: `rdvfi.content.overlay` sees in single pairs what stands still in front of what moves, and what it
saw is remembered as long as the pixels stay equal. Ground that stands still while something passes is no
overlay, and is not held: what passes is drawn.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.content.windows import widened
from rdvfi.geometry import resize_image
from rdvfi.interfaces import Motion
from rdvfi.media.images import read_image
from rdvfi.media.reader import SourceInfo
from rdvfi.types import Image

_EQUAL = 6 / 255
"""Difference of two frames that a codec may leave in what stands still."""
_STABLE = 3
"""Pairs over which pixels have to be equal, as far as there are so many."""
_MEMORY = 0.9
"""What is left after a pair of having been seen as an overlay; below `_SEEN` it is forgotten."""
_SEEN = 0.2
_STEP, _STEPS = 5, 6
"""An overlay is continued over stable pixels beside it: so often, by half of this."""


class StaticPixels:
    """Finds, pair after pair of a stream, the pixels of overlays."""

    def __init__(self) -> None:
        self._age: Float[Tensor, "1 1 H W"] | None = None
        self._seen: Float[Tensor, "1 1 H W"] | None = None
        self._pairs = 0

    def update(self, first: Image, last: Image, motion: Motion) -> Bool[Tensor, "1 1 H W"] | None:
        """Where pixels of a pair stand still; None if nowhere.

        Args:
            first: First frame, (1, 3, H, W).
            last: Last one.
            motion: Of the pair.
        """
        size = (first.shape[-2], first.shape[-1])
        equal = ((first - last).abs().amax(1, keepdim=True) <= _EQUAL).float()
        if self._age is None or self._seen is None or not bool(motion.scene.same_scene[0]):
            self._age, self._seen, self._pairs = torch.zeros_like(equal), torch.zeros_like(equal), 0
        self._pairs += 1
        self._age = (self._age + 1.0) * equal
        seen = self._seen * _MEMORY
        if motion.content is not None and motion.content.overlay is not None:
            seen = torch.maximum(seen, (_full_size(motion.content.overlay.mask, size) > 0.5).float())
        self._seen = seen * equal
        stable = equal * (self._age >= min(self._pairs, _STABLE))
        found = (self._seen > _SEEN).float() * stable
        if not bool(found.any()):
            return None
        for _ in range(_STEPS):
            found = widened(found, _STEP) * stable
        return found > 0.5


def _full_size(mask: Float[Tensor, "1 1 h w"], size: tuple[int, int]) -> Float[Tensor, "1 1 H W"]:
    return resize_image(mask.float(), size)


def read_mask(path: Path, info: SourceInfo) -> Bool[np.ndarray, "H W"]:
    """A picture as a mask: where it is brighter than half, pixels stand still.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no picture, or of another size than the film.
    """
    if not path.is_file():
        raise FileNotFoundError(f"mask is {path}, which does not exist; expected auto, or an image of the film's size")
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    if (height, width) != (info.height, info.width):
        raise ValueError(
            f"mask {path} is {width}x{height} pixels; the frames of {info.name} are {info.width}x{info.height}"
        )
    return np.asarray(pixels[..., :3].max(axis=2) > np.iinfo(pixels.dtype).max // 2)
