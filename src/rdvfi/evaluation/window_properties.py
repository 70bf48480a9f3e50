"""Motion length and occlusion of a window, to group scores by.

Both are computed from the **true** frames, so they are the same for every method. DIS flow between
consecutive true frames is chained to the flow from every frame to the first one, which is more accurate than
flow between distant frames. The exact motion is used instead if it is known.

* *motion* is the 95th percentile over pixels of the largest displacement from the first frame, in pixels.
* *occlusion* is the share of pixels of the frames between that are not visible in both ends: the chained flow
  to an end fails the forward-backward check (Sundaram et al., 2010) or leaves the frame.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import dis_flow
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.geometry import flow_length, stays_inside
from rdvfi.media.pixels import Picture
from rdvfi.ops.flow_algebra import chain
from rdvfi.ops.occlusion import forward_backward_error
from rdvfi.registry import did_you_mean

PROPERTIES = ("motion", "occlusion")
_MOTION_QUANTILE = 0.95

Fields = Float[Tensor, "m 2 H W"]


def property_function(names: Sequence[str]) -> Callable[[EvaluationWindow], Mapping[str, float]] | None:
    """A function that computes the named properties of a window; None without names.

    Raises:
        ValueError: If there is no such property.
    """
    for name in names:
        if name not in PROPERTIES:
            raise ValueError(
                f"cannot group by {name!r}{did_you_mean(name, PROPERTIES)}; it must be one of {', '.join(PROPERTIES)}"
            )
    if not names:
        return None
    return lambda window: {name: value for name, value in measure_properties(window).items() if name in names}


def measure_properties(window: EvaluationWindow) -> dict[str, float]:
    """``motion`` in pixels and ``occlusion`` in [0, 1]."""
    if window.motion is not None:
        length, occluded = flow_length(window.motion.to_first), ~window.motion.visible.all(dim=1)
        return {"motion": _motion_length(length), "occlusion": occluded.float().mean().item()}
    to_first, occluded_in_first = _flows_to_first(window.frames)
    _, occluded_in_last = _flows_to_first(window.frames[::-1])
    occluded = occluded_in_first[:-1] | occluded_in_last[:-1].flip(0)
    return {"motion": _motion_length(flow_length(to_first)), "occlusion": occluded.float().mean().item()}


def _motion_length(length: Float[Tensor, "m 1 H W"]) -> float:
    """The 95th percentile over pixels of the largest length over time."""
    return float(np.quantile(length.amax(dim=(0, 1)).numpy(), _MOTION_QUANTILE))


def _flows_to_first(frames: Sequence[Picture] | np.ndarray) -> tuple[Fields, Tensor]:
    """Flows from every later frame to the first one, and a mask (m, H, W) of the pixels that are occluded in it."""
    import cv2

    to_first: list[Tensor] = []
    from_first: list[Tensor] = []
    for before, after in pairwise(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames):
        backward, forward = dis_flow(after, before), dis_flow(before, after)
        to_first.append(chain(backward, to_first[-1]) if to_first else backward)
        from_first.append(chain(from_first[-1], forward) if from_first else forward)
    flows = torch.cat(to_first)
    visible = stays_inside(flows) & (forward_backward_error(flows, torch.cat(from_first)) < 1.0)
    return flows, ~visible[:, 0]
