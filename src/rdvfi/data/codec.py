"""Pictures in few bytes, read back with numpy and torch alone, on any device.

The transform half of JPEG (ITU-T T.81): YCbCr with halved colour, 8x8 cosine transform, quantised
by its example tables scaled for a quality. Coefficients are stored as 8-bit numbers, all of one
frequency together, and packed by LZMA from Python's standard library instead of Huffman codes;
so no image decoder is needed, and decoding is one matrix product, which runs where training runs.
The mean of a block, the largest coefficient, is kept in 16 bits; others beyond 8 bits are clipped,
which is rare up to quality 80, the largest allowed.
"""

import lzma

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

# fmt: off
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
# fmt: on
_CHROMA = (17, 18, 24, 47, 18, 21, 26, 66, 24, 26, 56, 99, 47, 66, 99, 99)
"""The upper left 4x4 of the table for colour; all else is 99."""


def _table(quality: int, colour: bool) -> Float[Tensor, " 64"]:
    base = torch.full((8, 8), 99.0) if colour else torch.tensor(_LUMA).float().view(8, 8)
    if colour:
        base[:4, :4] = torch.tensor(_CHROMA).float().view(4, 4)
    scale = 5000.0 / quality if quality < 50 else 200.0 - 2.0 * quality
    return ((base * scale + 50.0) / 100.0).floor().clamp(1.0, 255.0).flatten()


def _cosines() -> Float[Tensor, "64 64"]:
    """The orthonormal two-dimensional transform: rows are frequencies, columns pixels."""
    k, x = torch.arange(8.0)[:, None], torch.arange(8.0)
    one = (torch.pi * (2.0 * x + 1.0) * k / 16.0).cos() * 0.5
    one[0] *= 0.5**0.5
    return torch.einsum("ux,vy->uvxy", one, one).reshape(64, 64)


_TO_YCC = torch.tensor(
    [
        [0.299, 0.587, 0.114],
        [-0.168736, -0.331264, 0.5],
        [0.5, -0.418688, -0.081312],
    ]
)


def _check(frames: Tensor, quality: int) -> None:
    if frames.shape[-2] % 16 or frames.shape[-1] % 16:
        raise ValueError(f"frames are {tuple(frames.shape)}; both sides must be multiples of 16")
    if not 1 <= quality <= 80:
        raise ValueError(f"quality is {quality}; it must be in 1..80")


def compress(frames: UInt8[Tensor, "n 3 h w"], quality: int = 75) -> UInt8[np.ndarray, " bytes"]:
    """Pack pictures whose sides are multiples of 16."""
    _check(frames, quality)
    planes = torch.einsum("ij,njhw->nihw", _TO_YCC, frames.float())
    means, rest = [], []
    for plane, colour in _split(planes):
        blocks = F.unfold(plane - (0.0 if colour else 128.0), 8, stride=8)
        levels = torch.einsum("fp,npb->fnb", _cosines(), blocks) / _table(quality, colour).view(64, 1, 1)
        levels = levels.round()
        means.append(levels[0].short().numpy().tobytes())
        rest.append(levels[1:].clamp(-127, 127).to(torch.int8).numpy().tobytes())
    packed = lzma.compress(b"".join(means + rest), preset=6)
    return np.frombuffer(packed, np.uint8)


def _split(planes: Float[Tensor, "n 3 h w"]) -> list[tuple[Float[Tensor, "n 1 _ _"], bool]]:
    """Brightness, and the two colours at half size."""
    colours = F.avg_pool2d(planes[:, 1:], 2)
    return [(planes[:, :1], False), (colours[:, :1], True), (colours[:, 1:], True)]


def expand(
    packed: UInt8[np.ndarray, " bytes"],
    shape: tuple[int, int, int, int],
    quality: int = 75,
    device: torch.device | None = None,
) -> UInt8[Tensor, "n 3 h w"]:
    """Unpack what `compress` made of pictures of ``shape``, on a device.

    Raises:
        ValueError: If the bytes are damaged or belong to another shape.
    """
    n, _, h, w = shape
    try:
        data = lzma.decompress(packed.tobytes())
    except lzma.LZMAError as error:
        raise ValueError(f"packed pictures are damaged: {error}") from error
    counts = [n * h * w // 64] + [n * h * w // 256] * 2
    if len(data) != 65 * sum(counts):
        raise ValueError(f"packed pictures hold {len(data)} bytes, not those of {shape}")
    planes, mean, other = [], 0, 2 * sum(counts)
    for count, colour in zip(counts, (False, True, True), strict=True):
        first = np.frombuffer(data, np.int16, count, mean).astype(np.float32)
        rest = np.frombuffer(data, np.int8, 63 * count, other).astype(np.float32)
        mean, other = mean + 2 * count, other + 63 * count
        levels = torch.from_numpy(np.concatenate((first, rest))).to(device).view(64, n, -1)
        levels = levels * _table(quality, colour).to(device).view(64, 1, 1)
        blocks = torch.einsum("fp,fnb->npb", _cosines().to(device), levels)
        size = (h // 2, w // 2) if colour else (h, w)
        plane = F.fold(blocks, size, 8, stride=8) + (0.0 if colour else 128.0)
        planes.append(F.interpolate(plane, (h, w), mode="bilinear") if colour else plane)
    back = torch.linalg.inv(_TO_YCC).to(planes[0])
    rgb = torch.einsum("ij,njhw->nihw", back, torch.cat(planes, dim=1))
    return rgb.round().clamp(0.0, 255.0).byte()
