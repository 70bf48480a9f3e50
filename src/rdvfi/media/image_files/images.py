"""Image files: reading them strictly, writing PNG, and their natural order."""

import re
import zlib
from io import BytesIO
from pathlib import Path

from rdvfi._atomic import atomic
from rdvfi.media.image_files.image_decoding import decode_pixels
from rdvfi.media.image_files.image_header import MAX_PIXELS, ImageHeader, read_header
from rdvfi.media.pixels import Pixels, RgbPixels, composite

SUFFIXES = frozenset(".png .jpg .jpeg .webp .bmp .tif .tiff .avif .jp2 .j2k .tga .exr .dpx .ppm .pgm .pbm .pnm".split())
"""Image files that are read."""

ICC_PROFILE_ANIMATIONS = frozenset({".apng", ".webp"})
"""Animations that can hold a colour profile."""
_PNG_HEADER_BYTES = 33
"""Bytes of a PNG up to the end of its first chunk."""


def is_image(path: Path) -> bool:
    """Whether a file's suffix is that of an image."""
    return path.suffix.lower() in SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order: ``frame9`` comes before ``frame10``.

    Hidden files, such as those that macOS adds (``._frame9.png``), are skipped.

    Raises:
        ValueError: If there are none.
    """
    paths = [path for path in folder.iterdir() if _is_visible_image(path)]
    if not paths:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return sorted(paths, key=natural_key)


def list_other_files(folder: Path) -> list[str]:
    """Names of the files in a folder that `list_images` skips."""
    return sorted(path.name for path in folder.iterdir() if not path.is_dir() and not _is_visible_image(path))


def _is_visible_image(path: Path) -> bool:
    return not path.name.startswith(".") and is_image(path) and path.is_file()


def natural_key(path: Path) -> tuple[tuple[int, str], ...]:
    """A sorting key in which runs of digits count as numbers; the name itself breaks ties."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    key = [(int(part), "") if part.isdecimal() and len(part) < 1000 else (-1, part) for part in parts]
    return (*key, (-2, path.name))


def image_header(path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """The header of an image file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image, is truncated, or larger than ``max_pixels``.
    """
    with path.open("rb") as file:
        return read_header(file, str(path), max_pixels=max_pixels)


def read_pixels(path: Path, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """An image as RGB or RGBA, 8 or 16 bits per channel; grey becomes RGB.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, truncated, damaged, or larger than ``max_pixels``.
    """
    return decode_file(path.read_bytes(), str(path), max_pixels)


def read_image(path: Path) -> RgbPixels:
    """An image as RGB, 8 or 16 bits per channel; grey becomes RGB, and transparency is composited on black.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, truncated, damaged, or too large.
    """
    return composite(read_pixels(path))


def decode_image(data: bytes, name: str) -> RgbPixels:
    """`read_image` for a file's content; errors call it ``name``."""
    return composite(decode_file(data, name))


def decode_file(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """`read_pixels` for a file's content; errors call it ``name``."""
    return decode_pixels(data, read_header(BytesIO(data), name, max_pixels=max_pixels), name)


def write_png(path: Path, pixels: Pixels, *, profile: bytes = b"") -> None:
    """Write RGB or RGBA pixels, 8 or 16 bits per channel; the file appears once it is complete.

    Args:
        path: The file.
        pixels: The picture.
        profile: An ICC profile of RGB; empty for none.
    """
    encoded = encode_png(pixels)
    with atomic(path) as partial:
        partial.write_bytes(encoded[:_PNG_HEADER_BYTES] + _profile_chunk(profile) + encoded[_PNG_HEADER_BYTES:])


def add_profile(path: Path, profile: bytes) -> None:
    """Insert an ICC profile of RGB into a finished animated PNG or WebP, since FFmpeg's muxers write none."""
    data = path.read_bytes()
    if data[8:16] == b"WEBPVP8X":  # 30 bytes of headers, with flags of the chunks that follow
        chunk = b"ICCP" + len(profile).to_bytes(4, "little") + profile + bytes(len(profile) % 2)
        size = (len(data) - 8 + len(chunk)).to_bytes(4, "little")
        data = data[:4] + size + data[8:20] + bytes((data[20] | 0x20,)) + data[21:30] + chunk + data[30:]
    else:
        data = data[:_PNG_HEADER_BYTES] + _profile_chunk(profile) + data[_PNG_HEADER_BYTES:]
    path.write_bytes(data)


def encode_png(pixels: Pixels) -> bytes:
    """The content of a PNG file with these RGB or RGBA pixels."""
    import cv2

    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    # Level 1 is several times faster than the default, and files are a few per cent larger.
    encoded, data = cv2.imencode(".png", cv2.cvtColor(pixels, order), (cv2.IMWRITE_PNG_COMPRESSION, 1))
    if not encoded:
        raise OSError(f"could not encode a PNG of {pixels.shape[1]}x{pixels.shape[0]} pixels")
    return data.tobytes()


def _profile_chunk(profile: bytes) -> bytes:
    if not profile:
        return b""
    content = b"iCCPICC\0\0" + zlib.compress(profile)
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
