"""Metrics against independent implementations, and the laws they obey."""

import math
import sys

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.metrics import WindowResult, gradient_energy, psnr, quantise, ssim
from rdvfi.evaluation.metrics.metric import create_metric


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Four damaged photographs, and the photographs, both as 8 bits hold them."""
    picture = torch.from_numpy(data.astronaut()[100:196, 150:289].copy()).permute(2, 0, 1) / 255.0
    truth = torch.stack([picture, picture.flip(-1), 0.3 * picture, 1.0 - picture])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([0.01, 0.05, 0.1, 0.2]).view(-1, 1, 1, 1)
    return quantise(truth + strength * noise), quantise(truth)


def test_psnr_equals_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames, truth = pair
    for value, made, true in zip(psnr(frames, truth), frames.numpy(), truth.numpy(), strict=True):
        reference = peak_signal_noise_ratio(true, made, data_range=1.0)
        assert value.item() == pytest.approx(reference, abs=1e-4)


def test_ssim_equals_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames, truth = pair
    for value, made, true in zip(ssim(frames, truth), frames.numpy(), truth.numpy(), strict=True):
        reference = structural_similarity(
            true.astype(np.float64),
            made.astype(np.float64),
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert value.item() == pytest.approx(reference, abs=1e-5)


def test_equal_frames_score_the_best_values(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, truth = pair
    assert psnr(truth, truth).tolist() == [60.0] * len(truth)
    assert ssim(truth, truth).tolist() == pytest.approx([1.0] * len(truth), abs=1e-6)


def test_psnr_of_a_known_error() -> None:
    truth = torch.full((1, 3, 16, 16), 0.5)
    assert psnr(truth + 0.1, truth).item() == pytest.approx(20.0, abs=1e-4)


def test_gradient_energy_of_a_ramp_and_of_blur(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    ramp = (torch.arange(32.0) / 64.0).expand(1, 3, 20, 32)
    assert gradient_energy(ramp).item() == pytest.approx(1.0 / 64.0)
    assert gradient_energy(ramp.transpose(-1, -2)).item() == pytest.approx(1.0 / 64.0)
    _, truth = pair
    blurred = torch.nn.functional.avg_pool2d(truth, 5, stride=1)
    assert (gradient_energy(blurred) < 0.7 * gradient_energy(truth)).all()


def test_quantise_gives_what_an_8_bit_file_holds() -> None:
    values = torch.tensor([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.7])
    frames = values.view(1, 1, 1, 6).expand(1, 3, 2, 6)
    assert (quantise(frames)[0, 0, 0] * 255).tolist() == [0, 0, 0, 1, 255, 255]
    assert quantise(frames.half()).dtype == torch.float32


def test_ssim_refuses_frames_smaller_than_its_window() -> None:
    small = torch.zeros(1, 3, 10, 40)
    with pytest.raises(ValueError, match="at least 11 pixels a side; got 40x10"):
        ssim(small, small)


def window_result(frames: torch.Tensor, truth: torch.Tensor) -> WindowResult:
    """Frames of a window whose ends are the first and the last true frame."""
    pixels = (255.0 * torch.cat((truth[:1], truth, truth[-1:]))).round().byte().permute(0, 2, 3, 1)
    return WindowResult(EvaluationWindow(0, pixels.contiguous().numpy()), frames)


@pytest.mark.parametrize(("name", "best"), [("fsim", 1.0), ("vif", 1.0), ("gmsd", 0.0), ("ms-ssim", 1.0)])
def test_structural_metrics_order_damage(pair: tuple[torch.Tensor, torch.Tensor], name: str, best: float) -> None:
    truth = torch.nn.functional.interpolate(pair[1], scale_factor=2) if name == "ms-ssim" else pair[1]
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    metric = create_metric(name)
    same, mild, strong = (
        metric.measure(window_result(quantise(truth + s * noise), quantise(truth))).values for s in (0.0, 0.02, 0.1)
    )
    assert same == pytest.approx([best] * 4, abs=1e-4)
    for better, worse in zip(mild, strong, strict=True):
        assert abs(best - worse) > abs(best - better)


def test_perceptual_metrics_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from rdvfi.evaluation.metrics.structure import MSSSIM

    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"pip install 'rdvfi\[metrics\]'"):
        MSSSIM()


def test_psnr_falls_with_error() -> None:
    truth = torch.full((1, 3, 16, 16), 0.25)
    values = [psnr(truth + e, truth).item() for e in (0.01, 0.02, 0.04)]
    assert values == pytest.approx([-20 * math.log10(e) for e in (0.01, 0.02, 0.04)], abs=1e-3)
