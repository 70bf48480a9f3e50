"""Flow of points that are occluded in the other frame.

A point that something covers in the other frame, or that only comes into view, matches nothing there, so an
estimator's flow for it is arbitrary. It fails the forward-backward check: with ``F`` one flow and ``B`` the other,
``F(x) + B(x + F(x))`` is far from zero (Sundaram et al., ECCV 2010; Meister et al., UnFlow, AAAI 2018,
https://arxiv.org/abs/1711.07837). Occluded points mostly move as the surface beside them, so they take the mean of the
consistent flows around them, over ever larger cells, from the smallest that holds enough of these (the pull-push
algorithm of Gortler et al., The Lumigraph, 1996).

A flow that leads out of the picture cannot be checked and stays as it is. So does every flow of a
pair in which hardly any is consistent: across a cut there is no motion to take.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.geometry import flow_length, stays_inside
from rdvfi.ops.inference import inference_operator
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow

_TOLERANCE, _RELATIVE = 1.5, 0.05
"""A flow is consistent if its forward-backward error is below this sum of pixels and share of its length."""
_LEVELS = 6
"""Cells are up to 2^6 pixels wide."""
_MIN_SHARE = 0.25
"""Least consistent share of a cell whose mean is used."""
SAME_SCENE = 0.2
"""Least share of consistent flows in a pair of one scene.

Of the learned flow (`rdvfi.motion.flow.matched_dis`) at least a half is consistent in clips with
large motion, and at most a thirtieth across cuts.
"""


def fill_occluded(onward: Flow, back: Flow) -> tuple[Flow, Flow]:
    """Both flows, with that of occluded points taken from their surroundings.

    Args:
        onward: Flow from the first frame to the last, in pixels, (b, 2, h, w).
        back: Flow from the last frame to the first.
    """
    filled = _fill_occluded(onward, back)
    onward, back = filled.chunk(2)
    return onward, back


def _fill_reference(onward: Tensor, back: Tensor) -> Tensor:
    return torch.cat((_fill_flow(onward, back), _fill_flow(back, onward)))


def _fill_flow(flow: Flow, other: Flow) -> Flow:
    inside, passes = _consistency_check(flow, other)
    consistent = inside & passes
    occluded = inside & ~passes
    checked = inside.sum((1, 2, 3), keepdim=True)
    same_scene = consistent.sum((1, 2, 3), keepdim=True) >= SAME_SCENE * checked
    return torch.where(occluded & same_scene, _pull_push_reference(flow, consistent.to(flow)), flow)


def _consistency_check(flow: Flow, other: Flow) -> tuple[Bool[Tensor, "b 1 h w"], Bool[Tensor, "b 1 h w"]]:
    """Whether each flow stays in the image, and whether it passes the forward-backward check."""
    return stays_inside(flow), forward_backward_error(flow, other) < 1.0


def forward_backward_error(flow: Flow, back: Flow) -> Float[Tensor, "b 1 h w"]:
    """Forward-backward error, relative to the tolerance."""
    return return_error(flow, back) / (_TOLERANCE + _RELATIVE * flow_length(flow))


def _return_reference(onward: Tensor, back: Tensor) -> Tensor:
    return flow_length(onward + backward_warp(back, onward))


def pull_push(maps: Float[Tensor, "b c h w"], valid: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """Maps of valid pixels, continued everywhere.

    Args:
        maps: Flows, or colours.
        valid: 1 where they hold, 0 elsewhere.
    """
    return _pull_push(maps, valid)


def _pull_push_reference(maps: Tensor, valid: Tensor) -> Tensor:
    sums, shares = [valid * maps], [valid]
    for _ in range(_LEVELS):
        sums.append(_halve(sums[-1]))
        shares.append(_halve(shares[-1]))
    filled = sums[-1] / shares[-1].clamp(min=1e-6)
    for total, share in zip(sums[-2::-1], shares[-2::-1], strict=True):
        size = (total.shape[-2], total.shape[-1])
        wide = F.interpolate(filled, size, mode="bilinear", align_corners=False)
        filled = torch.where(share > _MIN_SHARE, total / share.clamp(min=1e-6), wide)
    return filled


def _halve(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hs ws"]:
    return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


return_error = inference_operator(
    "return_error",
    _return_reference,
    lambda there, back: there.new_empty((there.shape[0], 1, *there.shape[2:])),
    "occlusion",
)
"""Forward-backward error of the flows ``onward`` and ``back``, (n, 2, h, w), in pixels."""

_LAUNCHES = 2 + _LEVELS // 2
"""Kernels of `pull_push`: one goes down all levels, each of the others up two, but the last two one each."""
PYRAMID = {"levels": _LEVELS, "min_share": _MIN_SHARE}
_pull_push = inference_operator(
    "pull_push",
    _pull_push_reference,
    lambda maps, valid: torch.empty_like(maps, memory_format=torch.contiguous_format),
    "occlusion",
    launches=_LAUNCHES,
    settings=PYRAMID,
)
_fill_occluded = inference_operator(
    "fill_occluded",
    _fill_reference,
    lambda onward, back: onward.new_empty((2 * onward.shape[0], *onward.shape[1:])),
    "occlusion",
    launches=_LAUNCHES + 3,
    settings={**PYRAMID, "tolerance": _TOLERANCE, "relative": _RELATIVE, "same_scene": SAME_SCENE},
)
