"""What a user would write without the library: the baselines that the operations are timed against.

Plain, correct, map by map and time by time; kept free of every trick that the operations use.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.types import Flows, Image, Video


def _upsampled(small: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False)


def _warped(image: Tensor, flow: Tensor) -> Tensor:
    """``image`` sampled at ``pixel + flow``, the flow in full-size pixels."""
    h, w = image.shape[-2:]
    ys = torch.arange(h, dtype=flow.dtype, device=flow.device)
    xs = torch.arange(w, dtype=flow.dtype, device=flow.device)
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    x, y = grid_x + flow[:, 0], grid_y + flow[:, 1]
    grid = torch.stack(((2.0 * x + 1.0) / w - 1.0, (2.0 * y + 1.0) / h - 1.0), dim=-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def render(
    img0: Image, img1: Image, flow0: Flows, flow1: Flows, mask: Tensor, residual: Tensor
) -> Video:
    """The eager composition of `rdvfi.ops.render`, one time after the other."""
    h, w = img0.shape[-2:]
    small_h, small_w = flow0.shape[-2:]
    scale = torch.tensor([w / small_w, h / small_h], device=flow0.device).view(1, 2, 1, 1)
    frames = []
    for i in range(flow0.shape[1]):
        first = _warped(img0, _upsampled(flow0[:, i], (h, w)) * scale)
        last = _warped(img1, _upsampled(flow1[:, i], (h, w)) * scale)
        share = _upsampled(mask[:, i], (h, w))
        colour = _upsampled(residual[:, i], (h, w))
        frames.append((share * first + (1.0 - share) * last + colour).clamp(0.0, 1.0))
    return torch.stack(frames, dim=1)
