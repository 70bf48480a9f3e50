"""Which encoder writes which file, and in which pixel format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rdvfi.media.colour import PixelLayout


@dataclass(frozen=True)
class Codec:
    """An encoder and the settings that it is given."""

    encoder: str
    suffixes: frozenset[str]
    crf: int | None
    """Default quality, lower is better; None where the codec is lossless."""
    worst_crf: int = 51
    options: Mapping[str, str] = field(default_factory=dict)
    chromas: frozenset[str] = frozenset({"420", "422", "444"})
    odd_sizes: bool = False
    """Whether subsampled frames may have odd sides."""
    lossless_rgb: bool = False


CODECS: Mapping[str, Codec] = {
    "h264": Codec("libx264", frozenset({".mp4", ".mov", ".mkv"}), 18, 51, {"preset": "veryfast"}),
    "hevc": Codec(
        "libx265",
        frozenset({".mp4", ".mov", ".mkv"}),
        20,
        51,
        # x265 reports on the error stream otherwise.
        {"preset": "veryfast", "x265-params": "log-level=error"},
    ),
    "vp9": Codec(
        "libvpx-vp9",
        frozenset({".webm", ".mkv", ".mp4"}),
        24,
        63,
        {"deadline": "good", "cpu-used": "4", "row-mt": "1", "b": "0"},
        odd_sizes=True,
    ),
    "ffv1": Codec("ffv1", frozenset({".mkv"}), None, lossless_rgb=True),
}
"""Codecs by the names that users give."""

DEFAULT_CODEC: Mapping[str, str] = {
    ".mp4": "h264",
    ".mov": "h264",
    ".mkv": "h264",
    ".webm": "vp9",
}
"""Output suffixes that are written, and the codec that each gets by itself."""


def choose_codec(name: str | None, destination: Path) -> Codec:
    """The codec of this name, or the usual one of the suffix.

    Raises:
        ValueError: If there is no such codec, or the container cannot hold it.
    """
    suffix = destination.suffix.lower()
    name = DEFAULT_CODEC[suffix] if name is None else name
    if name not in CODECS:
        raise ValueError(f"codec is {name!r}; it must be one of {', '.join(CODECS)}")
    codec = CODECS[name]
    if suffix not in codec.suffixes:
        raise ValueError(f"codec {name} cannot be written to {suffix}; use {', '.join(sorted(codec.suffixes))}")
    return codec


def encoder_options(codec: Codec, crf: int | None) -> dict[str, str]:
    """Options of the encoder with this quality.

    Raises:
        ValueError: If the quality is out of the codec's range.
    """
    options = dict(codec.options)
    if codec.crf is None:
        if crf is not None:
            raise ValueError(f"crf is {crf}, but {codec.encoder} is lossless and takes none")
        return options
    chosen = codec.crf if crf is None else crf
    if not 0 <= chosen <= codec.worst_crf:
        raise ValueError(f"crf is {chosen}; {codec.encoder} takes 0 (best) to {codec.worst_crf}")
    return {**options, "crf": str(chosen)}


def choose_pixel_format(codec: Codec, layout: PixelLayout, width: int, height: int) -> str:
    """The pixel format that keeps the source's depth and chroma, as far as the codec can.

    Raises:
        ValueError: If the codec cannot write frames of odd size.
    """
    if codec.lossless_rgb:
        return "gbrp16le" if layout.deep else "bgr0"
    chroma = layout.chroma if layout.chroma in codec.chromas else "420"
    halved = (width % 2 and chroma != "444") or (height % 2 and chroma == "420")
    if halved and not codec.odd_sizes:
        # Subsampling needs even sides; full chroma keeps every pixel, unlike a crop.
        if "444" not in codec.chromas:
            raise ValueError(f"{codec.encoder} cannot write {width}x{height}: a side is odd")
        chroma = "444"
    return f"yuv{chroma}p" + ("10le" if layout.deep else "")
