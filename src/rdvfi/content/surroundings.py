"""Motion of the surroundings of every pixel: medians over cells, and the agreement of the cells.

The picture is divided into cells of `CELL` pixels. The motion of a cell is the mean flow of those of its pixels that
move and whose flow explains them; a cell with too few such pixels counts as static. The motion of the surroundings of a
pixel is the median over the moving cells around it, and the agreement is the fraction of all cells around whose motion
is close to that median.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import flow_length
from rdvfi.types import Flow

MOVES = 0.7
"""Length of a flow, in pixels, above which a pixel counts as moving."""
CELL = 16
CELLS_AROUND = 11
"""Side of the window of cells around a pixel; half of it is higher than a subtitle."""
MOVING = _MOVING, _LEAST, _SEEN = 0.3, 0.1, 0.15
"""Fractions of a cell: moving pixels among the explained ones, and among all, above which the cell counts as moving;
explained pixels above which it counts at all."""


def tolerance(length: Tensor) -> Tensor:
    """Largest difference of a flow that agrees with a flow of this length; zero motion never agrees."""
    return torch.minimum(1.0 + 0.25 * length, 0.6 * length)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Motion of the surroundings of every pixel."""

    motion: Flow
    """Median over the moving cells around a pixel."""
    agreement: Float[Tensor, "b 1 h w"]
    """Fraction of the cells around a pixel whose motion is close to the median."""


def surrounding_motion(flow: Flow, explained: Float[Tensor, "b 1 h w"]) -> Surroundings:
    """Motion of the surroundings of every pixel.

    Args:
        flow: Flow of every pixel.
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
    """The window of cells around each cell; cells beyond the border have the value ``outside``."""
    padded = F.pad(cells, (CELLS_AROUND // 2,) * 4, value=outside)
    return padded.unfold(2, CELLS_AROUND, 1).unfold(3, CELLS_AROUND, 1).flatten(4)
