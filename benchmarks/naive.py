"""Straightforward PyTorch implementations, the baselines that the operations are timed against.

Correct and simple: one map and one time after another, without the optimisations of the library.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.types import Flows, Image, Video


def _upsample(small: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False)


def backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample ``image`` at ``pixel + flow``, with a flow in full-size pixels and in the data type of the flow."""
    h, w = image.shape[-2:]
    ys = torch.arange(h, dtype=flow.dtype, device=flow.device)
    xs = torch.arange(w, dtype=flow.dtype, device=flow.device)
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    x, y = grid_x + flow[:, 0], grid_y + flow[:, 1]
    grid = torch.stack(((2.0 * x + 1.0) / w - 1.0, (2.0 * y + 1.0) / h - 1.0), dim=-1)
    warped = F.grid_sample(image.to(flow.dtype), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.to(image.dtype)


def frame(img0: Image, img1: Image, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor) -> Image:
    """One interpolated frame from small maps, each (b, c, h, w)."""
    h, w = img0.shape[-2:]
    scale = torch.tensor([w / flow0.shape[-1], h / flow0.shape[-2]], device=flow0.device).view(1, 2, 1, 1)
    first = backward_warp(img0, _upsample(flow0, (h, w)) * scale)
    last = backward_warp(img1, _upsample(flow1, (h, w)) * scale)
    weight = _upsample(mask, (h, w))
    return (weight * first + (1.0 - weight) * last + _upsample(residual, (h, w))).clamp(0.0, 1.0)


def render(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Tensor,
    residual: Tensor,
    *,
    render_frame: Callable[..., Image] = frame,
) -> Video:
    """The eager composition of `rdvfi.ops.render`, one time after another."""
    maps = (flow0, flow1, mask, residual)
    return torch.stack([render_frame(img0, img1, *(x[:, i] for x in maps)) for i in range(flow0.shape[1])], dim=1)


def splat_sum(values: Tensor, flow: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The composition of `rdvfi.ops.splat_sum`: one `index_add_` for each of four neighbouring pixels."""
    n, c, h, w = values.shape
    ys = torch.arange(h, dtype=torch.float32, device=flow.device)
    xs = torch.arange(w, dtype=torch.float32, device=flow.device)
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    x, y = grid_x + flow[:, 0], grid_y + flow[:, 1]
    weighted = torch.cat((values * weights, weights), dim=1).float()
    batch = torch.arange(n, device=flow.device)[:, None, None].expand(n, h, w)
    sums = torch.zeros((n * h * w, c + 1), device=flow.device)
    for dy in (0, 1):
        for dx in (0, 1):
            to_x, to_y = x.floor() + dx, y.floor() + dy
            weight = (1.0 - (x - to_x).abs()) * (1.0 - (y - to_y).abs())
            inside = (to_x >= 0) & (to_x < w) & (to_y >= 0) & (to_y < h)
            index = (batch * h + to_y.long()) * w + to_x.long()
            parts = (weighted * weight[:, None]).permute(0, 2, 3, 1)
            sums.index_add_(0, index[inside], parts[inside])
    result = sums.view(n, h, w, c + 1).permute(0, 3, 1, 2)
    return result[:, :c], result[:, c:]
