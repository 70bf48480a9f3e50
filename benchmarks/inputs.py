"""Inputs of the benchmarks: real frames for models, smooth random maps for operations."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

_CLIP = Path(__file__).parent.parent / "examples" / "clips" / "branch.mp4"
_FRAME_DISTANCE = 1
"""Distance of the two frames in the clip, which contains every eighth frame of its film."""


def smooth_maps(n: int, c: int, size: tuple[int, int], device: torch.device, *, seed: int) -> Tensor:
    """Smooth random maps, about standard normal, equal on every machine."""
    h, w = size
    coarse = torch.randn(n, c, h // 32 + 2, w // 32 + 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse.to(device), size, mode="bicubic", align_corners=False)


def smooth_images(n: int, size: tuple[int, int], device: torch.device, *, seed: int) -> Tensor:
    """Smooth images in [0, 1], float32."""
    return (0.5 + 0.2 * smooth_maps(n, 3, size, device, seed=seed)).clamp(0.0, 1.0)


def smooth_flow(n: int, size: tuple[int, int], device: torch.device, *, seed: int) -> Tensor:
    """A smooth flow of a few hundredths of the width, in pixels, float32."""
    return 0.02 * size[1] * smooth_maps(n, 2, size, device, seed=seed)


def real_pair(size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Two frames of the example clip, resized. Noise would be no substitute: classical flow is slower on it."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV, which reads the clip, is not installed")
    clip = cv2.VideoCapture(str(_CLIP))
    frames = [clip.read()[1] for _ in range(_FRAME_DISTANCE + 1)]
    clip.release()
    if any(frame is None for frame in frames):
        raise OSError(f"cannot read {_FRAME_DISTANCE + 1} frames of {_CLIP}")
    return resize_frames([frame[..., ::-1] for frame in frames[::_FRAME_DISTANCE]], size, device, dtype)


def clip_frames(count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """``count`` 8-bit RGB frames: the example clip forwards and backwards, repeated and resized."""
    import cv2

    clip = cv2.VideoCapture(str(_CLIP))
    frames = [frame[..., ::-1] for _, frame in iter(clip.read, (False, None))]
    clip.release()
    loop = [*frames, *frames[-2:0:-1]]
    for number in range(count):
        yield cv2.resize(np.ascontiguousarray(loop[number % len(loop)]), size[::-1], interpolation=cv2.INTER_CUBIC)


def resize_frames(
    frames: Sequence[np.ndarray], size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """8-bit RGB frames (h, w, 3), resized to tensors (1, 3, H, W) in [0, 1]."""
    import cv2

    h, w = size
    pictures = (cv2.resize(np.ascontiguousarray(x), (w, h), interpolation=cv2.INTER_CUBIC) for x in frames)
    tensors = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in pictures)
    return [(x.float() / 255.0).to(device, dtype).contiguous() for x in tensors]
