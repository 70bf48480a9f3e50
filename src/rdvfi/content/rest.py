"""Ground that stands still stays still.

An estimator's flow of what does not move is a fraction of a pixel, and blurs it. Where the flow of a
new frame is less than half a pixel and no motion explains both frames as well, it is set to zero:
then both frames are looked up at the pixel itself, and where they are equal the new frame is. What
passes by between the frames has a larger flow there and stays.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.content.skipping import is_absent
from rdvfi.content.windows import window_mean
from rdvfi.geometry import flow_length
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flows

SLOW = 0.5
"""Pixels of the small grid, to either frame, up to which a flow may be that of rest."""
SLACK = 1 / 255
"""By which no motion may explain the frames worse: a fractional look-up averages noise."""
_SMOOTHING, WINDOW = 3, 7


def at_rest(
    small0: Float[Tensor, "b 3 h w"], small1: Float[Tensor, "b 3 h w"], flow0: Flows, flow1: Flows
) -> Float[Tensor, "b t 1 h w"]:
    """1 where no motion explains a slow pixel as well as its flow, 0 elsewhere.

    Args:
        small0: First frames on the grid of the flows.
        small1: Last ones.
        flow0: From new frames to the first, in pixels of the grid.
        flow1: To the last.
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
