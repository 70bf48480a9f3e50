"""Occluded points take the flow of their surroundings; what can be checked stays as it is."""

import numpy as np
import pytest
import torch
from torch import Tensor

from layered_scene import background_layer, exact_flows, rectangle_layer, single_scene
from rdvfi.data.synthetic.object_paths import LayerPath
from rdvfi.ops import fill_occluded

SIZE = (96, 128)


def _end_flows(shift: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A square that moves over a still ground: exact flows both ways, and what is seen of each."""
    grey = np.zeros((32, 32, 3), np.uint8)
    moving = single_scene(
        SIZE, background_layer(grey), rectangle_layer(grey, LayerPath(shift=(shift, 0.0)), (20.0, 30.0))
    )
    (onward, seen), (back, seen_back) = (exact_flows(moving, [time], (1.0 - time,)) for time in (0.0, 1.0))
    return onward[:, 0], back[:, 0], seen, seen_back


def test_what_leads_back_stays_as_it_is() -> None:
    onward, back, seen, seen_back = _end_flows(40.0)
    for found, exact, visible in zip(fill_occluded(onward, back), (onward, back), (seen, seen_back), strict=True):
        changed = (found != exact).any(1)[visible[:, 0]]
        assert changed.float().mean() < 0.02  # at the edge of the square


def test_hidden_points_get_the_flow_of_what_is_beside_them() -> None:
    onward, back, seen, seen_back = _end_flows(40.0)
    generator = torch.Generator().manual_seed(2)
    wrong = [
        torch.where(visible, flow, 10.0 * torch.randn(flow.shape, generator=generator))
        for flow, visible in ((onward, seen), (back, seen_back))
    ]
    assert (wrong[0] - onward).norm(dim=1)[~seen[:, 0]].mean() > 10.0
    for found, exact, visible in zip(fill_occluded(*wrong), (onward, back), (seen, seen_back), strict=True):
        errors = (found - exact).norm(dim=1)
        assert errors[~visible[:, 0]].mean() < 3.0
        assert errors[visible[:, 0]].median() < 1e-5


def test_swapped_directions_are_swapped() -> None:
    onward, back = 6.0 * torch.randn(2, 2, 2, 33, 47)
    first, second = fill_occluded(onward, back)
    other, one = fill_occluded(back, onward)
    assert torch.equal(first, one)
    assert torch.equal(second, other)


@pytest.mark.parametrize("size", [(1, 1), (16, 17), (130, 70)])
def test_what_leaves_the_picture_and_what_never_returns_stay(size: tuple[int, int]) -> None:
    away = torch.full((1, 2, *size), 500.0)
    assert torch.equal(fill_occluded(away, -away)[0], away)
    generator = torch.Generator().manual_seed(1)
    lost = 40.0 * torch.randn(1, 2, *size, generator=generator)
    assert torch.equal(fill_occluded(lost, lost.flip(-1))[0], lost)
