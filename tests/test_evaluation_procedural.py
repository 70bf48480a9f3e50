"""Held-out scenes: they repeat, their motion is large, and the end frames determine it."""

import numpy as np
import pytest
import torch

from rdvfi.data.synthetic.curved_scenes import sample_limb
from rdvfi.data.synthetic.textures import PicturePyramid
from rdvfi.evaluation.procedural import (
    HELD_OUT_SETS,
    held_out_pictures,
    held_out_plan,
    held_out_scene,
    procedural_windows,
)
from rdvfi.ops import backward_warp


@pytest.fixture(scope="module")
def pictures() -> PicturePyramid:
    return held_out_pictures()


@pytest.mark.parametrize("name", HELD_OUT_SETS)
def test_scenes_repeat_and_differ(name: str) -> None:
    first, second = (next(procedural_windows(2, name=name)) for _ in range(2))
    other = next(procedural_windows(2, name=name, start=1))
    assert first.frames.shape == (3, 256, 448, 3)
    assert first.frames.dtype == np.uint8
    assert np.array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("number", range(8))
def test_motion_is_large_and_steady(number: int) -> None:
    """The top layer's matrix over equal times is one and the same: the ends determine the path."""
    plan = held_out_plan("procedural", number)
    top = plan.layers[-1]
    assert top is not None
    whole, half, quarter = (top.path.at(t) for t in (1.0, 0.5, 0.25))
    assert np.allclose(half @ half, whole, atol=1e-8)
    assert np.allclose(quarter @ quarter, half, atol=1e-8)
    turn = abs(np.degrees(np.arctan2(whole[1, 0], whole[0, 0])))
    zoom = np.hypot(whole[0, 0], whole[1, 0])
    assert 35 <= turn <= 90 or 1.3 <= max(zoom, 1 / zoom) <= 2.0
    assert len(plan.layers) == (2, 1, 2, 1)[number % 4]


@pytest.mark.parametrize("name", HELD_OUT_SETS)
def test_layers_of_a_scene_are_of_different_pictures(name: str) -> None:
    for number in range(8):
        layers = held_out_plan(name, number).layers
        assert len({layer.crop.picture for layer in layers if layer is not None}) == len(layers)


def test_the_sets_are_the_ones_that_are_published() -> None:
    """Figures for them are in the model card: their motions are never drawn differently."""
    tops = [held_out_plan("procedural", number).layers[-1] for number in range(4)]
    paths = [top.path for top in tops if top is not None]
    assert [round(np.degrees(p.angle), 3) for p in paths] == [55.348, -59.18, -52.031, 0.0]
    assert [round(p.zoom, 4) for p in paths] == [1.0, 1.0, 1.0, 1.4501]
    forearms = [held_out_plan("procedural-limbs", number).layers[-1] for number in range(3)]
    assert [round(np.degrees(arm.path.angle), 3) for arm in forearms if arm is not None] == [63.884, -42.372, -58.653]


def test_links_of_a_limb_hang_together_and_turn_steadily() -> None:
    for seed in range(5):
        limb = sample_limb(np.random.default_rng(seed), (256, 448))
        assert 60.0 <= limb.displacement() <= 160.0
        for t in (0.0, 0.3, 1.0):
            shoulder, elbow, tip = limb.points(t)
            assert np.allclose(shoulder, limb.shoulder)
            assert np.hypot(*(elbow - shoulder)) == pytest.approx(limb.lengths[0])
            assert np.hypot(*(tip - elbow)) == pytest.approx(limb.lengths[1])
            upper, lower = (np.arctan2(d[1], d[0]) for d in (elbow - shoulder, tip - elbow))
            turned = np.array([upper - limb.heading, lower - upper - limb.bend])
            expected = np.array(limb.turns) * t
            assert np.allclose(np.exp(1j * turned), np.exp(1j * expected))
            assert (limb.points(t) >= 0).all()
            assert (limb.points(t) < (448, 256)).all()


@pytest.mark.parametrize(("name", "number"), [("procedural", 0), ("procedural", 1), ("procedural-limbs", 1)])
def test_a_frame_is_an_end_warped_along_the_flow(name: str, number: int, pictures: PicturePyramid) -> None:
    """On every moving layer, where that end shows it; links are drawn where the limb's points are."""
    scene = held_out_scene(name, number, pictures)
    times = torch.tensor([[0.0, 0.4, 1.0]])
    frames, labels = scene.frames(times)
    flows, visible = scene.flows(times, torch.tensor([[0, 2]] * 3), labels)
    moving = range(1 if len(scene.layers) > 1 else 0, len(scene.layers))
    for i, end in enumerate((0, 2)):
        warped = backward_warp(frames[:, end], flows[:, 1, i])
        error = (warped - frames[:, 1]).abs().mean(1)
        for index in moving:
            on = (labels[:, 1] == index) & visible[:, 1, i]
            assert on.float().mean() > 0.02
            assert error[on].mean() < 0.02
    assert flows[:, 1].norm(dim=2)[(labels[:, 1] == moving[-1])[:, None].expand(-1, 2, -1, -1)].mean() > 0.3 * 60.0
