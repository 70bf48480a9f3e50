"""One-step diffusion: identities of the v-parametrisation, and another implementation of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdvfi.backbones.diffusion import (
    add_noise,
    clean_from_velocity,
    coefficients,
    velocity,
    velocity_from_clean,
)

few = settings(max_examples=25, deadline=None, derandomize=True)
levels = st.floats(0.01, 1.0)


def _draw() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 7, 4, 5, 6, generator=generator, dtype=torch.float64)
    return clean, noise


@few
@given(levels)
def test_data_noise_and_velocity_determine_each_other(level: float) -> None:
    clean, noise = _draw()
    sigma = torch.full((3,), level)
    noisy, v = add_noise(clean, noise, sigma), velocity(clean, noise, sigma)
    a, s = coefficients(sigma)
    assert float((a**2 + s**2 - 1).abs().max()) < 1e-6
    close = {"rtol": 0.0, "atol": 1e-5}  # coefficients are float32
    torch.testing.assert_close(clean_from_velocity(noisy, v, sigma), clean, **close)
    torch.testing.assert_close(float(s[0]) * noisy + float(a[0]) * v, noise, **close)
    torch.testing.assert_close(velocity_from_clean(noisy, clean, sigma), v, rtol=0.0, atol=1e-5 / level)


def test_one_step_from_pure_noise_is_minus_the_velocity() -> None:
    clean, noise = _draw()
    pure = torch.ones(3)
    torch.testing.assert_close(add_noise(clean, noise, pure), noise, rtol=0, atol=1e-6)
    v = velocity(clean, noise, pure)
    torch.testing.assert_close(v, -clean, rtol=0, atol=1e-6)
    torch.testing.assert_close(clean_from_velocity(noise, v, pure), -v, rtol=0, atol=1e-6)


def test_without_noise_nothing_changes() -> None:
    clean, noise = _draw()
    torch.testing.assert_close(add_noise(clean, noise, torch.zeros(3)), clean, rtol=0, atol=0)


def test_every_sample_has_its_own_level() -> None:
    clean, noise = _draw()
    sigma = torch.tensor([0.2, 0.5, 1.0])
    together = add_noise(clean, noise, sigma)
    alone = [add_noise(clean[i : i + 1], noise[i : i + 1], sigma[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.filterwarnings("ignore")  # whatever the other library warns about
def test_it_is_the_v_prediction_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    clean, noise = (value[:1].float() for value in _draw())
    for step in (100, 500, 999):
        share = scheduler.alphas_cumprod[step]
        sigma = torch.acos(share.sqrt()).view(1) * 2 / torch.pi
        at = torch.tensor([step])
        noisy, v = add_noise(clean, noise, sigma), velocity(clean, noise, sigma)
        close = {"rtol": 0.0, "atol": 1e-5}
        torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, at), **close)
        torch.testing.assert_close(v, scheduler.get_velocity(clean, noise, at), **close)
        scheduler.set_timesteps(1000)
        theirs = scheduler.step(v, step, noisy).pred_original_sample
        torch.testing.assert_close(clean_from_velocity(noisy, v, sigma), theirs, **close)
