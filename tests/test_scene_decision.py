"""Whether two frames are of one scene is decided once, in `estimate`; renderers obey."""

import re
from dataclasses import replace

import pytest
import torch
from skimage import data
from torch._subclasses.fake_tensor import FakeTensorMode

import rdvfi
from rdvfi.interfaces import Motion
from rdvfi.render.base import consistency_mask
from rdvfi.render.warp_renderer import WarpRenderer
from rdvfi.scene_decision import SCENE_THRESHOLD, SceneDecision

TIMES = torch.tensor([0.0, 0.25, 0.5, 1.0])


def _picture(name: str) -> torch.Tensor:
    picture = torch.from_numpy(getattr(data, name)()[60:252:2, 40:360:2].copy())
    return picture.permute(2, 0, 1)[None].float() / 255.0


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    return rdvfi.build("rdvfi_s1", "trajectory=straight", "renderer=warp").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def cut() -> tuple[torch.Tensor, torch.Tensor]:
    """Two unrelated pictures."""
    return _picture("coffee"), _picture("astronaut")


@pytest.fixture(scope="module")
def shot() -> tuple[torch.Tensor, torch.Tensor]:
    """A picture and the same, moved."""
    first = _picture("coffee")
    return first, first.roll((2, 6), (2, 3))


def _cross_fade(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    return torch.lerp(first[:, None], last[:, None], TIMES[None, :, None, None, None])


def _warp_frames(first: torch.Tensor, last: torch.Tensor, motion: Motion) -> torch.Tensor:
    """Both frames along the trajectory, drawn here without a renderer."""
    flows = motion.trajectory.at(TIMES)
    mask = consistency_mask(motion.trajectory, TIMES, flows)
    return rdvfi.ops.render(first, last, *flows, mask, torch.zeros_like(mask).expand(-1, -1, 3, -1, -1))


@pytest.mark.parametrize("name", ["warp", "synthesis"])
def test_a_pair_of_two_scenes_is_cross_faded(name: str, model, cut) -> None:
    motion = model.estimate(*cut)
    assert not motion.scene.same_scene[0]
    assert motion.trajectory.at(TIMES)[0].abs().max() > 3.0
    torch.manual_seed(3)
    renderer = rdvfi.renderers.create(name)
    with torch.no_grad():
        for parameter in renderer.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
        drawn = renderer(*cut, motion, TIMES)
    torch.testing.assert_close(drawn, _cross_fade(*cut), atol=1e-5, rtol=0.0)


def test_a_pair_of_one_scene_is_drawn_along_its_motion_and_nothing_else(model, shot) -> None:
    motion = replace(model.estimate(*shot), content=None)  # as the scene decides, without other rules
    assert motion.scene.same_scene[0]
    assert torch.equal(WarpRenderer()(*shot, motion, TIMES), _warp_frames(*shot, motion))


@pytest.mark.parametrize("options", [{"scene_threshold": 0.0}, {"same_scene": True}])
def test_a_cut_is_warped_when_the_caller_wants_it(options: dict[str, object], model, cut) -> None:
    motion = model.estimate(*cut, **options)
    assert motion.scene.same_scene.tolist() == [True]
    frames = model.render(*cut, motion, TIMES)
    assert torch.equal(model.render(*cut, replace(motion, content=None), TIMES), _warp_frames(*cut, motion))
    assert (frames - _cross_fade(*cut))[:, 2].abs().mean() > 0.03  # and that is no cross-fade
    assert torch.equal(model(*cut, TIMES, **options), frames)


def test_a_shot_is_cross_faded_when_the_caller_wants_it(model, shot) -> None:
    motion = model.estimate(*shot, same_scene=False)
    torch.testing.assert_close(model.render(*shot, motion, TIMES), _cross_fade(*shot), atol=1e-6, rtol=0.0)
    assert model.estimate(*shot, scene_threshold=1.0).scene.same_scene.tolist() == [False]


def test_each_sample_of_a_batch_is_decided_by_itself(model, cut, shot) -> None:
    first, last = torch.cat((cut[0], shot[0])), torch.cat((cut[1], shot[1]))
    assert model.estimate(first, last).scene.same_scene.tolist() == [False, True]
    forced = model(first, last, TIMES, same_scene=torch.tensor([True, False]))
    torch.testing.assert_close(forced[:1], model(*cut, TIMES, same_scene=True), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(forced[1:], _cross_fade(*shot), atol=1e-5, rtol=0.0)


def test_the_decision_is_made_once_per_pair(model, shot, monkeypatch) -> None:
    made = []
    of = SceneDecision.of
    monkeypatch.setattr(SceneDecision, "of", lambda *args, **kwargs: made.append(of(*args, **kwargs)) or made[-1])
    motion = model.estimate(*shot)
    for times in ([0.5], [0.25, 0.75]):
        model.render(*shot, motion, times)
    assert len(made) == 1
    assert motion.scene is made[0]


def test_motion_fades_out_around_the_threshold() -> None:
    confidence = torch.tensor([0.05, 0.35, 0.385, 0.42, 1.0])
    decision = SceneDecision.of(confidence)
    torch.testing.assert_close(decision.weight, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-5, rtol=0.0)
    assert decision.same_scene.tolist() == [False, False, False, True, True]
    assert decision.threshold == SCENE_THRESHOLD
    strict = SceneDecision.of(confidence, threshold=1.0)
    assert strict.same_scene.tolist() == [False] * 4 + [True]
    assert strict.weight[-1] == 1.0
    everything = SceneDecision.of(torch.zeros(1), threshold=0.0)  # even where no confidence is left
    assert (everything.same_scene.item(), everything.weight.item()) == (True, 1.0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, r"two scenes: mean confidence 0\.20 is below the threshold of 0\.40"),
        ({"threshold": 0.15}, r"one scene: mean confidence 0\.20 is at least the threshold of 0\.15"),
        ({"threshold": 0.0}, r"one scene: scene_threshold 0 interpolates every pair \(mean confidence 0\.20\)"),
        ({"same_scene": False}, "two scenes: forced by same_scene"),
    ],
)
def test_a_decision_says_why(options: dict[str, object], reason: str) -> None:
    assert re.fullmatch(reason, SceneDecision.of(torch.tensor([0.2]), **options).reason(0))


@pytest.mark.parametrize("options", [{}, {"threshold": 0.0}, {"same_scene": True}])
def test_nothing_is_read_from_the_device(options: dict[str, object]) -> None:
    with FakeTensorMode():  # a fake tensor has no values to read
        decision = SceneDecision.of(torch.rand(3), **options)
    assert decision.weight.shape == decision.same_scene.shape == (3,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scene_threshold": 1.5}, r"scene_threshold must be a number in \[0, 1\]; got 1\.5"),
        ({"scene_threshold": float("nan")}, r"scene_threshold must be a number in \[0, 1\]; got nan"),
        ({"same_scene": torch.ones(2, dtype=torch.bool)}, r"same_scene must be .*got torch\.bool of shape \(2,\)"),
        ({"same_scene": torch.ones(1)}, r"same_scene must be .*got torch\.float32 of shape \(1,\)"),
    ],
)
def test_what_cannot_decide_is_refused(options: dict[str, object], message: str, model, shot) -> None:
    with pytest.raises(ValueError, match=message):
        model.estimate(*shot, **options)
