"""The motion of the surroundings: medians over cells, and how far they agree.

The picture is cut into cells of `CELL` pixels. A cell's motion is the mean of the flows of those of
its pixels that move and whose flow explains them; a cell of which less moves stands still. Around
every cell the median of the moving ones is what moves there, and the share of all cells that move
like it says whether the surroundings move as one.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import flow_length
from rdvfi.types import Flow

MOVES = 0.7
"""Pixels of motion that are no rest."""
CELL = 16
CELLS_AROUND = 11
"""Cells around, in each direction counted through the middle: a subtitle is lower than half of them."""
MOVING = _MOVING, _LEAST, _SEEN = 0.3, 0.1, 0.15
"""Share of a cell's explained pixels, and of all its pixels, that move in a moving cell; share of
explained pixels in a cell that counts at all."""


def tolerance(length: Tensor) -> Tensor:
    """Up to which difference a flow agrees with one of this length: rest never does."""
    return torch.minimum(1.0 + 0.25 * length, 0.6 * length)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What moves around every pixel."""

    motion: Flow
    """The median of the moving cells around."""
    agreement: Float[Tensor, "b 1 h w"]
    """Share of the cells around that move like it."""


def surrounding_motion(flow: Flow, explained: Float[Tensor, "b 1 h w"]) -> Surroundings:
    """What moves around every pixel.

    Args:
        flow: Of every pixel.
        explained: 1 where the flow explains the pixel, 0 elsewhere.
    """
    h, w = flow.shape[-2:]
    size = (max(2, h // CELL), max(2, w // CELL))
    moving = explained * (flow_length(flow) > MOVES)
    sums = F.adaptive_avg_pool2d(torch.cat((flow * moving, moving, explained), dim=1), size)
    moves = (sums[:, 2:3] > _MOVING * sums[:, 3:]) & (sums[:, 2:3] > _LEAST)
    cells = torch.where(moves, sums[:, :2] / sums[:, 2:3].clamp(min=1e-3), torch.nan)
    around = _around(cells, torch.nan)
    median = around.nanmedian(-1).values.nan_to_num(0.0)
    near = tolerance(flow_length(median))[..., None]
    like = (around - median[..., None]).square().sum(1, keepdim=True).sqrt() < near
    counted = _around((sums[:, 3:] > _SEEN).to(flow), 0.0)
    agreement = (like * counted).sum(-1) / counted.sum(-1).clamp(min=1.0)
    both = F.interpolate(torch.cat((median, agreement), dim=1), (h, w), mode="bilinear", align_corners=False)
    return Surroundings(both[:, :2], both[:, 2:])


def _around(cells: Float[Tensor, "b c y x"], outside: float) -> Float[Tensor, "b c y x k"]:
    """All cells around each one; those beyond the border are ``outside``."""
    padded = F.pad(cells, (CELLS_AROUND // 2,) * 4, value=outside)
    return padded.unfold(2, CELLS_AROUND, 1).unfold(3, CELLS_AROUND, 1).flatten(4)
