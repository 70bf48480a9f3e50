"""Similarity paths: the way of a rotation or zoom at constant rate follows from its end flow alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from layered_scene import background_layer, exact_flows, layer_labels, rectangle_layer, single_scene
from rdvfi.data.synthetic.layered_scenes import SceneBatch
from rdvfi.data.synthetic.object_paths import LayerPath, turning_path
from rdvfi.ops import similarity_path_flows, straight_flows
from rdvfi.ops.similarity_paths import similarity_gradient

TIMES = torch.tensor([0.0, 0.125, 0.5, 0.875, 1.0])
SIZE = (32, 48)
GREY = np.zeros((8, 8, 3), np.uint8)
INNER = (..., slice(8, -8), slice(8, -8))


def _whole(path: LayerPath) -> SceneBatch:
    """The whole picture moves; textures do not matter for flows."""
    return single_scene(SIZE, background_layer(GREY, path))


def _end_flows(moving: SceneBatch) -> tuple[Tensor, Tensor]:
    return exact_flows(moving, [0.0], (1.0,))[0][:, 0], exact_flows(moving, [1.0], (0.0,))[0][:, 0]


def _exact(moving: SceneBatch) -> tuple[Tensor, Tensor]:
    """Flows at all times, and which pixels show a point that is inside both end frames."""
    exact, seen = exact_flows(moving, TIMES.tolist())
    return exact.flatten(1, 2), seen.all(1)


MOTIONS = {
    "turn": LayerPath(pivot=(20.0, 14.0), angle=0.9),
    "turn back": LayerPath(pivot=(28.0, 18.0), angle=-0.6),
    "zoom in": LayerPath(pivot=(24.0, 16.0), zoom=1.4),
    "zoom out": LayerPath(pivot=(24.0, 16.0), zoom=0.7),
    "both": LayerPath(pivot=(22.0, 17.0), angle=0.5, zoom=1.25),
}


@pytest.mark.parametrize("path", MOTIONS.values(), ids=MOTIONS)
def test_turns_and_zooms_at_constant_rate_are_exact(path: LayerPath) -> None:
    whole = _whole(path)
    found = similarity_path_flows(*_end_flows(whole), TIMES).flows[0]
    exact, inside = _exact(whole)
    straight = torch.cat(straight_flows(*_end_flows(whole), TIMES), dim=2)[0]
    off = (straight - exact).abs().amax(1)[inside].max()
    for candidate in found.unbind(1):
        error = (candidate - exact).abs().amax(1)[inside]
        assert error.median() < 0.01
        assert error.quantile(0.95) < 0.05 * off
        assert error.max() < 0.4 * off  # points on the border itself, half a pixel outside


def test_a_shift_is_the_straight_line() -> None:
    forward, backward = _end_flows(_whole(LayerPath(shift=(6.0, -4.0))))
    straight = torch.cat(straight_flows(forward, backward, TIMES), dim=2)
    found = similarity_path_flows(forward, backward, TIMES).flows
    for candidate in found.unbind(2):
        torch.testing.assert_close(candidate, straight, rtol=0, atol=1e-4)


def test_swapped_ends_give_swapped_candidates() -> None:
    """The candidates of the first frame become those of the last, and the flows change places."""
    forward, backward = _end_flows(_whole(MOTIONS["both"]))
    found = similarity_path_flows(forward, backward, TIMES)
    swapped = similarity_path_flows(backward, forward, 1 - TIMES.flip(0))
    mirrored = swapped.flows.flip(1)[:, :, [1, 0, 3, 2]][:, :, :, [2, 3, 0, 1]]
    torch.testing.assert_close(mirrored, found.flows, rtol=0, atol=1e-4)
    torch.testing.assert_close(swapped.arrived.flip(1, 2), found.arrived, rtol=0, atol=1e-4)


@pytest.mark.parametrize("path", MOTIONS.values(), ids=MOTIONS)
def test_the_gradient_of_a_similarity_is_found(path: LayerPath) -> None:
    forward, _ = _end_flows(_whole(path))
    expected = path.zoom * np.exp(1j * path.angle) - 1.0
    gradient = similarity_gradient(forward)[INNER]
    assert (gradient - complex(expected)).abs().max() < 0.05


def test_the_gradient_sees_one_side_of_an_edge() -> None:
    """A still half beside a shifted half: neither turns, whatever is between."""
    flow = torch.zeros(1, 2, *SIZE)
    flow[:, 0, :, 24:] = 12.0
    assert similarity_gradient(flow).abs().max() < 0.1


def test_noise_gives_finite_candidates() -> None:
    forward, backward = (30 * torch.randn(2, 2, *SIZE) for _ in range(2))
    found = similarity_path_flows(forward, backward, TIMES)
    assert torch.isfinite(found.flows).all()
    assert torch.isfinite(found.arrived).all()


@pytest.mark.parametrize(
    "path",
    [LayerPath(shift=(24.0, 0.0)), turning_path((12.0, 16.0), 0.8, 24.0, np.pi / 2)],
    ids=["shift", "turn"],
)
def test_what_moves_further_than_its_size_is_found(path: LayerPath) -> None:
    """An 8-pixel square by 24 pixels over still ground: search sees the ground alone."""
    whole = single_scene(SIZE, background_layer(GREY), rectangle_layer(GREY, path, (8.0, 12.0)))
    found = similarity_path_flows(*_end_flows(whole), TIMES)
    exact, _ = _exact(whole)
    square = layer_labels(whole, 0.5) == 1
    errors = (found.flows[0, 2] - exact[2]).norm(dim=1)[:, square]
    assert (errors[:2].median(1).values > 15.0).all()
    assert (errors[2:].median(1).values < 0.5).all()
    assert (found.arrived[0, 2, :, square].median(1).values > 0.9).all()
