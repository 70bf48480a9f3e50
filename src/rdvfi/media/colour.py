"""Between the pixels of a video file and RGB, in one place and one way.

Every frame of the output, a source frame as much as a new one, goes through the same two
conversions, so no brightness or colour step can appear between them. The matrix and range are
those the file names; a file that names no matrix gets what players assume: BT.709 for high
definition, BT.601 below.

The conversion flags are chosen by measurement. libswscale's default darkens every frame by about
one 8-bit step in each round trip; with accurate rounding and full chroma interpolation the mean
error is below 0.1. `BICUBIC` must stay: with `BILINEAR`, full chroma interpolation to 48-bit RGB
overflows (swscale 9.5).
"""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import Interpolation, VideoReformatter

from rdvfi.media.pixels import Pixels

LIMITED, FULL = 1, 2
"""Colour ranges, as FFmpeg numbers them."""

_UNSPECIFIED = 2
_BT709, _BT601 = 1, 5
_FLAGS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""FFmpeg's colour spaces to libswscale's matrices."""


@dataclass(frozen=True)
class Colour:
    """How the numbers of a video frame mean colours; FFmpeg's codes, 2 is 'not said'."""

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full_range: bool = False

    @classmethod
    def of(cls, context: VideoCodecContext) -> "Colour":
        """The tags of a decoder; RGB without tags becomes ordinary BT.709 video."""
        if context.pix_fmt is not None and av.VideoFormat(context.pix_fmt).is_rgb:
            primaries, transfer = (
                _BT709 if tag == _UNSPECIFIED else tag for tag in (context.color_primaries, context.color_trc)
            )
            return cls(_BT709, primaries, transfer)
        full = context.color_range == FULL or (context.pix_fmt or "").startswith("yuvj")
        return cls(context.colorspace, context.color_primaries, context.color_trc, full)

    def tag(self, context: VideoCodecContext) -> None:
        """Give an encoder the same tags."""
        context.colorspace = self.matrix
        context.color_primaries = self.primaries
        context.color_trc = self.transfer
        context.color_range = FULL if self.full_range else LIMITED

    def swscale_matrix(self, width: int, height: int) -> int:
        """The conversion matrix, guessed from the size where the file does not say."""
        high_definition = width >= 1280 or height > 576
        return _SWSCALE_MATRIX.get(self.matrix, _BT709 if high_definition else _BT601)


SRGB_VIDEO = Colour(_BT709, _BT709, _BT709)
"""What images become when they are written into a video: ordinary BT.709."""


class Converter:
    """Frames to RGB arrays and back; not to be shared between threads."""

    def __init__(self, colour: Colour, *, deep: bool) -> None:
        self._colour = colour
        self._rgb = "rgb48le" if deep else "rgb24"
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: av.VideoFrame) -> Pixels:
        """The frame's pixels, turned upright if the file says that it is rotated."""
        matrix = self._colour.swscale_matrix(frame.width, frame.height)
        full = self._colour.full_range or frame.format.is_rgb
        converted = self._reformatter.reformat(
            frame,
            format=self._rgb,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=FULL if full else LIMITED,
            dst_color_range=FULL,
            interpolation=_FLAGS,
        )
        pixels = converted.to_ndarray()
        turns = quarter_turns(frame)
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    def from_rgb(self, pixels: Pixels, pixel_format: str) -> av.VideoFrame:
        """A frame in ``pixel_format`` for the encoder."""
        frame = av.VideoFrame.from_ndarray(pixels, format=self._rgb)
        height, width = pixels.shape[:2]
        matrix = self._colour.swscale_matrix(width, height)
        full = self._colour.full_range or av.VideoFormat(pixel_format).is_rgb
        return self._reformatter.reformat(
            frame,
            format=pixel_format,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=FULL,
            dst_color_range=FULL if full else LIMITED,
            interpolation=_FLAGS,
        )


def quarter_turns(frame: av.VideoFrame) -> int:
    """How many quarter turns counter-clockwise set the frame upright, 0 to 3."""
    return round(frame.rotation / 90) % 4


@dataclass(frozen=True)
class PixelLayout:
    """What the output's pixel format shall keep of the source's."""

    chroma: str = "420"
    """Chroma subsampling: 420, 422 or 444."""
    deep: bool = False
    """More than 8 bits a channel."""
    aspect: Fraction | None = None
    """Width of a pixel over its height, if not square."""

    @classmethod
    def of(cls, context: VideoCodecContext) -> "PixelLayout":
        """The layout of a decoder's frames."""
        form = av.VideoFormat(context.pix_fmt or "yuv420p", 16, 16)
        deep = max(component.bits for component in form.components) > 8
        aspect = context.sample_aspect_ratio or None
        if form.is_rgb or len(form.components) < 3:
            return cls("420", deep, aspect)
        size = (form.chroma_width(16), form.chroma_height(16))
        chroma = {(8, 8): "420", (8, 16): "422", (16, 16): "444"}.get(size, "420")
        return cls(chroma, deep, aspect)
