"""What a method made in one window, for tests of metrics: a photograph that moves, with noise."""

import numpy as np
import torch
from skimage import data

from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.metrics import WindowResult, quantise


def moving_frames(count: int = 4, *, size: tuple[int, int] = (64, 80), step: int = 2) -> torch.Tensor:
    """A photograph that moves to the right by ``step`` pixels a frame, in [0, 1]."""
    h, w = size
    frames = [data.astronaut()[100 : 100 + h, 200 - step * i : 200 - step * i + w] for i in range(count)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255.0


def window_result(true: torch.Tensor, noise: float = 0.05, **window) -> WindowResult:
    """The frames between, with noise."""
    to_uint8 = (255.0 * true).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    inner = true[1:-1]
    perturbation = noise * torch.randn(inner.shape, generator=torch.Generator().manual_seed(0))
    return WindowResult(EvaluationWindow(0, to_uint8, **window), quantise(inner + perturbation))


def to_uint8(frames: torch.Tensor) -> np.ndarray:
    """Frames as 8 bits hold them, (n, H, W, 3)."""
    return (255.0 * frames).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def luma(frame: torch.Tensor) -> np.ndarray:
    """Luma of BT.601 in [0, 1], in double precision."""
    r, g, b = frame.double().numpy()
    return 0.299 * r + 0.587 * g + 0.114 * b
