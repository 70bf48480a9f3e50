"""Procedural scenes: frames and flows tell the same story."""

import numpy as np
import pytest
import torch
from jaxtyping import Float
from skimage import data
from torch import Tensor

from rdvfi.data.synthetic.procedural import Path, Scene, curved_scene, turning_path
from rdvfi.ops import backward_warp

PICTURES = [data.astronaut(), data.coffee(), data.chelsea()]
SIZE = (96, 160)


def _tensor(picture: np.ndarray) -> Float[Tensor, "1 3 h w"]:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255.0


def _scenes() -> list[Scene]:
    return [curved_scene(i, PICTURES, size=SIZE) for i in range(8)]


@pytest.mark.parametrize("index", range(8))
def test_an_end_warped_along_the_exact_flow_is_the_frame_where_it_is_visible(index: int) -> None:
    """Textures are sampled twice on one side and once on the other, so edges differ a little."""
    scene = _scenes()[index]
    for t in (0.3, 0.75):
        frame, flows, visible = scene.sample(t)
        for end in (0, 1):
            flow = torch.from_numpy(flows[end])[None]
            warped = backward_warp(_tensor(scene.frame(float(end))), flow)
            error = (warped - _tensor(frame)).abs().mean(1)[0][torch.from_numpy(visible[end])]
            assert error.numel() > 0.1 * frame[..., 0].size
            assert error.median() < 0.02
            assert error.mean() < 0.04
            still = (_tensor(scene.frame(float(end))) - _tensor(frame)).abs().mean()
            assert error.mean() < 0.5 * still or still < 0.02


@pytest.mark.parametrize("index", range(8))
def test_flow_to_its_own_time_is_zero_and_everything_is_visible(index: int) -> None:
    _, flows, visible = _scenes()[index].sample(0.4, to=(0.4,))
    assert np.abs(flows).max() < 1e-4
    assert visible.all()


def test_paths_start_where_things_are_and_determined_ones_are_powers() -> None:
    path = Path((30.0, 20.0), 0.8, 1.4, (5.0, -7.0), (3.0, 4.0), 0.3)
    np.testing.assert_allclose(path.at(0.0), np.eye(3), atol=1e-12)
    bowless = Path((30.0, 20.0), 0.8, 1.4)
    np.testing.assert_allclose(bowless.at(0.5) @ bowless.at(0.5), bowless.at(1.0), atol=1e-9)
    straight = Path((30.0, 20.0), 0.8, 1.4, (5.0, -7.0), acceleration=0.3)
    np.testing.assert_allclose(path.at(1.0), straight.at(1.0), atol=1e-12)  # a bow keeps both ends


@pytest.mark.parametrize("angle", [0.5, -1.5])
def test_a_turning_path_moves_its_centre_as_far_as_asked(angle: float) -> None:
    path = turning_path((50.0, 40.0), angle, 120.0, 0.7)
    moved = path.at(1.0) @ np.array([50.0, 40.0, 1.0])
    assert np.hypot(moved[0] - 50.0, moved[1] - 40.0) == pytest.approx(120.0)


def test_strides_read_the_centres_of_cells() -> None:
    scene = curved_scene(1, PICTURES, size=SIZE)  # the whole frame turns: one smooth field
    _, fine, _ = scene.sample(0.5)
    _, coarse, seen = scene.sample(0.5, stride=8)
    assert coarse.shape == (2, 2, 12, 20)
    assert seen.shape == (2, 12, 20)
    cells = fine.reshape(2, 2, 12, 8, 20, 8).mean((3, 5))
    np.testing.assert_allclose(coarse, cells, atol=1e-3)


def test_a_seed_gives_one_scene() -> None:
    first, again, other = (curved_scene(seed, PICTURES, size=SIZE) for seed in (4, 4, 8))
    assert np.array_equal(first.frame(0.5), again.frame(0.5))
    assert not np.array_equal(first.frame(0.5), other.frame(0.5))
