"""Frames of video as planes of numbers, for a device that converts colours itself (`rdvfi.ops.video_colour`).

A frame of a decoder is looked at where it lies: in the memory of the processor, or in that of the device if it was
decoded there. What goes to an encoder comes from the device as the numbers of all planes, one after the other.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import av
import torch
from av.video.plane import VideoPlane
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from rdvfi.media.colour import Colour
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.video_files.siting import LEFT, TOP, TOP_LEFT
from rdvfi.ops.video_colour import rgb_to_video, video_to_rgb
from rdvfi.types import Image

WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Shares of red and blue in luma (H.273, table 4), by libswscale's matrices."""
_PLANAR = re.compile(r"yuvj?(420|422|444)p(?:(9|10|12|14|16)le)?")
_PACKED = {"nv12": ("420", 8, 8), "nv16": ("422", 8, 8), "p010le": ("420", 10, 16), "p012le": ("420", 12, 16)}
_PACKED |= {"p016le": ("420", 16, 16), "p210le": ("422", 10, 16), "p216le": ("422", 16, 16)}
_SUBSAMPLED = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}
_DEEP_WHITE = 257 / 256
"""The largest number of 16 bits over what libswscale makes of white, which frames above 8 bits are scaled by."""


def plane_tensor(plane: VideoPlane) -> Tensor:
    """The numbers of a plane where they lie; whoever uses them on a device waits for the decoder first."""
    return from_dlpack(plane.__dlpack__())


class PlaneFormat(NamedTuple):
    """How the planes of a pixel format lie in memory."""

    sub: tuple[int, int]
    """Rows and columns of luma for one of chroma."""
    bits: int
    """Of a number."""
    shift: int
    """Zero bits below it."""
    packed: bool
    """Whether U and V alternate in one plane."""

    def supports_size(self, height: int, width: int) -> bool:
        """Whether chroma covers a frame exactly; libswscale stretches it otherwise, and does so alone."""
        return not (height % self.sub[0] or width % self.sub[1])

    @classmethod
    def from_name(cls, name: str) -> "PlaneFormat | None":
        """That of a pixel format; None if it has other planes than luma and chroma."""
        if name in _PACKED:
            chroma, bits, stored = _PACKED[name]
            return cls(_SUBSAMPLED[chroma], bits, stored - bits, True)
        match = _PLANAR.fullmatch(name)
        return match and cls(_SUBSAMPLED[match[1]], int(match[2] or 8), 0, False)


def conversion_parameters(
    colour: Colour, width: int, height: int, unit: float, *, headroom: bool, deep: bool
) -> list[float]:
    """What numbers mean, as `rdvfi.ops.video_colour` wants it.

    Args:
        colour: The tags of the video.
        width: Of its frames.
        height: Of them.
        unit: Of an 8-bit step.
        headroom: See `rdvfi.media.colour.Converter`.
        deep: Whether RGB has more than 8 bits.
    """
    red, blue = WEIGHTS[colour.swscale_matrix(width, height)]
    full = colour.full_range or headroom
    black, luma, chroma = (0, 255, 255) if full else (16, 219, 224)
    white = unit * (_DEEP_WHITE if deep else 1.0)
    left = 0.0 if colour.siting in (LEFT, TOP_LEFT) else 0.5
    top = 0.0 if colour.siting in (TOP, TOP_LEFT) else 0.5
    return [red, blue, black * unit, 128 * unit, luma * white, chroma * white, left, top]


@dataclass(frozen=True, eq=False)
class Planes:
    """A decoded frame.

    Attributes:
        stored: Its planes: Y, U and V, or Y and both others in turn.
        meaning: Of their numbers.
        orientation: How the picture is put upright.
        deep: Whether RGB has more than 8 bits.
    """

    stored: tuple[Tensor, ...]
    meaning: list[float]
    orientation: Orientation
    deep: bool

    @classmethod
    def from_frame(
        cls, frame: av.VideoFrame, colour: Colour, orientation: Orientation, *, headroom: bool, deep: bool
    ) -> "Planes | None":
        """A frame as it lies in memory, on a device too; None if its format has other planes, or its size is odd."""
        on_device = frame.format.name == "cuda"
        form = None if on_device else PlaneFormat.from_name(frame.format.name)
        if not on_device and (form is None or not form.supports_size(frame.height, frame.width)):
            return None
        stored = tuple(plane_tensor(plane) for plane in frame.planes)
        wide = stored[0].dtype != torch.uint8
        spare = 16 if form is None and wide else 8 if form is None else form.bits + form.shift
        unit = 2.0 ** (spare - 8)
        meaning = conversion_parameters(colour, frame.width, frame.height, unit, headroom=headroom, deep=deep)
        return cls(stored, meaning, orientation, deep)

    def rgb(self, dtype: torch.dtype) -> Image:
        """The picture, upright, (1, 3, H, W) in [0, 1], where its planes are; float32 if they are deep."""
        y, *rest = self.stored
        u, v = rest if len(rest) == 2 else rest[0].unbind(-1)
        return self.orientation.apply_to_tensor(
            video_to_rgb((y, u, v), self.meaning, torch.float32 if self.deep else dtype)
        )


@dataclass(frozen=True)
class PlaneTarget:
    """Frames as an encoder takes them."""

    name: str
    """Of the pixel format."""
    form: PlaneFormat
    height: int
    width: int
    meaning: list[float]

    def numbers(self, frame: Tensor) -> Tensor:
        """All planes of a frame, RGB of shape (3, H, W) in [0, 1], one after the other, where the frame is."""
        sub, bits, shift, packed = self.form
        size = (self.height, self.width)
        return rgb_to_video(frame, size, sub, packed=packed, bits=bits, shift=shift, meaning=self.meaning)

    def frame(self, numbers: Tensor) -> av.VideoFrame:
        """These numbers, in the processor's memory, as a frame for the encoder."""
        made, begin = av.VideoFrame(self.width, self.height, self.name), 0
        for plane in made.planes:
            rows = plane_tensor(plane)
            rows.copy_(numbers[begin : begin + rows.numel()].view(rows.shape))
            begin += rows.numel()
        return made
