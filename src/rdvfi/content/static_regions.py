"""Static background: tiny flows of pixels that do not move are set to zero.

The estimated flow of a static region is a fraction of a pixel, and interpolation by that fraction blurs it. Where the
flow of a new frame is shorter than half a pixel, and the residual of zero motion is no larger than that of the
estimated flow, the flow is set to zero. Then both frames are sampled at the pixel itself, and where they are equal the
new frame equals them. An object that passes in front of the region between the two frames has a larger flow and is not
affected.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.content.cpu_shortcuts import is_absent
from rdvfi.content.windows import window_mean
from rdvfi.geometry import flow_length
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flows

SLOW = 0.5
"""Flows to either frame that are shorter may be set to zero, in pixels of the small grid."""
SLACK = 1 / 255
"""Tolerance by which the residual of zero motion may be larger: sampling between pixels averages noise."""
_SMOOTHING, WINDOW = 3, 7


def static_mask(
    small0: Float[Tensor, "b 3 h w"], small1: Float[Tensor, "b 3 h w"], flow0: Flows, flow1: Flows
) -> Float[Tensor, "b t 1 h w"]:
    """1 where a short flow explains the frames no better than zero motion, 0 elsewhere.

    Args:
        small0: First frames on the grid of the flows.
        small1: Last frames on that grid.
        flow0: Flows from the new frames to the first, in pixels of the grid.
        flow1: Flows from the new frames to the last.
    """
    b, t = flow0.shape[:2]
    slow = torch.maximum(flow_length(flow0), flow_length(flow1)) < SLOW
    if is_absent(slow.any, slow):
        return slow.to(flow0)
    first, last = (window_mean(image.to(flow0), _SMOOTHING) for image in (small0, small1))
    resting = _error(first, last)[:, None]
    warped = (
        backward_warp(image[:, None].expand(b, t, *image.shape[1:]).flatten(0, 1), flow.flatten(0, 1))
        for image, flow in ((first, flow0), (last, flow1))
    )
    moving = _error(*warped).unflatten(0, (b, t))
    return (slow & (resting <= moving + SLACK)).to(flow0)


def _error(first: Float[Tensor, "n 3 h w"], last: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    return window_mean((first - last).abs().mean(1, keepdim=True), WINDOW)
