"""Conversion between the pixels of video files and RGB.

Source frames and interpolated frames go through the same two conversions, so that no step in brightness or colour
appears between them. Matrix and range are those of the file; a file without a matrix gets what players assume:
BT.709 for high definition, BT.601 below.

The conversion flags were chosen by measurement. libswscale's default darkens every frame by about one 8-bit step in
each round trip; with accurate rounding and full chroma interpolation the mean error is below 0.1. `BICUBIC` must
stay: with `BILINEAR`, full chroma interpolation to 48-bit RGB overflows (swscale 9.5).

`FFMPEG` is that default, for evaluation only: ``ffmpeg clip.mp4 %d.png``, PyAV, OpenCV and imageio convert so, and
published figures are of such pictures. There, a file without a matrix has that of BT.601 whatever its size.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter

from rdvfi.media.pixels import EXACT, FFMPEG, Pixels
from rdvfi.media.video_files.siting import LEFT, UNKNOWN, SitingMarker

LIMITED, FULL = 1, 2
"""FFmpeg's numbers of colour ranges."""

_UNSPECIFIED = 2
_BT709, _BT601 = 1, 5
_FLAGS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_RGBA = {"rgb24": "rgba", "rgb48le": "rgba64le"}
_PLANAR = {"rgb24": "gbrp", "rgb48le": "gbrp16le"}
"""Planar formats; with 8 bits libswscale converts to them three times as fast."""
_SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""libswscale's matrices by FFmpeg's colour spaces."""


def chroma_of(form: av.VideoFormat) -> str | None:
    """Chroma subsampling of a format of 16x16 pixels: 420, 422 or 444; None for others."""
    size = (form.chroma_width(16), form.chroma_height(16))
    return {(8, 8): "420", (8, 16): "422", (16, 16): "444"}.get(size)


def has_alpha(form: av.VideoFormat) -> bool:
    """Whether frames of this format can be transparent."""
    return any(component.is_alpha for component in form.components)


@dataclass(frozen=True)
class Colour:
    """Colour tags of a video, as FFmpeg's codes; 2 is unspecified."""

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full_range: bool = False
    siting: int = UNKNOWN
    """Location of subsampled chroma; see `rdvfi.media.video_files.siting`."""

    @classmethod
    def from_context(cls, context: VideoCodecContext) -> "Colour":
        """The tags of a decoder; RGB without tags becomes ordinary BT.709 video."""
        if context.pix_fmt is not None and av.VideoFormat(context.pix_fmt).is_rgb:
            primaries, transfer = (
                _BT709 if tag == _UNSPECIFIED else tag for tag in (context.color_primaries, context.color_trc)
            )
            return cls(_BT709, primaries, transfer)
        full = context.color_range == FULL or (context.pix_fmt or "").startswith("yuvj")
        matrix = context.colorspace or _UNSPECIFIED  # grey PNG is tagged as RGB, which is 0
        return cls(matrix, context.color_primaries, context.color_trc, full)

    def tag_context(self, context: VideoCodecContext) -> None:
        """Give an encoder the same tags."""
        context.colorspace = self.matrix
        context.color_primaries = self.primaries
        context.color_trc = self.transfer
        context.color_range = FULL if self.full_range else LIMITED

    def tag_frame(self, frame: av.VideoFrame) -> None:
        """Give a frame the same tags, since some encoders, such as ProRes, write those of frames."""
        frame.colorspace, frame.color_primaries, frame.color_trc = self.matrix, self.primaries, self.transfer
        frame.color_range = FULL if self.full_range else LIMITED

    def swscale_matrix(self, width: int, height: int) -> int:
        """The conversion matrix; without a tag it follows from the frame size."""
        high_definition = width >= 1280 or height > 576
        return _SWSCALE_MATRIX.get(self.matrix, _BT709 if high_definition else _BT601)


SRGB_VIDEO = Colour(_BT709, _BT709, _BT709, siting=LEFT)
"""Colour tags of a video that is made of images."""


class Converter:
    """Converts frames to RGB arrays and back; not to be shared between threads.

    Args:
        colour: Colour tags of the frames.
        deep: Whether arrays have 16 bits per channel.
        headroom: Keep video levels: 8-bit luma of 16 to 235 stays 16 to 235 in RGB, so that brighter and darker
            values, which cameras write, are not clipped.
        conversion: Conversion to RGB, `EXACT` or `FFMPEG`.
    """

    def __init__(self, colour: Colour, *, deep: bool, headroom: bool = False, conversion: str = EXACT) -> None:
        if conversion == FFMPEG and colour.matrix not in _SWSCALE_MATRIX:
            colour = replace(colour, matrix=_BT601)
        self._colour = colour
        self._flags = Interpolation.BICUBIC if conversion == FFMPEG else _FLAGS
        self._rgb, self._dtype = ("rgb48le", np.uint16) if deep else ("rgb24", np.uint8)
        self._headroom = headroom
        self._reformatter, self._marker = VideoReformatter(), SitingMarker(colour.siting)

    def to_rgb(self, frame: av.VideoFrame) -> Pixels:
        """RGB or RGBA of a frame, without its orientation applied."""
        full = self._colour.full_range or frame.format.is_rgb or self._headroom
        if not has_alpha(frame.format):
            planar = self._reformat(frame, _PLANAR[self._rgb], source_full=full, target_full=True)
            green, blue, red = (plane_rows(plane, self._dtype) for plane in planar.planes)
            return cv2.merge((red, green, blue))
        pixels = self._reformat(frame, _RGBA[self._rgb], source_full=full, target_full=True).to_ndarray()
        if pixels.dtype == np.uint16:  # libswscale converts an opaque 4095 of 12 bits to 65520
            pixels[..., 3] += np.right_shift(pixels[..., 3].astype(np.uint16), frame.format.components[-1].bits)
        return pixels  # pyright: ignore[reportReturnType]

    def from_rgb(self, pixels: Pixels, pixel_format: str) -> av.VideoFrame:
        """A frame in ``pixel_format`` for the encoder."""
        alpha = pixels.shape[2] == 4
        form = _RGBA[self._rgb] if alpha else self._rgb
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format=form)
        if av.VideoFormat(pixel_format).is_rgb:
            return self._reformat(frame, pixel_format, source_full=True, target_full=True)
        frame = self._marker.mark(frame)
        if (self._colour.full_range or self._headroom) and not alpha:
            return self._to_full_range(frame, pixel_format)
        return self._reformat(frame, pixel_format, source_full=True, target_full=False)

    def _to_full_range(self, frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
        """A YUV frame of full range, from an RGB frame.

        libswscale's own conversion from video levels to full range lowers chroma by half an 8-bit step, so it is
        done here, from 16 bits.
        """
        form = av.VideoFormat(pixel_format, 16, 16)
        chroma = chroma_of(form)
        deep = max(component.bits for component in form.components) > 8
        wide = self._reformat(frame, f"yuv{chroma}p16le", source_full=True, target_full=False)
        planar = f"yuv{chroma}p" + ("16le" if deep else "")
        full = av.VideoFrame(frame.width, frame.height, planar)
        for number, (source, target) in enumerate(zip(wide.planes, full.planes, strict=True)):
            table = _full_range_table(chroma=number > 0, deep=deep)
            cv2.LUT(plane_rows(source, np.uint16), table, dst=plane_rows(target, table.dtype))
        if planar == pixel_format:
            return full
        return self._reformatter.reformat(full, format=pixel_format, interpolation=_FLAGS)

    def _reformat(self, frame: av.VideoFrame, form: str, *, source_full: bool, target_full: bool) -> av.VideoFrame:
        matrix = self._colour.swscale_matrix(frame.width, frame.height)
        return self._reformatter.reformat(
            frame,
            format=form,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=FULL if source_full else LIMITED,
            dst_color_range=FULL if target_full else LIMITED,
            interpolation=self._flags,
        )


def plane_rows(plane: VideoPlane, dtype: npt.DTypeLike) -> np.ndarray:
    """A view of the samples of a plane, (H, W), to be read or written in place."""
    return np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)[:, : plane.width]


@cache
def _full_range_table(*, chroma: bool, deep: bool) -> np.ndarray:
    """Lookup table from 16-bit video levels to full range, of 16 bits if ``deep`` and else of 8."""
    step, dtype = (256, np.uint16) if deep else (1, np.uint8)  # the size of one 8-bit step
    scale, limited_zero, full_zero = (255 / 224, 128, 128) if chroma else (255 / 219, 16, 0)
    levels = np.arange(2**16, dtype=np.float32) * (1 / 256)
    expanded = ((levels - limited_zero) * scale + full_zero) * step + 0.5
    return np.clip(expanded, 0, 256 * step - 1).astype(dtype)


@dataclass(frozen=True)
class PixelLayout:
    """Properties of the source's pixels that the output keeps if it can."""

    chroma: str = "420"
    """Chroma subsampling: 420, 422 or 444."""
    bits: int = 8
    """Bits per channel."""
    aspect: Fraction | None = None
    """Pixel aspect ratio, width over height; None if pixels are square."""
    alpha: bool = False
    """Whether frames are RGBA."""

    @property
    def deep(self) -> bool:
        """Whether it has more than 8 bits per channel."""
        return self.bits > 8

    @classmethod
    def from_context(cls, context: VideoCodecContext, aspect: Fraction | None = None) -> "PixelLayout":
        """The layout of a decoder's frames; ``aspect`` is the pixel aspect ratio of container or stream."""
        form = av.VideoFormat(context.pix_fmt or "yuv420p", 16, 16)
        bits = max(component.bits for component in form.components)
        aspect = None if aspect in (None, 0, 1) else aspect
        if form.is_rgb or len(form.components) < 3:
            return cls("420", bits, aspect)
        return cls(chroma_of(form) or "420", bits, aspect)
