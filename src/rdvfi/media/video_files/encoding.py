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
    holds_alpha,
    named_format,
)

ODD_SIZES = ("pad", "crop", "444")
_SHOWN = "players show no more; codec ffv1 and a folder of PNG keep them"
_RGB_ONLY = frozenset({".gif", ".webp", ".apng"})


@dataclass(frozen=True)
class SinkOptions:
    """How the output is written."""

    codec: str | None = None
    """A name of `rdvfi.media.video_files.codecs.CODECS`; None chooses by the suffix."""
    crf: int | None = None
    """Quality of the codec, lower is better; None is its default."""
    audio: bool = True
    """Take the sound along."""
    preset: str | None = None
    """The encoder's choice between speed and size; None is ours."""
    bitrate: int | None = None
    """Bits per second, instead of a quality."""
    pix_fmt: str | None = None
    """Pixel format of the encoder; None keeps depth and chroma of the source as far as it can."""
    odd: str = "pad"
    """Frames of an odd width or height, which common players refuse: ``pad`` repeats the last column or
    row, ``crop`` leaves it out, ``444`` keeps the size with full chroma."""


@dataclass(frozen=True)
class Encoding:
    """An encoder, its options, and what it is given."""

    codec: Codec
    form: PixelFormat
    options: dict[str, str]
    width: int
    height: int
    notes: tuple[str, ...]
    scaled: bool = False
    """Frames are scaled to that size, instead of padded or cropped."""

    @property
    def joins(self) -> bool:
        """Whether kept packets of several encoders make one stream; those of VP9 lose its plane of transparency."""
        return self.codec.joins and self.form.name != "yuva420p"

    def fitted(self, pixels: Pixels) -> Pixels:
        """The frame in the size that is written."""
        height, width = pixels.shape[:2]
        if (height, width) == (self.height, self.width):
            return pixels
        if self.scaled:
            import cv2

            return cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        more = (max(0, self.height - height), max(0, self.width - width))
        padded = np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")
        return np.ascontiguousarray(padded[: self.height, : self.width])


def keeps_video_levels(destination: Path, options: SinkOptions) -> bool:
    """Whether the output holds hdr outside the levels of video: YUV does, RGB does not."""
    suffix = destination.suffix.lower()
    return suffix not in _RGB_ONLY and not choose_codec(options.codec, destination).lossless


def keeps_alpha(destination: Path, options: SinkOptions) -> bool:
    """Whether the output can hold what is transparent: PNG images can, and some codecs."""
    if is_folder_output(destination):
        return True
    return options.pix_fmt is None and holds_alpha(choose_codec(options.codec, destination))


def plan_encoding(destination: Path, info: SourceInfo, options: SinkOptions) -> Encoding:
    """The encoding that fits a source and its destination.

    Raises:
        ValueError: If codec, quality, preset, pixel format or frame size do not fit, or the encoder
            cannot be used here.
    """
    if options.odd not in ODD_SIZES:
        raise ValueError(f"odd is {options.odd!r}; it must be one of {', '.join(ODD_SIZES)}")
    codec = choose_codec(options.codec, destination, info.layout)
    form = choose_pixel_format(codec, info.layout)
    if options.pix_fmt is not None:
        form = named_format(codec, options.pix_fmt)
    width, height, scaled = info.width, info.height, False
    if destination.suffix.lower() in _RGB_ONLY and info.layout.aspect is not None:
        width, scaled = max(1, round(width * info.layout.aspect)), True  # browsers show square pixels alone
    if _is_odd(form, width, height) and not codec.odd_sizes:
        if options.odd == "444":
            form = choose_pixel_format(codec, replace(info.layout, chroma="444"))
            if _is_odd(form, width, height):
                raise ValueError(f"odd is '444', but {codec.encoder} has no full chroma; choose pad or crop")
        else:
            step = 1 if options.odd == "pad" else -1
            width += step * (width % 2)
            height += step * (height % 2)
    given = encoder_options(codec, crf=options.crf, preset=options.preset, bitrate=options.bitrate)
    given = info.hdr.encoder_options(codec.encoder, given)
    if destination.suffix.lower() == ".avi" and codec.encoder != "ffv1":
        given["bf"] = "0"  # AVI numbers frames in the order of decoding, which is then that of showing
    check_encoder(codec, form, given)
    encoding = Encoding(codec, form, given, width, height, (), scaled)
    return replace(encoding, notes=tuple(_notes(encoding, info, destination, options)))


def _is_odd(form: PixelFormat, width: int, height: int) -> bool:
    """Whether chroma of half the width or height does not cover the frame exactly."""
    return bool((form.chroma in ("420", "422") and width % 2) or (form.chroma == "420" and height % 2))


_DECODED = {"libx264": ("420",), "libx265": ("420", "422"), "libsvtav1": ("420",), "libvpx-vp9": ("420",)}
"""Chroma that common players decode; 4:2:2 and 4:4:4 need a player that decodes in software."""


def _seldom_decoded(encoding: Encoding) -> Iterator[str]:
    """A word on formats that keep what the source has, and that few players show."""
    form, encoder = encoding.form, encoding.codec.encoder
    deep = form.bits > (8 if encoder == "libx264" else 10)
    if form.chroma not in _DECODED[encoder] or deep:
        yield (
            f"{form.name} keeps what the source has, but few players decode it with {encoder}; "
            f"pix_fmt={'yuv420p' if form.bits == 8 or encoder == 'libx264' else 'yuv420p10le'} is for all of them"
        )


def _notes(encoding: Encoding, info: SourceInfo, destination: Path, options: SinkOptions) -> Iterator[str]:
    """What the output lacks, or has beside the source."""
    codec, layout = encoding.codec, info.layout
    if (encoding.width, encoding.height) != (info.width, info.height):
        why = "in square pixels" if encoding.scaled else "so that all players show them"
        yield f"frames of {info.width}x{info.height} are written as {encoding.width}x{encoding.height}, {why}"
    if encoding.form.bits < layout.bits:
        more = f"{codec.encoder} takes no more here" if layout.bits <= 12 or encoding.form.bits != 10 else _SHOWN
        why = "as pix_fmt says" if options.pix_fmt is not None else more
        yield f"{layout.bits} bits a channel are written as {encoding.form.bits}: {why}"
    suffix = destination.suffix.lower()
    carried = codec.carries_aspect or suffix in METADATA_CONTAINERS or encoding.scaled
    if layout.aspect is not None and not carried:
        yield f"pixels are {layout.aspect} as wide as high, which {suffix} with {codec.encoder} does not say"
    if info.profile and suffix not in ICC_PROFILE_ANIMATIONS:
        yield f"the colour profile (ICC) of {info.name} is not written to {suffix}; a folder of PNG images keeps it"
    asked = options.pix_fmt is not None or options.odd == "444"
    if not asked and codec.encoder in _DECODED and suffix != ".mkv":
        yield from _seldom_decoded(encoding)
    yield from info.spatial.notes(suffix)
    yield from info.hdr.notes(codec.encoder, in_container=suffix in METADATA_CONTAINERS)
