"""RDVFI-S stage by stage: what is paid once per pair of frames, and what each frame costs.

Speed does not depend on the weights, so the model is a fresh one. Frames are a photograph and the
same photograph moved and turned a little: classical flow takes longer on noise.
"""

from collections.abc import Callable
from typing import Any

import cv2
import pytest
import torch
from skimage import data
from torch import Tensor

import rdvfi
from rdvfi import ops
from rdvfi.interpolator import Interpolator

SIZES = {"1024x576": (576, 1024), "1920x1080": (1080, 1920)}
NEW_FRAMES = 7
"""Of one pair at x8."""

Timed = Callable[[str, Callable[[], Any]], None]

sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


@pytest.fixture(scope="module")
def model(device: torch.device) -> Interpolator:
    torch.manual_seed(0)
    return rdvfi.build("rdvfi_s").to(device).eval().requires_grad_(False)


def _pair(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    h, w = size
    first = cv2.resize(data.astronaut(), (w, h), interpolation=cv2.INTER_CUBIC)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), 4.0, 1.0)
    matrix[:, 2] += 0.01 * w
    last = cv2.warpAffine(first, matrix, (w, h), borderMode=cv2.BORDER_REFLECT_101)
    pair = [torch.from_numpy(image).permute(2, 0, 1)[None] for image in (first, last)]
    return tuple((image.float() / 255.0).to(device) for image in pair)  # pyright: ignore[reportReturnType]


def _times(device: torch.device) -> Tensor:
    return torch.arange(1, NEW_FRAMES + 1, device=device) / (NEW_FRAMES + 1)


@sizes
def bench_pair(timed: Timed, model: Interpolator, size: tuple[int, int]) -> None:
    """Everything for one pair at x8: seven new frames."""
    pair, times = _pair(size, model.device), _times(model.device)
    timed("pair at x8, everything", lambda: model(*pair, times))


@sizes
def bench_estimate(timed: Timed, model: Interpolator, size: tuple[int, int]) -> None:
    """Keyframes and trajectory: paid once per pair, whatever the number of new frames."""
    pair = _pair(size, model.device)
    timed("estimate, once per pair", lambda: model.estimate(*pair))


@sizes
def bench_render(timed: Timed, model: Interpolator, size: tuple[int, int]) -> None:
    """One more frame of a pair whose motion is known."""
    pair = _pair(size, model.device)
    motion, time = model.estimate(*pair), _times(model.device)[2:3]
    timed("render, per frame", lambda: model.render(*pair, motion, time))


@sizes
def bench_full_size_pass(timed: Timed, device: torch.device, size: tuple[int, int]) -> None:
    """`ops.render` alone: upsample small maps, warp both frames, blend."""
    pair = _pair(size, device)
    small = (1, 1, 8, 128, 224)
    maps = torch.randn(small, generator=torch.Generator().manual_seed(0)).to(device)
    arguments = (maps[:, :, :2], maps[:, :, 2:4], maps[:, :, 4:5].sigmoid(), maps[:, :, 5:] * 0.01)
    timed("ops.render, per frame", lambda: ops.render(*pair, *arguments))


@pytest.mark.parametrize("name", ["dis", "sift-dis"])
def bench_coarse_flow(timed: Timed, device: torch.device, name: str) -> None:
    """One direction of the coarse flow at the motion size, 448x256."""
    pair, estimator = _pair((256, 448), device), rdvfi.flows.create(name)
    timed("coarse flow, one direction", lambda: estimator(*pair))
