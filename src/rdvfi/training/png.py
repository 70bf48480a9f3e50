"""Writing a PNG with nothing but zlib, for machines that have no image library.

Eight-bit RGB, not interlaced, every row unfiltered (https://www.w3.org/TR/png-3/).
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

Pixels = UInt8[np.ndarray, "h w 3"]


def write_png(path: Path, pixels: Pixels) -> None:
    """Write 8-bit RGB pixels; the file appears under its name when complete."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter, 0
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    partial = path.with_suffix(".partial")
    partial.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))
    partial.replace(path)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
