"""Image files: reading them strictly, writing PNG, and their natural order."""

import re
from pathlib import Path

import numpy as np

from rdvfi.media.pixels import Pixels

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Image files that are read."""

_PNG = b"\x89PNG"


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file."""
    return path.suffix.lower() in SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order: ``frame9`` comes before ``frame10``.

    Raises:
        ValueError: If there are none.
    """
    paths = [path for path in folder.iterdir() if is_image(path) and path.is_file()]
    if not paths:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return sorted(paths, key=natural_key)


def natural_key(path: Path) -> tuple[tuple[int, str], ...]:
    """A sorting key in which runs of digits count as numbers; the name itself breaks ties."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    key = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
    return (*key, (-2, path.name))


def read_image(path: Path) -> Pixels:
    """An image as RGB, 8 or 16 bits a channel; alpha is dropped, grey is spread.

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
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError(f"{name} is not an image that can be read, or is damaged")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{name} has {pixels.dtype} channels; 8-bit or 16-bit are expected")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def write_png(path: Path, pixels: Pixels) -> None:
    """Write RGB pixels, 8 or 16 bits a channel, without loss; the file appears when it is whole."""
    import cv2

    # Level 1 is several times faster than the default and a few per cent larger.
    options = (cv2.IMWRITE_PNG_COMPRESSION, 1)
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OSError(f"could not encode {path}")
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data.tobytes())
    partial.replace(path)
