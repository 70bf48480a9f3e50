"""Image files: reading them strictly, writing PNG, and their natural order."""

import re
from pathlib import Path

import numpy as np

from rdvfi.media.pixels import Pixels

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Image files that are read."""

_PNG = b"\x89PNG"
_HEADER = 33
"""Bytes of a PNG up to the end of its first chunk."""


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file."""
    return path.suffix.lower() in SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order: ``frame9`` comes before ``frame10``.

    Hidden files, among them those that macOS puts beside others (``._frame9.png``), are none.

    Raises:
        ValueError: If there are none.
    """
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    paths = [path for path in shown if is_image(path) and path.is_file()]
    if not paths:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return sorted(paths, key=natural_key)


def natural_key(path: Path) -> tuple[tuple[int, str], ...]:
    """A sorting key in which runs of digits count as numbers; the name itself breaks ties."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    key = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
    return (*key, (-2, path.name))


def read_image(path: Path) -> Pixels:
    """An image as RGB, 8 or 16 bits a channel; grey is spread, what is transparent is shown on black.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, cut short, damaged, or of another depth.
    """
    return decode_image(path.read_bytes(), str(path))


def decode_image(data: bytes, name: str) -> Pixels:
    """The same of a file's content; ``name`` is what errors call it."""
    import cv2

    if not data:
        raise ValueError(f"{name} is empty")
    # The decoder would say the same on the error stream, in its own words.
    if data.startswith(_PNG) and b"IEND" not in data[-4096:]:
        raise ValueError(f"{name} is cut short: the end of the PNG is missing")
    flags = cv2.IMREAD_UNCHANGED if has_alpha(data) else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError(f"{name} is not an image that can be read, or is damaged")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{name} has {pixels.dtype} channels; 8-bit or 16-bit are expected")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        most = np.iinfo(pixels.dtype).max
        seen = pixels[..., :3].astype(np.float32) * (pixels[..., 3:].astype(np.float32) / most)
        pixels = np.round(seen).astype(pixels.dtype)
    elif pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def has_alpha(data: bytes) -> bool:
    """Whether the content of a PNG or WebP file may be transparent."""
    if data.startswith(_PNG):
        return data[25:26] in (b"\4", b"\6") or b"tRNS" in data[:4096]
    if data[8:12] == b"WEBP":
        return data[12:16] == b"VP8L" or (data[12:16] == b"VP8X" and bool(data[20] & 0x10))
    return False


def colour_profile(data: bytes) -> bytes:
    """The chunk of a PNG file that holds its ICC profile, as it is stored; empty if there is none."""
    position = len(_PNG) + 4
    while data.startswith(_PNG) and position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if kind == b"iCCP":
            return data[position : position + length + 12]
        if kind == b"IDAT":
            break
        position += length + 12
    return b""


def write_png(path: Path, pixels: Pixels, *, profile: bytes = b"") -> None:
    """Write RGB pixels, 8 or 16 bits a channel, without loss; the file appears when it is whole.

    Args:
        path: The file.
        pixels: The picture.
        profile: What `colour_profile` found in the image that it was made from.
    """
    encoded = encode_png(pixels)
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(encoded[:_HEADER] + profile + encoded[_HEADER:])
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def encode_png(pixels: Pixels) -> bytes:
    """RGB pixels as the content of a PNG file, without loss."""
    import cv2

    # Level 1 is several times faster than the default and a few per cent larger.
    options = (cv2.IMWRITE_PNG_COMPRESSION, 1)
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OSError(f"could not encode a PNG of {pixels.shape[1]}x{pixels.shape[0]} pixels")
    return data.tobytes()
