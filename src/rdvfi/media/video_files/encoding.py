"""Encoding settings of an output, chosen and tested before any work."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rdvfi.media.image_files.images import ICC_PROFILE_ANIMATIONS
from rdvfi.media.metadata.stream_template import METADATA_CONTAINERS
from rdvfi.media.outputs.output import is_folder_output
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import SourceInfo
from rdvfi.media.video_files.codecs import (
    Codec,
    PixelFormat,
    check_encoder,
    choose_codec,
    choose_pixel_format,
    encoder_options,
    find_pixel_format,
    supports_alpha,
)

ODD_SIZE_MODES = ("pad", "crop", "444")
_PLAYER_LIMIT = "players show no more; codec ffv1 and a folder of PNG images keep them"
_RGB_ONLY = frozenset({".gif", ".webp", ".apng"})


@dataclass(frozen=True)
class SinkOptions:
    """How the output is written."""

    codec: str | None = None
    """A name of `rdvfi.media.video_files.codecs.CODECS`; None chooses by suffix and depth."""
    crf: int | None = None
    """Quality, lower is better; None is the default of the codec."""
    audio: bool = True
    """Keep the audio."""
    preset: str | None = None
    """The encoder's preset; None is the default of `CODECS`."""
    bitrate: int | None = None
    """Bits per second, in place of ``crf``."""
    pix_fmt: str | None = None
    """FFmpeg's pixel format; None keeps depth and chroma of the source as far as the encoder can."""
    odd: str = "pad"
    """What to do with an odd width or height, which common players refuse: ``pad`` repeats the last column or row,
    ``crop`` removes it, ``444`` keeps the size with full chroma."""


@dataclass(frozen=True)
class Encoding:
    """An encoder, its options, and the format and size of its frames."""

    codec: Codec
    pixel_format: PixelFormat
    options: dict[str, str]
    width: int
    height: int
    notes: tuple[str, ...]
    scaled: bool = False
    """Whether frames are scaled to this size, not padded or cropped."""

    @property
    def joins(self) -> bool:
        """Whether packets of several encoders can be joined to one stream; VP9 would lose its alpha plane."""
        return self.codec.joins and self.pixel_format.name != "yuva420p"

    def fit_pixels(self, pixels: Pixels) -> Pixels:
        """A frame scaled, padded or cropped to the size of the output."""
        height, width = pixels.shape[:2]
        if (height, width) == (self.height, self.width):
            return pixels
        if self.scaled:
            import cv2

            return cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        rows, columns = max(0, self.height - height), max(0, self.width - width)
        padded = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge")
        return np.ascontiguousarray(padded[: self.height, : self.width])


def keeps_video_levels(destination: Path, options: SinkOptions) -> bool:
    """Whether the output holds hdr outside the levels of video: YUV does, RGB does not."""
    suffix = destination.suffix.lower()
    return suffix not in _RGB_ONLY and not choose_codec(options.codec, destination).lossless


def keeps_alpha(destination: Path, options: SinkOptions) -> bool:
    """Whether the output can hold transparency: PNG images can, and some codecs."""
    if is_folder_output(destination):
        return True
    return options.pix_fmt is None and supports_alpha(choose_codec(options.codec, destination))


def plan_encoding(destination: Path, info: SourceInfo, options: SinkOptions) -> Encoding:
    """The encoding that fits a source and its destination.

    Raises:
        ValueError: If codec, quality, preset, pixel format or frame size do not fit, or the encoder
            cannot be used here.
    """
    if options.odd not in ODD_SIZE_MODES:
        raise ValueError(f"odd is {options.odd!r}; it must be one of {', '.join(ODD_SIZE_MODES)}")
    codec = choose_codec(options.codec, destination, info.layout)
    if options.pix_fmt is not None:
        pixel_format = find_pixel_format(codec, options.pix_fmt)
    else:
        pixel_format = choose_pixel_format(codec, info.layout)
    width, height, scaled = info.width, info.height, False
    if destination.suffix.lower() in _RGB_ONLY and info.layout.aspect is not None:
        width, scaled = max(1, round(width * info.layout.aspect)), True  # browsers ignore the pixel aspect ratio
    if _is_odd(pixel_format, width, height) and not codec.odd_sizes:
        if options.odd == "444":
            pixel_format = choose_pixel_format(codec, replace(info.layout, chroma="444"))
            if _is_odd(pixel_format, width, height):
                raise ValueError(f"odd is '444', but {codec.encoder} has no full chroma; choose pad or crop")
        else:
            step = 1 if options.odd == "pad" else -1
            width += step * (width % 2)
            height += step * (height % 2)
    ffmpeg_options = encoder_options(codec, crf=options.crf, preset=options.preset, bitrate=options.bitrate)
    ffmpeg_options = info.hdr.encoder_options(codec.encoder, ffmpeg_options)
    if destination.suffix.lower() == ".avi" and codec.encoder != "ffv1":
        ffmpeg_options["bf"] = "0"  # AVI stores frames in order of decoding, so it must be that of presentation
    check_encoder(codec, pixel_format, ffmpeg_options)
    encoding = Encoding(codec, pixel_format, ffmpeg_options, width, height, (), scaled)
    return replace(encoding, notes=tuple(_notes(encoding, info, destination, options)))


def _is_odd(pixel_format: PixelFormat, width: int, height: int) -> bool:
    """Whether a side is odd along which chroma has half the resolution."""
    chroma = pixel_format.chroma
    return bool((chroma in ("420", "422") and width % 2) or (chroma == "420" and height % 2))


_HARDWARE_CHROMA = {"libx264": ("420",), "libx265": ("420", "422"), "libsvtav1": ("420",), "libvpx-vp9": ("420",)}
"""Chroma that common players decode; others need a player that decodes in software."""


def _compatibility_note(encoding: Encoding) -> Iterator[str]:
    pixel_format, encoder = encoding.pixel_format, encoding.codec.encoder
    deep = pixel_format.bits > (8 if encoder == "libx264" else 10)
    if pixel_format.chroma not in _HARDWARE_CHROMA[encoder] or deep:
        compatible = "yuv420p" if pixel_format.bits == 8 or encoder == "libx264" else "yuv420p10le"
        yield (
            f"{pixel_format.name} keeps depth and chroma of the source, but few players decode it with {encoder}; "
            f"pix_fmt={compatible} plays everywhere"
        )


def _notes(encoding: Encoding, info: SourceInfo, destination: Path, options: SinkOptions) -> Iterator[str]:
    """One sentence for each property in which the output differs from the source."""
    codec, layout = encoding.codec, info.layout
    if (encoding.width, encoding.height) != (info.width, info.height):
        reason = "in square pixels" if encoding.scaled else "so that all players show them"
        yield f"frames of {info.width}x{info.height} are written as {encoding.width}x{encoding.height}, {reason}"
    if encoding.pixel_format.bits < layout.bits:
        reason = f"{codec.encoder} takes no more here"
        if options.pix_fmt is not None:
            reason = "as pix_fmt says"
        elif layout.bits > 12 and encoding.pixel_format.bits == 10:
            reason = _PLAYER_LIMIT
        yield f"{layout.bits} bits per channel are written as {encoding.pixel_format.bits}: {reason}"
    suffix = destination.suffix.lower()
    stores_aspect = codec.stores_aspect or suffix in METADATA_CONTAINERS or encoding.scaled
    if layout.aspect is not None and not stores_aspect:
        yield f"the pixel aspect ratio {layout.aspect} cannot be stored in {suffix} with {codec.encoder}"
    if info.profile and suffix not in ICC_PROFILE_ANIMATIONS:
        yield f"the colour profile (ICC) of {info.name} is not written to {suffix}; a folder of PNG images keeps it"
    chosen_by_user = options.pix_fmt is not None or options.odd == "444"
    if not chosen_by_user and codec.encoder in _HARDWARE_CHROMA and suffix != ".mkv":
        yield from _compatibility_note(encoding)
    yield from info.spatial.notes(suffix)
    yield from info.hdr.notes(codec.encoder, in_container=suffix in METADATA_CONTAINERS)
