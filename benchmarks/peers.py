"""Backward warping by other libraries.

Each function returns a warp of an image (n, c, h, w) by a flow in pixels.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

Warp = Callable[[Tensor, Tensor], Tensor]


def _pixel_coordinates(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Coordinates of the columns (w,) and of the rows (h, 1)."""
    xs = torch.arange(w, dtype=torch.float32, device=device)
    return xs, torch.arange(h, dtype=torch.float32, device=device)[:, None]


def grid_sample() -> Warp:
    """`torch.nn.functional.grid_sample`, which requires one data type for grid and image."""

    def warp(image: Tensor, flow: Tensor) -> Tensor:
        h, w = image.shape[-2:]
        xs, ys = _pixel_coordinates(h, w, image.device)
        x = (2.0 * (xs + flow[:, 0].float()) + 1.0) / w - 1.0
        y = (2.0 * (ys + flow[:, 1].float()) + 1.0) / h - 1.0
        grid = torch.stack((x, y), dim=-1).to(image.dtype)
        return F.grid_sample(image, grid, padding_mode="border", align_corners=False)

    return warp


def kornia() -> Warp:
    """`kornia.geometry.remap`; its pixel coordinates correspond to ``align_corners=True``."""
    geometry = pytest.importorskip("kornia.geometry", reason="kornia is not installed")

    def warp(image: Tensor, flow: Tensor) -> Tensor:
        xs, ys = _pixel_coordinates(*image.shape[-2:], image.device)
        x, y = ((base + offset).to(image.dtype) for base, offset in zip((xs, ys), flow.unbind(1), strict=True))
        return geometry.remap(image, x, y, padding_mode="border", align_corners=True)

    return warp


def opencv() -> Warp:
    """`cv2.remap` on the CPU, with channels last."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

    def warp(image: Tensor, flow: Tensor) -> Tensor:
        if image.device.type != "cpu" or image.dtype != torch.float32:
            pytest.skip("cv2.remap works on float32 images on the CPU")
        xs, ys = _pixel_coordinates(*image.shape[-2:], image.device)
        pixels = image[0].permute(1, 2, 0).numpy()
        x, y = ((base + offset).numpy() for base, offset in zip((xs, ys), flow[0], strict=True))
        linear, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        return torch.from_numpy(cv2.remap(pixels, x, y, linear, borderMode=border))

    return warp
