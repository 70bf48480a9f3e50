"""Motion length and occlusion of a window, to group scores by.

Both are read from the **true** frames, so they are the same for every method. DIS flow between
neighbouring true frames is chained into the flow from the first frame to every later one, which is exact
where flow between the two ends alone would fail. Where the exact motion is known, it is used instead.

* *motion* is the 95th percentile over pixels of the largest distance from their place in the first frame,
  in pixels of the frames.
* *occlusion* is the share of pixels of the frames between that are not seen in both ends: the chained flows
  to both ends and back fail the forward-backward check (Sundaram et al., 2010), or leave the picture.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import dis_flow
from rdvfi.evaluation.clip_evaluation import EvaluationWindow
from rdvfi.geometry import flow_length, stays_inside
from rdvfi.media.pixels import Picture
from rdvfi.ops.flow_algebra import chain
from rdvfi.ops.occlusion import forward_backward_error
from rdvfi.registry import did_you_mean

PROPERTIES = ("motion", "occlusion")
_PERCENTILE = 0.95

Fields = Float[Tensor, "m 2 H W"]


def describer(names: Sequence[str]) -> Callable[[EvaluationWindow], Mapping[str, float]] | None:
    """What measures the named properties of a window; None for no names.

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
    return lambda window: {name: value for name, value in properties(window).items() if name in names}


def properties(window: EvaluationWindow) -> dict[str, float]:
    """``motion`` in pixels and ``occlusion`` in [0, 1]."""
    if window.motion is not None:
        length, hidden = flow_length(window.motion.to_first), ~window.motion.visible.all(dim=1)
        return {"motion": _high(length), "occlusion": hidden.float().mean().item()}
    first, unseen0 = _from_end(window.frames)
    _, unseen1 = _from_end(window.frames[::-1])
    between = (unseen0[:-1] | unseen1[:-1].flip(0)).float()
    return {"motion": _high(flow_length(first)), "occlusion": between.mean().item()}


def _high(length: Float[Tensor, "m 1 H W"]) -> float:
    """The 95th percentile over pixels of their largest length."""
    return float(np.quantile(length.amax(dim=(0, 1)).numpy(), _PERCENTILE))


def _from_end(frames: Sequence[Picture] | np.ndarray) -> tuple[Fields, Tensor]:
    """Flows from every later frame to the first one, and where these pixels are not seen in it."""
    import cv2

    to_first: list[Tensor] = []
    onward: list[Tensor] = []
    for before, after in pairwise(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames):
        back, ahead = dis_flow(after, before), dis_flow(before, after)
        to_first.append(chain(back, to_first[-1]) if to_first else back)
        onward.append(chain(onward[-1], ahead) if onward else ahead)
    first = torch.cat(to_first)
    seen = stays_inside(first) & (forward_backward_error(first, torch.cat(onward)) < 1.0)
    return first, ~seen[:, 0]
