"""Planes of video frames as tensors, for colour conversion on a GPU (`rdvfi.ops.video_colour`).

The planes of a decoded frame are read without a copy, in host memory or on the device that decoded it. A frame for an
encoder leaves the device as one tensor with the samples of all planes in turn.
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
"""The largest 16-bit value over libswscale's white, by which frames above 8 bits are scaled."""


def plane_tensor(plane: VideoPlane) -> Tensor:
    """The samples of a plane without a copy; on a device, callers must wait for the decoder first."""
    return from_dlpack(plane.__dlpack__())


class PlaneFormat(NamedTuple):
    """Memory layout of a pixel format's planes."""

    subsampling: tuple[int, int]
    """Rows and columns of luma per row and column of chroma."""
    bits: int
    """Bits per sample."""
    shift: int
    """Zero bits below a sample."""
    packed: bool
    """Whether U and V alternate in one plane."""

    def supports_size(self, height: int, width: int) -> bool:
        """Whether chroma covers a frame exactly; otherwise libswscale has to convert, since it stretches chroma."""
        return not (height % self.subsampling[0] or width % self.subsampling[1])

    @classmethod
    def from_name(cls, name: str) -> "PlaneFormat | None":
        """The layout of a pixel format by FFmpeg's name; None if its planes are not luma and chroma."""
        if name in _PACKED:
            chroma, bits, stored = _PACKED[name]
            return cls(_SUBSAMPLED[chroma], bits, stored - bits, True)
        match = _PLANAR.fullmatch(name)
        return match and cls(_SUBSAMPLED[match[1]], int(match[2] or 8), 0, False)


def conversion_parameters(
    colour: Colour, width: int, height: int, unit: float, *, headroom: bool, deep: bool
) -> list[float]:
    """Parameters of `rdvfi.ops.video_colour` for a video in which one 8-bit step has the value ``unit``.

    ``headroom`` is that of `rdvfi.media.colour.Converter`; ``deep`` means that RGB has more than 8 bits.
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
    """The planes of a decoded frame.

    Attributes:
        planes: Y, U and V, or Y and one plane in which U and V alternate.
        meaning: Their `conversion_parameters`.
        orientation: The transform that sets the picture upright.
        deep: Whether RGB has more than 8 bits.
    """

    planes: tuple[Tensor, ...]
    meaning: list[float]
    orientation: Orientation
    deep: bool

    @classmethod
    def from_frame(
        cls, frame: av.VideoFrame, colour: Colour, orientation: Orientation, *, headroom: bool, deep: bool
    ) -> "Planes | None":
        """The planes of a frame in host or device memory; None if libswscale has to convert it."""
        on_device = frame.format.name == "cuda"
        form = None if on_device else PlaneFormat.from_name(frame.format.name)
        if not on_device and (form is None or not form.supports_size(frame.height, frame.width)):
            return None
        planes = tuple(plane_tensor(plane) for plane in frame.planes)
        if form is not None:
            stored_bits = form.bits + form.shift
        else:
            stored_bits = 8 if planes[0].dtype == torch.uint8 else 16
        unit = 2.0 ** (stored_bits - 8)
        meaning = conversion_parameters(colour, frame.width, frame.height, unit, headroom=headroom, deep=deep)
        return cls(planes, meaning, orientation, deep)

    def rgb(self, dtype: torch.dtype) -> Image:
        """The upright picture, (1, 3, H, W) in [0, 1], on the device of its planes; float32 if ``deep``."""
        y, *chroma = self.planes
        u, v = chroma if len(chroma) == 2 else chroma[0].unbind(-1)
        return self.orientation.apply_to_tensor(
            video_to_rgb((y, u, v), self.meaning, torch.float32 if self.deep else dtype)
        )


@dataclass(frozen=True)
class PlaneTarget:
    """Pixel format, size and `conversion_parameters` of an encoder's frames."""

    name: str
    form: PlaneFormat
    height: int
    width: int
    meaning: list[float]

    def samples(self, frame: Tensor) -> Tensor:
        """The samples of all planes in turn, 1-D, of an RGB frame (3, H, W) in [0, 1], on the frame's device."""
        subsampling, bits, shift, packed = self.form
        size = (self.height, self.width)
        return rgb_to_video(frame, size, subsampling, packed=packed, bits=bits, shift=shift, meaning=self.meaning)

    def frame(self, samples: Tensor) -> av.VideoFrame:
        """A frame for the encoder with these samples, which are in host memory."""
        frame, start = av.VideoFrame(self.width, self.height, self.name), 0
        for plane in frame.planes:
            target = plane_tensor(plane)
            target.copy_(samples[start : start + target.numel()].view(target.shape))
            start += target.numel()
        return frame
