"""Header of an image file: size, depth, transparency and colour profile, read before its pixels.

Sizes are bounded here, before anything is decoded: a file of a few bytes may declare a picture that fills the
memory. Formats whose headers Pillow does not read are parsed here.
"""

import re
import struct
from dataclasses import dataclass
from io import SEEK_END, BufferedReader, BytesIO

File = BufferedReader | BytesIO

MAX_PIXELS = 2**27
"""Default limit of the pixels of a picture: 16384 x 8192."""

PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM")
"""Formats that Pillow may recognise; those that start other programs (EPS) are not among them."""
_ANIMATED_FORMATS = ("PNG", "WEBP")
_FORMATS_TURNED_BY_DECODER = ("TIFF", "AVIF")
_SCANNED_BYTES = 4096
"""Bytes at the start or end of a file in which a marker is searched."""
_MAX_ENTRIES = 1000
"""Entries of a table, after which the file counts as damaged."""


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an image before it is decoded."""

    kind: str
    """The format: PNG, JPEG, EXR, ..."""
    width: int
    """Width and height are those of the upright picture."""
    height: int
    bits: int = 8
    """Bits per channel of the decoded pixels: 8 or 16."""
    alpha: bool = False
    frames: int = 1
    profile: bytes = b""
    """ICC profile of RGB; empty if there is none."""
    orientation: int = 1
    """Number of EXIF; 1 is upright."""
    grey_floats: bool = False
    """Whether it is a TIFF of one channel of floats."""
    notes: tuple[str, ...] = ()
    """What decoding changes, in clauses."""


def read_header(file: File, name: str, *, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """The header of an image file; errors call it ``name``.

    Raises:
        ValueError: If it is empty, no image, truncated, or larger than ``max_pixels``.
    """
    magic = file.read(8)
    file.seek(0)
    if not magic:
        raise ValueError(f"{name} is empty")
    if magic.startswith(b"\x89PNG") and not _tail_contains(file, b"IEND"):
        raise ValueError(f"{name} is truncated: the end of the PNG is missing")
    file.seek(0)
    try:
        header = _read(file, magic)
    except Exception as error:  # decoders raise anything for bytes that they do not expect
        if "DecompressionBomb" in type(error).__name__:
            raise ValueError(f"{name} is larger than Pillow takes: {error}") from error
        raise ValueError(f"{name} is not an image that can be read, or is damaged") from error
    if header.width < 1 or header.height < 1:
        raise ValueError(f"{name} is damaged: it declares {header.width}x{header.height} pixels")
    if header.width * header.height > max_pixels:
        raise ValueError(
            f"{name} declares {header.width}x{header.height} pixels, more than max_pixels={max_pixels}; "
            "raise it if that is right"
        )
    return header


def _read(file: File, magic: bytes) -> ImageHeader:
    if magic[:4] == b"\x76\x2f\x31\x01":
        return _read_exr(file)
    if magic[:4] in (b"SDPX", b"XPDS"):
        return _read_dpx(file)
    if magic[:4] in (b"II*\0", b"MM\0*"):
        return _read_tiff(file)
    return _read_with_pillow(file)


def _tail_contains(file: File, marker: bytes) -> bool:
    size = file.seek(0, SEEK_END)
    file.seek(max(0, size - _SCANNED_BYTES))
    return marker in file.read()


def _read_with_pillow(file: File) -> ImageHeader:
    import warnings

    import PIL.Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limit is ours
        image = PIL.Image.open(file, formats=PILLOW_FORMATS)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    # For a PNG without EXIF before its pixels, Pillow would decode the pixels to look behind them.
    skip_exif = kind in _FORMATS_TURNED_BY_DECODER or (kind == "PNG" and "exif" not in image.info)
    orientation = 1 if skip_exif else int(image.getexif().get(0x0112, 1))
    width, height = image.size[::-1] if _swaps_axes(orientation) else image.size
    file.seek(0)
    return ImageHeader(
        kind,
        width,
        height,
        bits=16 if _stored_bits(file, kind, image.mode) > 8 else 8,
        alpha=image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info,
        frames=int(getattr(image, "n_frames", 1)) if kind in _ANIMATED_FORMATS else 1,
        profile=rgb_profile(image.info.get("icc_profile")),
        orientation=orientation if orientation in range(1, 9) else 1,
    )


def _swaps_axes(orientation: int) -> bool:
    return orientation in (5, 6, 7, 8)


def _stored_bits(file: File, kind: str, mode: str) -> int:
    """Bits per channel in the file; Pillow's mode gives them for some formats only."""
    if kind == "PNG":
        return file.read(25)[24]
    start = file.read(_SCANNED_BYTES)
    if kind == "PPM":  # the header of P3 and P6: width, height, largest value
        words = re.sub(rb"#[^\n]*", b" ", start).split(maxsplit=4)
        return 16 if words[0] in (b"P2", b"P3", b"P5", b"P6") and int(words[3]) > 255 else 8
    if kind == "AVIF":
        return avif_bits(start)
    if kind == "JPEG2000":
        codestream = start.find(b"\xff\x4f\xff\x51")
        return 8 if codestream < 0 else (start[codestream + 42] & 0x7F) + 1
    return 16 if mode.startswith("I") else 8


def avif_bits(data: bytes) -> int:
    """Bits per channel of an AVIF file, by its box ``av1C``."""
    box = data.find(b"av1C")
    if box < 0 or not data[box + 6] & 0x40:
        return 8
    return 12 if data[box + 6] & 0x20 else 10


def rgb_profile(profile: bytes | None) -> bytes:
    """The ICC profile, if it is one of RGB, else empty: pixels of other colour spaces are converted to RGB."""
    return profile if profile and profile[16:20] == b"RGB " else b""


def _read_exr(file: File) -> ImageHeader:
    file.seek(8)
    attributes: dict[bytes, bytes] = {}
    while len(attributes) < _MAX_ENTRIES and (name := _read_string(file)):
        _read_string(file)  # the attribute's type
        attributes[name] = file.read(min(struct.unpack("<i", file.read(4))[0], 2**20))
    left, top, right, bottom = struct.unpack("<4i", attributes[b"displayWindow"])
    channels = _exr_channel_names(attributes[b"channels"])
    notes = ("linear light is encoded as sRGB, and values above 1 are clipped",)
    return ImageHeader("EXR", right - left + 1, bottom - top + 1, 16, b"A" in channels, notes=notes)


def _read_string(file: File) -> bytes:
    """Bytes up to a zero, which is consumed."""
    text = b""
    while len(text) < 256 and (byte := file.read(1)) not in (b"", b"\0"):
        text += byte
    return text


def _exr_channel_names(table: bytes) -> list[bytes]:
    """Names in a channel list, each of which is followed by a zero and 16 bytes of properties."""
    names, start = [], 0
    while start < len(table) and table[start] and len(names) < _MAX_ENTRIES:
        end = table.index(b"\0", start)
        names.append(table[start:end])
        start = end + 17
    return names


def _read_dpx(file: File) -> ImageHeader:
    header = file.read(816)
    byte_order = ">" if header.startswith(b"SDPX") else "<"
    width, height = struct.unpack(f"{byte_order}2I", header[772:780])
    return ImageHeader("DPX", width, height, 16 if header[803] > 8 else 8, header[800] in (51, 52))


_TIFF_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B"}
"""Struct codes of TIFF's types of values."""
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_ORIENTATION, _TIFF_SAMPLES = 256, 257, 258, 274, 277
_TIFF_EXTRA_SAMPLES, _TIFF_SAMPLE_FORMAT, _TIFF_PROFILE = 338, 339, 34675


def _read_tiff(file: File) -> ImageHeader:
    """The header of a TIFF; Pillow does not know those of floats."""
    byte_order = "<" if file.read(2) == b"II" else ">"

    def read(codes: str) -> tuple:
        return struct.unpack(byte_order + codes, file.read(struct.calcsize(byte_order + codes)))

    file.seek(4)
    file.seek(read("I")[0])
    entries = {tag: entry for tag, *entry in (read("HHI4s") for _ in range(read("H")[0]))}
    has_more_pages = read("I")[0] != 0

    def values(tag: int, default: int) -> tuple[int, ...]:
        if tag not in entries:
            return (default,)
        kind, count, value = entries[tag]
        codes = f"{byte_order}{count}{_TIFF_TYPES[kind]}"
        size = struct.calcsize(codes)
        if size > 4:  # the entry holds the position of the values
            file.seek(struct.unpack(f"{byte_order}I", value)[0])
            value = file.read(size)
        return struct.unpack(codes, value[:size])

    floats, samples = values(_TIFF_SAMPLE_FORMAT, 1)[0] == 3, values(_TIFF_SAMPLES, 1)[0]
    width, height = values(_TIFF_WIDTH, 0)[0], values(_TIFF_HEIGHT, 0)[0]
    if _swaps_axes(values(_TIFF_ORIENTATION, 1)[0]):
        width, height = height, width
    notes = ["values below 0 and above 1 are clipped"] if floats else []
    return ImageHeader(
        "TIFF float" if floats else "TIFF",
        width,
        height,
        bits=16 if values(_TIFF_BITS, 1)[0] > 8 or floats else 8,
        alpha=samples in (2, 4) and values(_TIFF_EXTRA_SAMPLES, 0)[0] in (1, 2),
        profile=rgb_profile(bytes(values(_TIFF_PROFILE, 0))),
        grey_floats=floats and samples == 1,
        notes=tuple(notes + ["the first of several pages is used"] * has_more_pages),
    )
