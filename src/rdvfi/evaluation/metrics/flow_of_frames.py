"""DIS flow between neighbouring frames of a sequence, for the metrics that look at motion."""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import dis_flow
from rdvfi.evaluation.metrics.metric import Frames


def flows_between(frames: Frames, *, back: bool = False) -> Float[Tensor, "m 2 H W"]:
    """Flow from every frame to the next one, or from every frame but the first to the one before it.

    On the grid of the frame that it leads from, in pixels.
    """
    grey = [_grey(frame) for frame in frames]
    return torch.cat([dis_flow(b, a) if back else dis_flow(a, b) for a, b in pairwise(grey)])


def _grey(frame: Float[Tensor, "3 H W"]) -> np.ndarray:
    import cv2

    pixels = frame.mul(255.0).round().byte().permute(1, 2, 0).contiguous().numpy()
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
