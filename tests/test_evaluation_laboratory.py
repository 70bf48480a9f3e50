"""The motion laboratory: exact paths, what the ends determine, what rests; and other people's functions."""

import numpy as np
import pytest
import torch

from rdvfi.evaluation import FunctionMethod, evaluate, motion_scene, motion_scenes
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.laboratory import LABORATORY_SETS, MotionScene
from rdvfi.evaluation.metrics import WindowResult
from rdvfi.evaluation.metrics.temporal import StillError
from rdvfi.ops import backward_warp

SIZE = (96, 160)
TIMES = torch.tensor([0.0, 0.4, 1.0])


def small(name: str, seed: int = 0) -> MotionScene:
    return motion_scene(name, seed=seed, size=SIZE)


@pytest.mark.parametrize("name", motion_scenes())
def test_a_frame_is_each_end_warped_along_the_exact_flow(name: str) -> None:
    scene = small(name)
    frames = scene.frames(TIMES)
    flows, visible = scene.flows(TIMES[1:2], TIMES[[0, 2]])
    assert frames.shape == (3, 3, *SIZE)
    assert flows.shape == (1, 2, 2, *SIZE)
    for i, end in enumerate((0, 2)):
        moves = visible[:, i] & (flows[:, i].norm(dim=1) > 1.0)
        error, wrong = (
            (backward_warp(frames[end, None], share * flows[:, i]) - frames[1, None]).abs().mean(1)[moves].mean()
            for share in (1.0, 0.8)
        )
        if name in ("noise", "light_change", "flare"):  # there the colours differ, the paths do not
            assert error < 0.2
        else:
            assert error < 0.06
            assert error < 0.6 * wrong


@pytest.mark.parametrize("name", motion_scenes(determined=True))
def test_determined_paths_have_one_constant_rate(name: str) -> None:
    """No bow, no acceleration, no wave that swings: halves of the path are alike."""
    scene = small(name)
    assert scene.determined
    for layer in scene.scenes.layers:
        motion = layer.motion
        assert not motion.paths[:, 6:].any()
        assert not motion.joints[:, 6:].any()
        assert not motion.laws[:, 1].any()


@pytest.mark.parametrize("name", motion_scenes(determined=False))
def test_undetermined_scenes_differ_from_any_constant_rate(name: str) -> None:
    scene = small(name)
    motions = [layer.motion for layer in scene.scenes.layers]
    uneven = any(bool(m.paths[:, 6:].any() or m.joints[:, 6:].any() or m.laws[:, 1].any()) for m in motions)
    assert scene.scenes.light is not None
    assert uneven or bool(scene.scenes.light.curve.abs().max() > 1.0)


def test_the_groups_are_all_kinds_and_scenes_repeat() -> None:
    assert sorted(motion_scenes(determined=True) + motion_scenes(determined=False)) == sorted(motion_scenes())
    first, again, other = (small("noise", seed).frames(TIMES) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(small("turn").frames(TIMES), small("spin").frames(TIMES))


def test_a_swing_comes_back() -> None:
    """Its two ends are one picture, and between them it was elsewhere."""
    scene = small("swing")
    frames = scene.frames(torch.tensor([0.0, 0.5, 1.0]))
    assert torch.allclose(frames[0], frames[2], atol=1e-5)
    flows, _ = scene.flows(torch.zeros(1), torch.tensor([0.5, 1.0]))
    assert flows[0, 0].norm(dim=0).max() > 8.0
    assert flows[0, 1].norm(dim=0).max() < 1e-3


def test_what_rests_is_told() -> None:
    still = motion_scene("static_overlay").still()
    assert 0.005 < still.float().mean() < 0.2  # letters
    assert 0.5 < small("static_camera").still().float().mean() < 1.0
    assert not small("pan").still().any()


def test_unknown_scenes_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no scene named 'spinn'.*did you mean 'spin'"):
        motion_scene("spinn")
    with pytest.raises(ValueError, match="seed is -1"):
        motion_scene("spin", seed=-1)
    with pytest.raises(ValueError, match="at least 64 pixels"):
        motion_scene("spin", size=(32, 96))


def _window() -> EvaluationWindow:
    """Three frames: the left half rests, the right half changes."""
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    frames[1, :, 8:], frames[2, :, 8:] = 100, 200
    return EvaluationWindow(0, frames)


def test_still_error_looks_only_where_the_truth_rests() -> None:
    frames = _window().truth() + 0.5
    frames[..., :8] = 3.0 / 255.0
    sample = StillError().measure(WindowResult(_window(), frames))
    assert sample.values == pytest.approx((3.0,))
    moving = EvaluationWindow(
        0, np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3) * 9
    )
    assert StillError().measure(WindowResult(moving, moving.truth())).values == ()


def mean_of_arrays(img0: np.ndarray, img1: np.ndarray, times: list[float]) -> list[np.ndarray]:
    return [np.rint((1 - t) * img0.astype(np.float64) + t * img1).astype(np.uint8) for t in times]


def test_functions_of_arrays_and_of_tensors_are_measured_like_methods() -> None:
    def by_tensors(img0: torch.Tensor, img1: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.lerp(img0[0], img1[0], float(t)) for t in times])

    methods = ["blend", FunctionMethod(mean_of_arrays, arrays=True), FunctionMethod(by_tensors, name="lerp")]
    metrics = ("psnr", "still-error")
    report = evaluate("laboratory-undetermined", gap=2, models=methods, pairs=2, metrics=metrics)
    assert [row.clip for row in report.windows] == motion_scenes(determined=False)[:2]
    blend, arrays, tensors = report.scores
    assert arrays.method == "mean_of_arrays"
    assert arrays.psnr == pytest.approx(blend.psnr, abs=1e-3)
    assert tensors.values == blend.values
    assert blend.values["still-error"] < 0.5


def test_the_sets_have_a_scene_of_every_kind() -> None:
    for name, determined in LABORATORY_SETS.items():
        count = len(motion_scenes(determined=determined))
        from rdvfi.evaluation.evaluation_data import EvaluationData

        assert EvaluationData(name, gap=8).window_count() == count


@pytest.mark.parametrize(("make", "arrays", "message"), [
    (lambda a, b, t: [a], True, "returned frames of"),
    (lambda a, b, t: [a.astype(float)] * 2, True, "expected 8-bit frames"),
    (lambda a, b, t: [a[:8], a], True, "frames of sizes"),
    (lambda a, b, t: [a], False, "gave a list; expected a tensor"),
    (lambda a, b, t: a, False, "returned frames of"),
])  # fmt: skip
def test_functions_that_give_something_else_are_told_what(make, arrays: bool, message: str) -> None:
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match=message):
        FunctionMethod(make, name="mine", arrays=arrays)(image, image, torch.tensor([0.3, 0.6]))
