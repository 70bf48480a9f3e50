"""Rotation and mirroring of decoded frames by their display matrix."""

import struct
from dataclasses import dataclass

import av
import numpy as np
from av.sidedata.sidedata import Type
from torch import Tensor

from rdvfi.media.metadata.side_data import side_data
from rdvfi.media.pixels import Pixels


@dataclass(frozen=True)
class Orientation:
    """One of the eight transforms that set a picture upright: transposed first, then mirrored and flipped."""

    transposed: bool = False
    mirrored: bool = False
    """Left and right are exchanged."""
    flipped: bool = False
    """Top and bottom are exchanged."""
    exact: bool = True
    """Whether the display matrix asks for no other angle and no scale."""

    @classmethod
    def from_frame(cls, frame: av.VideoFrame) -> "Orientation":
        """The transform of a frame's display matrix, which maps (x, y) to (a x + c y, b x + d y)."""
        data = side_data(frame, Type.DISPLAYMATRIX)
        if data is None:
            return cls()
        a, b, _, c, d = struct.unpack("=5i", data[:20])
        transposed = abs(b) + abs(c) > abs(a) + abs(d)
        (x, y), rest = ((c, b), (a, d)) if transposed else ((a, d), (b, c))
        exact = not any(rest) and abs(x) == abs(y)
        return cls(transposed, x < 0, y < 0, exact)

    @classmethod
    def from_exif(cls, number: int) -> "Orientation":
        """The transform of EXIF's orientation, 1 to 8."""
        return cls(number in (5, 6, 7, 8), number in (2, 3, 6, 7), number in (3, 4, 7, 8))

    def apply(self, pixels: Pixels) -> Pixels:
        """The upright picture, (H, W, C)."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        rows, columns = slice(None, None, -1 if self.flipped else 1), slice(None, None, -1 if self.mirrored else 1)
        return np.ascontiguousarray(pixels[rows, columns])

    def apply_to_tensor(self, image: Tensor) -> Tensor:
        """The upright image, (..., H, W)."""
        image = image.mT if self.transposed else image
        axes = [axis for axis, flip in ((-2, self.flipped), (-1, self.mirrored)) if flip]
        return image.flip(axes) if axes else image.contiguous()
