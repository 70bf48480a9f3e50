"""Diffusion processes: the identities of their algebra, and other implementations of them."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdvfi.backbones.diffusion import EDM, FlowMatching, LinearProcess, Sampler, VariancePreserving
from rdvfi.interfaces import Denoised

few = settings(max_examples=25, deadline=None, derandomize=True)
levels = st.floats(0.01, 1.0)
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-5}  # coefficients are float32

every_process = pytest.mark.parametrize(
    "process",
    [VariancePreserving(), FlowMatching(), FlowMatching(Sampler.UNIPC, 3.0), EDM()],
    ids=["vp", "flow-euler", "flow-unipc", "edm"],
)

# numpy asks diffusers' schedulers to ask torch for arrays in another way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _draw() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 7, 4, 5, 6, generator=generator, dtype=torch.float64)
    return clean, noise


@every_process
@few
@given(levels)
def test_data_noise_and_velocity_determine_each_other(process: LinearProcess, level: float) -> None:
    clean, noise = _draw()
    sigma = torch.full((3,), level)
    noisy, v = process.add_noise(clean, noise, sigma), process.velocity(clean, noise, sigma)
    (a, s), (c, d) = process.mixing(sigma), process.velocity_mixing(sigma)
    torch.testing.assert_close(a * c + s * d, torch.ones(3))
    torch.testing.assert_close(process.clean_from_velocity(noisy, v, sigma), clean, **CLOSE)
    torch.testing.assert_close(float(d[0]) * noisy + float(a[0]) * v, noise, **CLOSE)
    loose = {"rtol": 0.0, "atol": 1e-5 / level}
    torch.testing.assert_close(process.velocity_from_clean(noisy, clean, sigma), v, **loose)
    torch.testing.assert_close(process.noise_from_clean(noisy, clean, sigma), noise, **loose)


@every_process
def test_level_0_is_clean_and_level_1_is_noise(process: LinearProcess) -> None:
    clean, noise = _draw()
    known = {"rtol": 0.0, "atol": 0.01 if isinstance(process, EDM) else 1e-6}  # its range is 0.002 to 700
    torch.testing.assert_close(process.add_noise(clean, noise, torch.zeros(3)), clean, **known)
    torch.testing.assert_close(process.add_noise(clean, noise, torch.ones(3)), noise, **known)


def test_one_step_from_pure_noise_is_minus_the_velocity() -> None:
    clean, noise = _draw()
    process, pure = VariancePreserving(), torch.ones(3)
    v = process.velocity(clean, noise, pure)
    torch.testing.assert_close(v, -clean, rtol=0, atol=1e-6)
    torch.testing.assert_close(process.clean_from_velocity(noise, v, pure), -v, rtol=0, atol=1e-6)


def test_every_sample_has_its_own_level() -> None:
    clean, noise = _draw()
    process, sigma = VariancePreserving(), torch.tensor([0.2, 0.5, 1.0])
    together = process.add_noise(clean, noise, sigma)
    alone = [process.add_noise(clean[i : i + 1], noise[i : i + 1], sigma[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.filterwarnings("ignore")  # whatever the other library warns about
def test_cosine_mixing_is_the_v_prediction_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    process = VariancePreserving()
    clean, noise = (value[:1].float() for value in _draw())
    for step in (100, 500, 999):
        share = scheduler.alphas_cumprod[step]
        sigma = torch.acos(share.sqrt()).view(1) * 2 / torch.pi
        at = torch.tensor([step])
        noisy, v = process.add_noise(clean, noise, sigma), process.velocity(clean, noise, sigma)
        torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, at), **CLOSE)
        torch.testing.assert_close(v, scheduler.get_velocity(clean, noise, at), **CLOSE)
        scheduler.set_timesteps(1000)
        theirs = scheduler.step(v, step, noisy).pred_original_sample
        torch.testing.assert_close(process.clean_from_velocity(noisy, v, sigma), theirs, **CLOSE)


# Sampling.


@every_process
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_perfect_prediction_is_sampled_in_any_number_of_steps(process: LinearProcess, steps: int) -> None:
    clean, noise = (value.float() for value in _draw())
    asked: list[tuple[float, int]] = []

    def predict(noisy: Tensor, sigma: Tensor, step: int) -> Denoised:
        assert noisy.shape == clean.shape
        assert sigma.shape == (len(clean),)
        expected = process.add_noise(clean, noise, sigma)
        if step == 0:
            torch.testing.assert_close(noisy, noise)
        elif not isinstance(process, EDM) and getattr(process, "sampler", None) is not Sampler.UNIPC:
            torch.testing.assert_close(noisy, expected, rtol=0, atol=1e-4)  # on the way from this noise
        asked.append((float(sigma[0]), step))
        return Denoised(clean)

    found = process.sample(predict, noise, steps)
    # diffusers' UniPC rounds the times that it tells a network to thousandths.
    rounded = getattr(process, "sampler", None) is Sampler.UNIPC and steps > 1
    torch.testing.assert_close(found.latents, clean, rtol=0, atol=5e-3 if rounded else 1e-4)
    assert [step for _, step in asked] == list(range(steps))
    assert asked == sorted(asked, reverse=True, key=lambda row: row[0])
    assert asked[0][0] > 0.999


@every_process
def test_sampling_needs_a_step(process: LinearProcess) -> None:
    with pytest.raises(ValueError, match="num_inference_steps must be at least 1; got 0"):
        process.sample(lambda noisy, sigma, step: Denoised(noisy), _draw()[1], 0)


@pytest.mark.parametrize("sampler", list(Sampler))
@pytest.mark.parametrize("steps", [1, 5])
def test_flow_matching_takes_the_steps_of_diffusers_schedulers(sampler: Sampler, steps: int) -> None:
    """For a network whose velocity bends, so that the scheduler's own rule matters."""
    clean, noise = (value.float() for value in _draw())
    process = FlowMatching(sampler, shift=3.0)
    times: list[float] = []

    def velocity(x: Tensor, time: float) -> Tensor:
        return x * (time / 1000.0) - clean

    def predict(noisy: Tensor, sigma: Tensor, step: int) -> Denoised:
        times.append(1000.0 * float(sigma[0]))
        return Denoised(process.clean_from_velocity(noisy, velocity(noisy, times[-1]), sigma))

    ours = process.sample(predict, noise, steps).latents
    scheduler, x = process.scheduler(steps), noise
    assert times == pytest.approx([float(time) for time in scheduler.timesteps], abs=1.0)
    for time in scheduler.timesteps:
        x = scheduler.step(velocity(x, float(time)), time, x, return_dict=False)[0]
    rounded = sampler is Sampler.UNIPC and steps == 1  # it tells a network the time 999, not 1000
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-2 if rounded else 1e-4)


def test_edm_takes_the_steps_of_diffusers_euler_scheduler() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700,
    )
    scheduler.set_timesteps(6)
    clean, noise = (value.float() for value in _draw())
    process = EDM()

    def answer(entered: Tensor, told: float) -> Tensor:
        return entered * math.tanh(told) - clean

    def predict(noisy: Tensor, sigma: Tensor, step: int) -> Denoised:
        told = float(process.added_noise(sigma)[0].log() / 4)
        assert told == pytest.approx(float(scheduler.timesteps[step]), abs=1e-4)
        return Denoised(process.clean_from_velocity(noisy, answer(noisy, told), sigma))

    ours = process.sample(predict, noise, 6).latents
    state = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        entered = scheduler.scale_model_input(state, time)
        state = scheduler.step(answer(entered, float(time)), time, state, return_dict=False)[0]
    torch.testing.assert_close(ours, state, rtol=0, atol=2e-3)


def test_levels_of_edm_are_those_of_karras_et_al() -> None:
    strengths = [math.tan(level * math.pi / 2) for level in EDM().levels(4)]
    low, high = 0.002 ** (1 / 7), 700.0 ** (1 / 7)
    expected = [(high + i / 3 * (low - high)) ** 7 for i in range(4)]
    assert strengths == pytest.approx(expected, rel=1e-6)
    assert all(a > b for a, b in itertools.pairwise(strengths))
