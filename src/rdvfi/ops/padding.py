"""SiLU and a replicated border of one pixel: what nearly every convolution here is preceded by."""

import torch.nn.functional as F
from torch import Tensor

from rdvfi.ops.inference import inference_operator


def _reference(x: Tensor) -> Tensor:
    return F.pad(F.silu(x), (1, 1, 1, 1), mode="replicate")


def _empty(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.new_empty((n, c, h + 2, w + 2))


silu_padded = inference_operator("silu_padded", _reference, _empty, "padding")
"""``silu(x)`` of maps (n, c, h, w), extended by one replicated pixel on every side."""
