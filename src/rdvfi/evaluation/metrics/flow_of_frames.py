"""DIS flow between neighbouring frames, for motion metrics."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import dis_flow, grey
from rdvfi.evaluation.metrics.metric import Frames


def flows_between(frames: Frames, *, back: bool = False) -> Float[Tensor, "m 2 H W"]:
    """Flow from every frame to the next one, or from every frame but the first to the one before it.

    On the grid of the frame that it leads from, in pixels.
    """
    return torch.cat([dis_flow(b, a) if back else dis_flow(a, b) for a, b in pairwise(map(grey, frames))])
