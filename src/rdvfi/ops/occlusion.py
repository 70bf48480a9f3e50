"""Flow of what the other frame does not show.

A point that something covers in the other frame, or that only comes into view, matches nothing
there: an estimator's flow for it is arbitrary. Such flows betray themselves, for they do not lead
back: with ``F`` one flow and ``B`` the other way, ``F(x) + B(x + F(x))`` is far from zero (Sundaram
et al., ECCV 2010; Meister et al., UnFlow, AAAI 2018, https://arxiv.org/abs/1711.07837). What is
hidden mostly moves as the surface beside it, so it takes the flow of the surroundings that do lead
back: averages over ever larger cells, from the smallest that knows enough (the pull-push algorithm
of Gortler et al., The Lumigraph, 1996).

What leads out of the picture cannot be asked and stays as it is, and so does everything where
hardly any flow leads back: there is no motion to go by, as across a cut.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.geometry import flow_length, stays_inside
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow

_RETURNS = 1.5
"""A flow leads back if it does so to this many pixels and a twentieth of its length."""
_LEVELS = 6
"""Cells are up to 2^6 pixels wide."""
_ENOUGH = 0.25
"""Share of a cell whose flow is known that makes it known."""
SAME_SCENE = 0.2
"""Share of flows that lead back, below which the pictures are of two scenes.

Learned flow (`rdvfi.motion.flow.matched_dis`) leads back for a half at least in clips with large motion,
and for a thirtieth at most across cuts.
"""


def fill_hidden(onward: Flow, back: Flow) -> tuple[Flow, Flow]:
    """Both flows, with that of hidden points from their surroundings.

    Args:
        onward: From the first frame to the last, in pixels, (b, 2, h, w).
        back: From the last frame to the first.
    """
    return _filled(onward, back), _filled(back, onward)


def _filled(flow: Flow, other: Flow) -> Flow:
    inside, returns = _asked(flow, other)
    known = inside & returns
    hidden = inside & ~returns
    counted = inside.sum((1, 2, 3), keepdim=True)
    same_scene = known.sum((1, 2, 3), keepdim=True) >= SAME_SCENE * counted
    return torch.where(hidden & same_scene, _spread(flow, known.to(flow)), flow)


def _asked(flow: Flow, other: Flow) -> tuple[Bool[Tensor, "b 1 h w"], Bool[Tensor, "b 1 h w"]]:
    """Whether each flow stays in the picture, and whether it leads back."""
    return stays_inside(flow), inconsistency(flow, other) < 1.0


def inconsistency(flow: Flow, back: Flow) -> Float[Tensor, "b 1 h w"]:
    """How far from its start a point ends that goes there and back, over how far it may."""
    apart = flow_length(flow + backward_warp(back, flow))
    return apart / (_RETURNS + 0.05 * flow_length(flow))


def _spread(flow: Flow, known: Float[Tensor, "b 1 h w"]) -> Flow:
    """A flow everywhere, from where it is known."""
    sums, shares = [known * flow], [known]
    for _ in range(_LEVELS):
        sums.append(_halved(sums[-1]))
        shares.append(_halved(shares[-1]))
    found = sums[-1] / shares[-1].clamp(min=1e-6)
    for total, share in zip(sums[-2::-1], shares[-2::-1], strict=True):
        size = (total.shape[-2], total.shape[-1])
        wide = F.interpolate(found, size, mode="bilinear", align_corners=False)
        found = torch.where(share > _ENOUGH, total / share.clamp(min=1e-6), wide)
    return found


def _halved(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hs ws"]:
    return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)
