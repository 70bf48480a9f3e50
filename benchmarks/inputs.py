"""What is timed: real frames for models, smooth random maps for operations."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

_CLIP = Path(__file__).parent.parent / "examples" / "clips" / "branch.mp4"
_APART = 1
"""Frames of the clip from one of the two to the other: it holds every eighth frame of its film already."""


def smooth(n: int, c: int, size: tuple[int, int], device: torch.device, *, seed: int) -> Tensor:
    """Smooth random maps, about standard normal, made the same on every machine."""
    h, w = size
    coarse = torch.randn(n, c, h // 32 + 2, w // 32 + 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse.to(device), size, mode="bicubic", align_corners=False)


def image(n: int, size: tuple[int, int], device: torch.device, *, seed: int) -> Tensor:
    """Smooth pictures in [0, 1], float32."""
    return (0.5 + 0.2 * smooth(n, 3, size, device, seed=seed)).clamp(0.0, 1.0)


def flow(n: int, size: tuple[int, int], device: torch.device, *, seed: int) -> Tensor:
    """A motion of some hundredths of the width, smooth but for its turns, float32."""
    return 0.02 * size[1] * smooth(n, 2, size, device, seed=seed)


def real_pair(size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Two frames of the example clip, resized: classical flow takes longer on noise."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV, which reads the clip, is not installed")
    clip = cv2.VideoCapture(str(_CLIP))
    frames = [clip.read()[1] for _ in range(_APART + 1)]
    clip.release()
    if any(frame is None for frame in frames):
        raise OSError(f"cannot read {_APART + 1} frames of {_CLIP}")
    return resized([frame[..., ::-1] for frame in frames[::_APART]], size, device, dtype)


def film(count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """So many 8-bit RGB frames: the example clip forwards and backwards, resized."""
    import cv2

    clip = cv2.VideoCapture(str(_CLIP))
    frames = [frame[..., ::-1] for _, frame in iter(clip.read, (False, None))]
    clip.release()
    around = [*frames, *frames[-2:0:-1]]
    for number in range(count):
        yield cv2.resize(np.ascontiguousarray(around[number % len(around)]), size[::-1], interpolation=cv2.INTER_CUBIC)


def resized(
    frames: Sequence[np.ndarray], size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """8-bit RGB frames (h, w, 3) at another size, (1, 3, H, W) in [0, 1]."""
    import cv2

    h, w = size
    pictures = (cv2.resize(np.ascontiguousarray(x), (w, h), interpolation=cv2.INTER_CUBIC) for x in frames)
    tensors = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in pictures)
    return [(x.float() / 255.0).to(device, dtype).contiguous() for x in tensors]
