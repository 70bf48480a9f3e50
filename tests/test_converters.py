"""Pictures to tensors and back; a motion moved to a device; colours of a flow; the card of a saved model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import rdvfi
import toy
from rdvfi.interfaces import Trajectory
from rdvfi.testing import some_motion
from rdvfi.types import move_tensors


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_a_picture_goes_there_and_back_unchanged(seed: int, h: int, w: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)
    for picture in (pixels, Image.fromarray(pixels)):
        tensor = rdvfi.to_tensor(picture)
        assert tensor.shape == (1, 3, h, w)
        for frame in (tensor, tensor[0], tensor[:, None]):
            assert np.array_equal(np.array(rdvfi.to_image(frame)), pixels)


def test_other_kinds_of_pictures(tmp_path: Path) -> None:
    grey = Image.new("L", (4, 3), 51)
    assert torch.allclose(rdvfi.to_tensor(grey), torch.full((1, 3, 3, 4), 0.2))
    deep = np.full((2, 2, 3), 65535, np.uint16)
    assert torch.equal(rdvfi.to_tensor(deep), torch.ones(1, 3, 2, 2))
    for wrong, message in (
        (np.zeros((2, 2)), r"float64 \(2, 2\)"),
        ("a.png", "got str"),
        (np.zeros((2, 2, 3)), "float64"),
    ):
        with pytest.raises(TypeError, match=message):
            rdvfi.to_tensor(wrong)
    for wrong in (torch.zeros(2, 3, 4, 4), torch.zeros(4, 4), torch.zeros(1, 2, 3, 4, 4)):
        with pytest.raises(ValueError, match="expected one frame"):
            rdvfi.to_image(wrong)


def test_a_motion_moves_with_all_that_it_holds() -> None:
    with toy.registered():
        model = toy.toy_model()
        motion = model.estimate(toy.textured(1, 48, 64), toy.textured(1, 48, 64, seed=1))
        there = motion.to("meta")
        assert there.keyframes.latents.device.type == there.scene.weight.device.type == "meta"
        assert all(flow.device.type == "meta" for flow in (there.trajectory.first_to_last, there.trajectory.knots))  # pyright: ignore
        assert motion.keyframes.latents.device.type == "cpu"
        same = motion.to("cpu")
        frames = [
            model.render(toy.textured(1, 48, 64), toy.textured(1, 48, 64, seed=1), m, [0.5]) for m in (motion, same)
        ]
        assert torch.equal(*frames)
    shipped = rdvfi.create_model("rdvfi-s")
    real = shipped.estimate(toy.textured(1, 48, 64), toy.textured(1, 48, 64, seed=1))
    again = real.to("cpu")
    times = torch.tensor([0.3])
    assert torch.equal(again.trajectory.at(times)[0], real.trajectory.at(times)[0])
    assert len(repr(again)) < 1500


def test_a_trajectory_that_cannot_move_says_so() -> None:
    class Bare(Trajectory):
        pass

    Bare.__abstractmethods__ = frozenset()
    with pytest.raises(TypeError, match="a Bare cannot be moved to meta: make it a dataclass of tensors"):
        move_tensors(Bare(), "meta")  # pyright: ignore
    assert move_tensors({"a": [torch.zeros(1), 2]}, "meta")["a"][0].device.type == "meta"
    assert move_tensors((torch.Size((2, 3)), 1), "meta") == (torch.Size((2, 3)), 1)
    assert isinstance(some_motion((48, 64)).to("cpu").trajectory, Trajectory)


def test_flow_is_shown_by_direction_and_length() -> None:
    flow = torch.zeros(2, 1, 3)
    flow[0, 0] = torch.tensor([0.0, 2.0, -2.0])
    shown = rdvfi.flow_colours(flow)
    assert torch.equal(shown[:, 0, 0], torch.ones(3))  # rest is white
    assert torch.equal(shown[:, 0, 1], torch.tensor([1.0, 0.0, 0.0]))  # to the right is red
    assert torch.allclose(shown[:, 0, 2], torch.tensor([0.0, 1.0, 1.0]))
    assert torch.allclose(rdvfi.flow_colours(flow, 4.0)[:, 0, 1], torch.tensor([1.0, 0.5, 0.5]))


def test_a_saved_model_has_a_card_and_somebodys_own_stays(tmp_path: Path) -> None:
    with toy.registered():
        model = toy.toy_model()
        model.mark_trained("renderer")
        model.save_pretrained(tmp_path)
        page = (tmp_path / "README.md").read_text()
        assert "library_name: rdvfi" in page
        assert "| renderer | `toy(tint=0.0, shape=[1, 2])` | trained |" in page
        assert "| untrained |" in page
        (tmp_path / "README.md").write_text("mine")
        model.save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text() == "mine"


def test_dir_shows_the_api_only() -> None:
    assert dir(rdvfi) == sorted(rdvfi.__all__)
