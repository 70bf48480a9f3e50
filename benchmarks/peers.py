"""What a user would otherwise pick for a backward warp: other libraries, on the same arguments.

Each takes an image (n, c, h, w) and a flow in pixels and gives the warped image, so that results
can be compared.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

Warp = Callable[[Tensor, Tensor], Tensor]


def _pixels(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Coordinates of the columns and of the rows, which broadcast."""
    xs = torch.arange(w, dtype=torch.float32, device=device)
    return xs, torch.arange(h, dtype=torch.float32, device=device)[:, None]


def grid_sample() -> Warp:
    """`torch.nn.functional.grid_sample`, which wants grid and image in one type."""

    def warp(image: Tensor, flow: Tensor) -> Tensor:
        h, w = image.shape[-2:]
        xs, ys = _pixels(h, w, image.device)
        x = (2.0 * (xs + flow[:, 0].float()) + 1.0) / w - 1.0
        y = (2.0 * (ys + flow[:, 1].float()) + 1.0) / h - 1.0
        grid = torch.stack((x, y), dim=-1).to(image.dtype)
        return F.grid_sample(image, grid, padding_mode="border", align_corners=False)

    return warp


def kornia() -> Warp:
    """`kornia.geometry.remap`, which needs ``align_corners=True`` to keep an image in place."""
    geometry = pytest.importorskip("kornia.geometry", reason="kornia is not installed")

    def warp(image: Tensor, flow: Tensor) -> Tensor:
        xs, ys = _pixels(*image.shape[-2:], image.device)
        x, y = ((base + part).to(image.dtype) for base, part in zip((xs, ys), flow.unbind(1), strict=True))
        return geometry.remap(image, x, y, padding_mode="border", align_corners=True)

    return warp


def opencv() -> Warp:
    """`cv2.remap` on the CPU; pictures lie pixel by pixel in memory, as OpenCV has them."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

    def warp(image: Tensor, flow: Tensor) -> Tensor:
        if image.device.type != "cpu" or image.dtype != torch.float32:
            pytest.skip("cv2.remap works on float32 pictures on the CPU")
        xs, ys = _pixels(*image.shape[-2:], image.device)
        pixels = image[0].permute(1, 2, 0).numpy()
        x, y = ((base + part).numpy() for base, part in zip((xs, ys), flow[0], strict=True))
        linear, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        return torch.from_numpy(cv2.remap(pixels, x, y, linear, borderMode=border))

    return warp
