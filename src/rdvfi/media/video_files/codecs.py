"""Choice of encoder and pixel format for an output file."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import av.error
import torch
from av.codec.codec import UnknownCodecError

from rdvfi.media.colour import Colour, PixelLayout, chroma_of
from rdvfi.media.video_files.scheduling import preserve_scheduling

_LOGGER = logging.getLogger(__name__)
_COMMON_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".ts"})


@dataclass(frozen=True)
class Codec:
    """An encoder and its settings."""

    encoder: str
    suffixes: frozenset[str]
    crf: int | None = None
    """Default quality, lower is better; None if the encoder has no such option."""
    worst_crf: int = 51
    quality_options: str = "crf"
    """The encoder's options of quality, separated by spaces; all get the same value."""
    preset_option: str | None = "preset"
    """The encoder's option that chooses between speed and size; None if it has none."""
    options: Mapping[str, str] = field(default_factory=dict)
    odd_sizes: bool = False
    """Whether subsampled frames may have odd sides."""
    lossless: bool = False
    """Whether it keeps frames exactly, as RGB."""
    stores_aspect: bool = True
    """Whether the stream itself stores the pixel aspect ratio."""
    joins: bool = True
    """Whether groups of pictures that were encoded separately can be joined to one track."""
    matrices: frozenset[int] | None = None
    """FFmpeg's numbers of the colour matrices that the stream can store; None for all."""

    def output_colour(self, source: Colour) -> Colour:
        """The source's colour, with the matrix of BT.709 if the stream cannot store the source's."""
        supported = self.matrices is None or source.matrix in self.matrices
        return source if supported else replace(source, matrix=1)


# With AVX-512 x264 reads uninitialised memory in its lookahead, so that no two runs are equal. It is as fast without.
_X264_DETERMINISTIC = {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}

CODECS: Mapping[str, Codec] = {
    "h264": Codec("libx264", _COMMON_SUFFIXES | {".avi"}, 18, options={"preset": "veryfast", **_X264_DETERMINISTIC}),
    # x265 would print to standard error.
    "hevc": Codec("libx265", _COMMON_SUFFIXES, 20, options={"preset": "veryfast", "x265-params": "log-level=error"}),
    "av1": Codec(
        "libsvtav1", frozenset({".mp4", ".m4v", ".mkv", ".webm"}), 28, 63, options={"preset": "8"}, stores_aspect=False
    ),
    "vp9": Codec(
        "libvpx-vp9",
        frozenset({".webm", ".mkv", ".mp4"}),
        24,
        63,
        preset_option="cpu-used",
        options={"deadline": "good", "cpu-used": "4", "row-mt": "1", "b": "0"},
        odd_sizes=True,
        stores_aspect=False,
        matrices=frozenset({0, 1, 2, 5, 6, 7, 9}),
    ),
    "prores": Codec("prores_ks", frozenset({".mov", ".mkv"}), preset_option="profile", options={"vendor": "apl0"}),
    "mpeg4": Codec("mpeg4", frozenset({".avi", ".mp4", ".mkv"}), 3, 31, "qmin qmax", None),
    "ffv1": Codec("ffv1", frozenset({".mkv", ".avi"}), preset_option=None, lossless=True, stores_aspect=False),
    "raw": Codec("rawvideo", frozenset({".y4m", ".mkv"}), preset_option=None, odd_sizes=True, stores_aspect=False),
    "gif": Codec("gif", frozenset({".gif"}), preset_option=None, odd_sizes=True, stores_aspect=False, joins=False),
    "webp": Codec(
        "libwebp_anim", frozenset({".webp"}), 90, 100, "quality", None, odd_sizes=True, stores_aspect=False, joins=False
    ),
    "apng": Codec("apng", frozenset({".apng"}), preset_option=None, lossless=True, stores_aspect=False, joins=False),
    "h264-nvenc": Codec("h264_nvenc", _COMMON_SUFFIXES, 20, 51, "cq", options={"preset": "p5"}),
    "hevc-nvenc": Codec("hevc_nvenc", _COMMON_SUFFIXES, 22, 51, "cq", options={"preset": "p5"}),
    "av1-nvenc": Codec("av1_nvenc", frozenset({".mp4", ".mkv", ".webm"}), 28, 63, "cq", options={"preset": "p5"}),
    "h264-qsv": Codec("h264_qsv", _COMMON_SUFFIXES, 20, 51, "global_quality"),
    "hevc-qsv": Codec("hevc_qsv", _COMMON_SUFFIXES, 22, 51, "global_quality"),
    "h264-videotoolbox": Codec("h264_videotoolbox", _COMMON_SUFFIXES, preset_option=None),
    "hevc-videotoolbox": Codec("hevc_videotoolbox", _COMMON_SUFFIXES, preset_option=None),
}
"""Codecs by name; users may give the name of the encoder as well, such as h264_nvenc."""

AUTO = "auto"
"""The name that chooses NVENC if it works, else the default codec."""
_BY_ENCODER = {codec.encoder: name for name, codec in CODECS.items()}

DEFAULT_CODECS: Mapping[str, tuple[str, str]] = {
    ".mp4": ("h264", "hevc"),
    ".m4v": ("h264", "hevc"),
    ".mov": ("h264", "hevc"),
    ".mkv": ("h264", "hevc"),
    ".ts": ("h264", "hevc"),
    ".webm": ("vp9", "av1"),
    ".avi": ("h264", "h264"),
    ".y4m": ("raw", "raw"),
    ".gif": ("gif", "gif"),
    ".webp": ("webp", "webp"),
    ".apng": ("apng", "apng"),
}
"""Supported output suffixes, and the default codec of each: for up to 8 bits, and above.

No common player decodes H.264 of more than 8 bits in hardware, while most decode HEVC Main 10.
"""

CONTAINER_TICKS: Mapping[str, Fraction] = {
    ".mkv": Fraction(1, 1000),
    ".webm": Fraction(1, 1000),
    ".ts": Fraction(1, 90_000),
    ".avi": Fraction(1, 1000),
    ".gif": Fraction(1, 50),
    ".webp": Fraction(1, 1000),
}
"""Shortest duration of a frame in seconds, for containers that have a limit. GIF counts hundredths of a second, but
viewers slow down frames of a single one."""


def choose_codec(name: str | None, destination: Path, layout: PixelLayout | None = None) -> Codec:
    """The codec of this name, or the default of the suffix.

    Args:
        name: One of `CODECS`, or `AUTO`; None for the default.
        destination: The file to write.
        layout: Depth, chroma and alpha of the source.

    Raises:
        ValueError: If there is no such codec, or the container cannot hold it.
    """
    suffix = destination.suffix.lower()
    deep = layout is not None and layout.deep
    name = find_nvenc_codec(suffix, deep=deep) if name == AUTO else _BY_ENCODER.get(name or "", name)
    if name is None:
        default, deep_default = DEFAULT_CODECS[suffix]
        # Transparency matters more than depth.
        keeps_alpha = layout is not None and layout.alpha and supports_alpha(CODECS[default])
        name = deep_default if deep and not keeps_alpha else default
    if name not in CODECS:
        raise ValueError(f"codec is {name!r}; it must be one of {AUTO}, {', '.join(CODECS)}")
    codec = CODECS[name]
    if suffix not in codec.suffixes:
        raise ValueError(f"codec {name} cannot be written to {suffix}; use {', '.join(sorted(codec.suffixes))}")
    return codec


@cache
def find_nvenc_codec(suffix: str, *, deep: bool) -> str | None:
    """The name of the NVENC codec for a suffix, if it can be opened; else None, and the log says why.

    Above 8 bits it is HEVC, since NVENC encodes H.264 with 8 bits only.
    """
    name = "av1-nvenc" if suffix == ".webm" else "hevc-nvenc" if deep else "h264-nvenc"
    codec = CODECS[name]
    if suffix not in codec.suffixes:
        _LOGGER.warning("codec auto encodes on the processor: %s is not written to %s", name, suffix)
        return None
    try:
        pixel_format = choose_pixel_format(codec, PixelLayout(bits=10 if deep else 8))
        check_encoder(codec, pixel_format, encoder_options(codec, crf=None, preset=None, bitrate=None))
    except ValueError as error:
        _LOGGER.warning("codec auto encodes on the processor: %s", error)
        return None
    return name


def encoder_options(codec: Codec, *, crf: int | None, preset: str | None, bitrate: int | None) -> dict[str, str]:
    """FFmpeg's options of the encoder for a quality, preset or bit rate.

    Raises:
        ValueError: If the encoder has no such option, or the quality is out of its range.
    """
    options = dict(codec.options)
    if preset is not None:
        if codec.preset_option is None:
            raise ValueError(f"preset is {preset!r}, but {codec.encoder} has no presets")
        options[codec.preset_option] = preset
    if bitrate is not None:
        if crf is not None:
            raise ValueError("give either crf or bitrate, not both")
        if bitrate < 1000 or codec.lossless:
            accepted = "none: it is lossless" if codec.lossless else "1000 and more"
            raise ValueError(f"bitrate is {bitrate} bits per second; {codec.encoder} takes {accepted}")
        return {**options, "b": str(bitrate)}
    if codec.crf is None and crf is not None:
        reason = "is lossless and takes none" if codec.lossless else "takes none; give bitrate"
        raise ValueError(f"crf is {crf}, but {codec.encoder} {reason}")
    if codec.crf is None:
        return options
    chosen = codec.crf if crf is None else crf
    if not 0 <= chosen <= codec.worst_crf:
        best = "worst" if codec.quality_options == "quality" else "best"
        raise ValueError(f"crf is {chosen}; {codec.encoder} takes 0 ({best}) to {codec.worst_crf}")
    return options | dict.fromkeys(codec.quality_options.split(), str(chosen))


@dataclass(frozen=True)
class PixelFormat:
    """A pixel format that an encoder takes."""

    name: str
    bits: int
    chroma: str
    """420, 422, 444 or rgb."""


_ANIMATIONS = {"gif": PixelFormat("pal8", 8, "rgb"), "libwebp_anim": PixelFormat("bgra", 8, "rgb")}
"""The only formats of animations."""

_RAW = tuple(
    PixelFormat(f"yuv{chroma}p{f'{bits}le' if bits > 8 else ''}", bits, chroma)
    for chroma in ("420", "422", "444")
    for bits in (8, 10, 12)
)
"""Formats of raw video, which other programs read from a pipe."""
_REQUIREMENTS = {"nvenc": "an NVIDIA GPU and its driver", "qsv": "an Intel GPU and its driver", "videotoolbox": "macOS"}
"""What hardware encoders need, by part of their name."""

_ALPHA: Mapping[str, tuple[PixelFormat, ...]] = {
    "libvpx-vp9": (PixelFormat("yuva420p", 8, "420"),),
    "prores_ks": (PixelFormat("yuva444p10le", 10, "444"),),
    "ffv1": (PixelFormat("bgra", 8, "rgb"), PixelFormat("rgba64le", 16, "rgb")),
    "apng": (PixelFormat("rgba", 8, "rgb"), PixelFormat("rgba64be", 16, "rgb")),
    "libwebp_anim": (_ANIMATIONS["libwebp_anim"],),
    "gif": (_ANIMATIONS["gif"],),
}
"""Formats with transparency that common players and editors read."""


def supports_alpha(codec: Codec) -> bool:
    """Whether a codec can keep transparency."""
    return codec.encoder in _ALPHA


@cache
def encoder_formats(encoder: str) -> tuple[PixelFormat, ...]:
    """The pixel formats of an encoder that have colour and no transparency.

    Raises:
        ValueError: If FFmpeg was built without this encoder.
    """
    if encoder == "rawvideo":
        return _RAW
    try:
        formats = av.Codec(encoder, "w").video_formats or ()
    except UnknownCodecError as error:
        needs = next((f", which needs {what}" for part, what in _REQUIREMENTS.items() if part in encoder), "")
        raise ValueError(
            f"there is no encoder {encoder} in this build of FFmpeg{needs}; choose another codec"
        ) from error
    candidates = (_usable_format(form.name) for form in formats)
    return tuple(candidate for candidate in candidates if candidate is not None)


def _usable_format(name: str) -> PixelFormat | None:
    """A pixel format by FFmpeg's name; None if it is deprecated, grey, with alpha or with a palette."""
    form = av.VideoFormat(name, 16, 16)
    deprecated = name.startswith(("yuvj", "yuva", "gbra")) or "msb" in name
    if deprecated or form.has_palette or (len(form.components) != 3 and name not in ("bgr0", "rgb0")):
        return None
    bits = max(component.bits for component in form.components)
    if form.is_rgb:
        return PixelFormat(name, bits, "rgb") if bits >= 8 else None
    chroma = chroma_of(form)
    return None if chroma is None else PixelFormat(name, bits, chroma)


def choose_pixel_format(codec: Codec, layout: PixelLayout) -> PixelFormat:
    """The encoder's pixel format that keeps as much of the source's depth and chroma as possible.

    Raises:
        ValueError: If there is no such encoder, or none of its formats can be written.
    """
    if layout.alpha and codec.encoder in _ALPHA:
        return min(_ALPHA[codec.encoder], key=lambda form: _format_cost(form, layout))
    if codec.encoder in _ANIMATIONS:
        return _ANIMATIONS[codec.encoder]
    formats = encoder_formats(codec.encoder)
    wanted = [form for form in formats if (form.chroma == "rgb") == codec.lossless] or list(formats)
    if not wanted:
        raise ValueError(f"{codec.encoder} lists no pixel formats; choose another codec")
    return min(wanted, key=lambda form: _format_cost(form, layout))


def _format_cost(form: PixelFormat, layout: PixelLayout) -> tuple[int, int, int]:
    """What a format loses of the source, then what it stores in excess; planar formats win ties."""
    order = ("420", "422", "444", "rgb")
    chroma = order.index(form.chroma) - order.index(layout.chroma)
    wanted_bits = layout.bits
    if form.chroma == "rgb" and layout.deep:
        wanted_bits = 16  # RGB of 10-bit video needs more than 10 bits
    elif wanted_bits > 12:
        wanted_bits = 10  # what players show of 16-bit images
    bits = form.bits - wanted_bits
    loss = 10 * max(0, -bits) + 8 * max(0, -chroma)
    return loss, max(0, bits) + 2 * max(0, chroma), form.name.startswith(("nv", "p0", "p2"))


def find_pixel_format(codec: Codec, name: str) -> PixelFormat:
    """The encoder's pixel format of this name; raises ValueError if there is none."""
    formats = {form.name: form for form in encoder_formats(codec.encoder)}
    if name not in formats:
        raise ValueError(f"pix_fmt is {name!r}; {codec.encoder} takes {', '.join(formats)}")
    return formats[name]


def check_encoder(codec: Codec, pixel_format: PixelFormat, options: Mapping[str, str]) -> None:
    """Open the encoder once before the work, since it may need a device or refuse an option.

    Raises:
        ValueError: If it cannot be opened.
    """
    os.environ.setdefault("SVT_LOG", "1")  # it would print to standard error
    context = av.CodecContext.create(codec.encoder, "w")
    context.width, context.height, context.pix_fmt = 320, 192, pixel_format.name  # pyright: ignore[reportAttributeAccessIssue]
    context.time_base = Fraction(1, 25)
    context.framerate = Fraction(25)  # pyright: ignore[reportAttributeAccessIssue]
    context.options = dict(options)
    try:
        with preserve_scheduling():
            context.open(strict=True)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        chosen = ", ".join(f"{key}={value}" for key, value in options.items())
        needs = next((f"it needs {what}; " for part, what in _REQUIREMENTS.items() if part in codec.encoder), "")
        raise ValueError(
            f"{codec.encoder} cannot be used here: {needs}FFmpeg says {reason} ({chosen}); choose another codec"
        ) from error
    if context.options:  # those that the encoder did not take
        raise ValueError(f"{codec.encoder} does not know {', '.join(context.options)}")
