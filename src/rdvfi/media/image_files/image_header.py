"""Header of an image file: size, depth, transparency and colour profile, read before its pixels.

Sizes are bounded here, before anything is decoded: a file of a few bytes may claim a picture that
fills the memory. Formats whose headers Pillow does not read are read here.
"""

import re
import struct
from dataclasses import dataclass
from io import SEEK_END, BufferedReader, BytesIO

File = BufferedReader | BytesIO

MAX_PIXELS = 2**27
"""Pixels of a picture at most, unless told otherwise: 16384 x 8192."""

PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM")
"""Formats that Pillow may recognise; those that start other programs (EPS) are not among them."""
_ANIMATED = ("PNG", "WEBP")
_OWN_ORIENTATION = ("TIFF", "AVIF")  # turned by what decodes them
_TAIL = 4096


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an image before it is decoded."""

    kind: str
    """The format: PNG, JPEG, EXR, ..."""
    width: int
    """As it is seen, turned upright."""
    height: int
    bits: int = 8
    """Bits a channel that come out: 8 or 16."""
    alpha: bool = False
    frames: int = 1
    profile: bytes = b""
    """ICC profile of RGB; empty if there is none."""
    orientation: int = 1
    """As EXIF numbers it; 1 is upright."""
    grey_floats: bool = False
    """Whether it is a TIFF of one channel of floats."""
    notes: tuple[str, ...] = ()
    """How its values are understood, in clauses."""


def read_header(file: File, name: str, *, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """The header of an image file; ``name`` is what errors call it.

    Raises:
        ValueError: If it is empty, no image, cut short, or larger than ``max_pixels``.
    """
    start = file.read(8)
    file.seek(0)
    if not start:
        raise ValueError(f"{name} is empty")
    if start.startswith(b"\x89PNG") and not _ends_with(file, b"IEND"):
        raise ValueError(f"{name} is cut short: the end of the PNG is missing")
    file.seek(0)
    try:
        header = _read(file, start)
    except Exception as error:  # decoders raise anything for bytes that they do not expect
        if "DecompressionBomb" in type(error).__name__:
            raise ValueError(f"{name} is larger than Pillow takes: {error}") from error
        raise ValueError(f"{name} is not an image that can be read, or is damaged") from error
    if header.width < 1 or header.height < 1:
        raise ValueError(f"{name} is damaged: it says that it is {header.width}x{header.height}")
    if header.width * header.height > max_pixels:
        raise ValueError(
            f"{name} says that it is {header.width}x{header.height}, more pixels than max_pixels={max_pixels}; "
            "raise it if that is true"
        )
    return header


def _read(file: File, start: bytes) -> ImageHeader:
    if start[:4] == b"\x76\x2f\x31\x01":
        return _exr(file)
    if start[:4] in (b"SDPX", b"XPDS"):
        return _dpx(file)
    if start[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(file)
    return _with_pillow(file)


def _ends_with(file: File, mark: bytes) -> bool:
    size = file.seek(0, SEEK_END)
    file.seek(max(0, size - _TAIL))
    return mark in file.read()


def _with_pillow(file: File) -> ImageHeader:
    import warnings

    import PIL.Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures: the limit is ours
        image = PIL.Image.open(file, formats=PILLOW_FORMATS)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    # Pillow would decode a PNG to look for what may stand behind its pixels.
    unsaid = kind in _OWN_ORIENTATION or (kind == "PNG" and "exif" not in image.info)
    orientation = 1 if unsaid else int(image.getexif().get(0x0112, 1))
    turned = orientation in (5, 6, 7, 8)
    width, height = image.size[::-1] if turned else image.size
    file.seek(0)
    return ImageHeader(
        kind,
        width,
        height,
        bits=16 if _bits(file, kind, image.mode) > 8 else 8,
        alpha=image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info,
        frames=int(getattr(image, "n_frames", 1)) if kind in _ANIMATED else 1,
        profile=rgb_profile(image.info.get("icc_profile")),
        orientation=orientation if orientation in range(1, 9) else 1,
    )


def _bits(file: File, kind: str, mode: str) -> int:
    """Bits a channel, of which Pillow tells only some."""
    if kind == "PNG":
        return file.read(25)[24]
    if kind == "PPM":  # P3 and P6: width, height, largest value
        words = re.sub(rb"#[^\n]*", b" ", file.read(_TAIL)).split(maxsplit=4)
        return 16 if words[0] in (b"P2", b"P3", b"P5", b"P6") and int(words[3]) > 255 else 8
    if kind == "AVIF":
        box = file.read(_TAIL)
        at = box.find(b"av1C")
        return 8 if at < 0 or not box[at + 6] & 0x40 else 12 if box[at + 6] & 0x20 else 10
    if kind == "JPEG2000":
        stream = file.read(_TAIL)
        at = stream.find(b"\xff\x4f\xff\x51")
        return 8 if at < 0 else (stream[at + 42] & 0x7F) + 1
    return 16 if mode.startswith("I") else 8


def rgb_profile(profile: bytes | None) -> bytes:
    """The profile, if it is one of RGB: the pixels of others are converted."""
    return profile if profile and profile[16:20] == b"RGB " else b""


def _exr(file: File) -> ImageHeader:
    """The attributes up to the channels and the window that is shown."""
    file.seek(8)
    found: dict[bytes, bytes] = {}
    while len(found) < 1000 and (name := _text(file)):
        _text(file)  # its type
        found[name] = file.read(min(struct.unpack("<i", file.read(4))[0], 2**20))
    left, top, right, bottom = struct.unpack("<4i", found[b"displayWindow"])
    names = [entry.split(b"\0")[0] for entry in _channels(found[b"channels"])]
    notes = ("linear light is encoded as sRGB, and what is brighter than 1 is clipped",)
    return ImageHeader("EXR", right - left + 1, bottom - top + 1, 16, b"A" in names, notes=notes)


def _text(file: File) -> bytes:
    read = b""
    while len(read) < 256 and (one := file.read(1)) not in (b"", b"\0"):
        read += one
    return read


def _channels(table: bytes) -> list[bytes]:
    """Entries of a channel list: a name, and 16 bytes about it."""
    entries, at = [], 0
    while at < len(table) and table[at] and len(entries) < 1000:
        end = table.index(b"\0", at)
        entries.append(table[at:end])
        at = end + 17
    return entries


def _dpx(file: File) -> ImageHeader:
    head = file.read(816)
    order = ">" if head.startswith(b"SDPX") else "<"
    width, height = struct.unpack(f"{order}2I", head[772:780])
    return ImageHeader("DPX", width, height, 16 if head[803] > 8 else 8, head[800] in (51, 52))


_SIZES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B"}
_WIDTH, _HEIGHT, _BITS, _TURN, _SAMPLES, _EXTRA, _FORMAT, _PROFILE = 256, 257, 258, 274, 277, 338, 339, 34675


def _tiff(file: File) -> ImageHeader:
    """The first directory of a TIFF; Pillow does not know those of floats."""
    order = "<" if file.read(2) == b"II" else ">"
    file.seek(4)
    file.seek(struct.unpack(f"{order}I", file.read(4))[0])
    tags = {}
    for _ in range(struct.unpack(f"{order}H", file.read(2))[0]):
        tag, kind, count, value = struct.unpack(f"{order}HHI4s", file.read(12))
        tags[tag] = (kind, count, value)
    several = struct.unpack(f"{order}I", file.read(4))[0] != 0

    def values(tag: int, default: int) -> tuple[int, ...]:
        if tag not in tags:
            return (default,)
        kind, count, value = tags[tag]
        size = struct.calcsize(f"{order}{count}{_SIZES[kind]}")
        if size > 4:
            file.seek(struct.unpack(f"{order}I", value)[0])
            value = file.read(size)
        return struct.unpack(f"{order}{count}{_SIZES[kind]}", value[:size])

    notes = []
    floats = values(_FORMAT, 1)[0] == 3
    if floats:
        notes.append("values below 0 and above 1 are clipped")
    if several:
        notes.append("the first of several pages is used")
    bits, samples = values(_BITS, 1)[0], values(_SAMPLES, 1)[0]
    profile = bytes(values(_PROFILE, 0)) if _PROFILE in tags else b""
    width, height = values(_WIDTH, 0)[0], values(_HEIGHT, 0)[0]
    if values(_TURN, 1)[0] in (5, 6, 7, 8):
        width, height = height, width
    return ImageHeader(
        "TIFF float" if floats else "TIFF",
        width,
        height,
        bits=16 if bits > 8 or floats else 8,
        alpha=samples in (2, 4) and _EXTRA in tags and values(_EXTRA, 0)[0] in (1, 2),
        profile=rgb_profile(profile),
        grey_floats=floats and samples == 1,
        notes=tuple(notes),
    )
