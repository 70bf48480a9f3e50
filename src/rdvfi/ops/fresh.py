"""Memory for drawn frames."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def fresh(*shape: int) -> Float[Tensor, "..."]:
    """Float32 memory on the CPU with any content.

    NumPy asks the system for large pages, PyTorch does not: mapping small ones, one by one as they
    are first written, takes up to a third of the time of drawing.
    """
    return torch.from_numpy(np.empty(shape, np.float32))
