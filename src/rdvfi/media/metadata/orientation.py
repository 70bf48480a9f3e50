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
    """One of the eight ways to put a picture upright: columns for rows first, then mirrored."""

    transposed: bool = False
    mirrored: bool = False
    """Left for right."""
    flipped: bool = False
    """Top for bottom."""
    exact: bool = True
    """Whether nothing more is asked for: no other angle, and no scale."""

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """That of a frame's display matrix, which maps (x, y) to (a x + c y, b x + d y)."""
        data = side_data(frame, Type.DISPLAYMATRIX)
        if data is None:
            return cls()
        a, b, _, c, d = struct.unpack("=5i", data[:20])
        transposed = abs(b) + abs(c) > abs(a) + abs(d)
        kept, rest = ((c, b), (a, d)) if transposed else ((a, d), (b, c))
        exact = not any(rest) and abs(kept[0]) == abs(kept[1])
        return cls(transposed, kept[0] < 0, kept[1] < 0, exact)

    def upright(self, pixels: Pixels) -> Pixels:
        """The picture as it is meant to be seen."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        rows, columns = slice(None, None, -1 if self.flipped else 1), slice(None, None, -1 if self.mirrored else 1)
        return np.ascontiguousarray(pixels[rows, columns])

    def turned(self, image: Tensor) -> Tensor:
        """The same for an image, (..., H, W)."""
        image = image.mT if self.transposed else image
        axes = [axis for axis, turns in ((-2, self.flipped), (-1, self.mirrored)) if turns]
        return image.flip(axes) if axes else image.contiguous()
