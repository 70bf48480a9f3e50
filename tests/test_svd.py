"""RDVFI-U's backbone on diffusers' real classes at toy size, against diffusers' own sampling."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

import rdvfi
from rdvfi import testing
from rdvfi.backbones.diffusion import EDM
from rdvfi.backbones.pretrained_parts import prepare_diffusers
from rdvfi.backbones.svd.generator import FRAMES, SVDKeyframes, noise_condition
from rdvfi.backbones.svd.networks import UNETS, new_autoencoder, new_unet, widen_unet
from rdvfi.testing import assert_close, smooth_noise

prepare_diffusers()
diffusers = pytest.importorskip("diffusers")

# numpy asks diffusers' scheduler to ask torch for arrays in another way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROCESS = EDM()

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""The published scheduler: EulerDiscreteScheduler of diffusers."""

TOLD = torch.tensor([[6.0, 127.0, 0.02]])


@pytest.fixture(scope="module")
def generator() -> SVDKeyframes:
    """Shaken, so that the second frame's channels are alive."""
    torch.manual_seed(0)
    made = rdvfi.backbones.create("svd", size="toy").eval().requires_grad_(False)
    assert isinstance(made, SVDKeyframes)
    return _shake(made)


def _shake(made: SVDKeyframes) -> SVDKeyframes:
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def _pair(b: int = 1, h: int = 32, w: int = 48) -> tuple[Tensor, Tensor]:
    first, last = (smooth_noise(b, 3, h, w, seed=seed).sigmoid() for seed in (0, 1))
    return first, last


def _noise(made: SVDKeyframes, images: Tensor) -> Tensor:
    b, _, h, w = images.shape
    return torch.randn(made.noise_shape(b, h, w), generator=torch.Generator().manual_seed(2))


def _stock(unet, sample: Tensor, timestep: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The U-Net, called as the published pipeline does, with both frames instead of one."""
    b, frames = sample.shape[:2]
    ends = torch.cat((first, last), dim=1)[:, None].repeat(1, frames, 1, 1, 1) / 0.18215
    context = torch.zeros(b, 1, UNETS["toy"]["cross_attention_dim"])
    both = torch.cat((sample, ends), dim=2)
    return unet(both, timestep, context, added_time_ids=TOLD.repeat(b, 1)).sample


def test_it_keeps_the_contract_of_a_generator(generator: SVDKeyframes) -> None:
    testing.check_generator(generator)
    fresh = rdvfi.backbones.create("svd", size="toy").eval().requires_grad_(False)
    testing.check_generator(fresh)


# The second frame.


def test_a_widened_network_is_the_original_whatever_the_second_frame() -> None:
    original = new_unet("toy", inputs=8).eval()
    sample, told = torch.randn(2, FRAMES, 12, 4, 6), torch.tensor([1.6, 0.3])
    context, ids = torch.randn(2, 1, 8), TOLD.repeat(2, 1)
    with torch.no_grad():
        expected = original(sample[:, :, :8], told, context, ids).sample
        got = widen_unet(original)(sample, told, context, ids).sample
    assert original.config.in_channels == 12
    assert_close(got, expected)
    assert widen_unet(original) is original


def test_the_second_frame_learns_from_the_first_step() -> None:
    unet = new_unet("toy")
    unet(torch.randn(1, 9, 12, 4, 4), 1.6, torch.zeros(1, 1, 8), TOLD).sample.square().mean().backward()
    assert unet.conv_in.weight.grad[:, 8:].abs().max() > 0


def test_networks_of_other_inputs_are_refused() -> None:
    other = new_unet("toy", inputs=8)
    with pytest.raises(ValueError, match="must read 12 channels; got 8: pass it through"):
        SVDKeyframes(other, new_autoencoder("toy"))
    other.conv_in = torch.nn.Conv2d(9, 32, 3)
    with pytest.raises(ValueError, match=r"reads 9 channels; expected 8 .* or 12"):
        widen_unet(other)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="size must be one of full, toy; got 'big'"):
        rdvfi.backbones.create("svd", size="big")
    with pytest.raises(ValueError, match="revision 'main' without a source"):
        rdvfi.backbones.create("svd", size="toy", revision="main")
    with pytest.raises(ValueError, match="num_inference_steps must be at least 1; got 0"):
        rdvfi.backbones.create("svd", size="toy", num_inference_steps=0)


def test_an_image_embedding_comes_from_a_file(tmp_path: Path) -> None:
    row = torch.randn(1, 8)
    save_file({"embeds": row}, tmp_path / "row.safetensors")
    save_file({"embeds": torch.randn(2, 8)}, tmp_path / "rows.safetensors")
    made = rdvfi.backbones.create("svd", size="toy", image_embeds=str(tmp_path / "row.safetensors"))
    assert torch.equal(made.state_dict()["image_embedding"], row[None])
    with pytest.raises(ValueError, match=r"must be \(1, 1, 8\); got \(1, 2, 8\)"):
        rdvfi.backbones.create("svd", size="toy", image_embeds=str(tmp_path / "rows.safetensors"))


# The algebra of the step.


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.floats(0.002, 700.0))
def test_its_preconditioning_is_the_v_prediction_of_the_paper(strength: float) -> None:
    clean, noise, answer = torch.randn(3, 1, 9, 4, 2, 3, dtype=torch.float64).unbind()
    sigma = torch.tensor([math.atan(strength) * 2 / math.pi], dtype=torch.float64)
    assert float(PROCESS.added_noise(sigma)) == pytest.approx(strength, rel=1e-5)
    assert float(noise_condition(PROCESS, sigma)) == pytest.approx(math.log(strength) / 4, abs=1e-5)
    # Karras et al., table 1 with sigma_data = 1.
    c_in = 1 / math.sqrt(strength**2 + 1)
    c_skip, c_out = c_in**2, -strength * c_in
    x = clean + strength * noise
    close = {"rtol": 0.0, "atol": 1e-5}
    torch.testing.assert_close(PROCESS.add_noise(clean, noise, sigma), c_in * x, **close)
    torch.testing.assert_close(
        PROCESS.clean_from_velocity(c_in * x, answer, sigma), c_skip * x + c_out * answer, **close
    )
    target = (clean - c_skip * x) / c_out  # what makes the denoised sample the clean one
    torch.testing.assert_close(PROCESS.velocity(clean, noise, sigma), target, rtol=1e-4, atol=1e-5)


def test_a_velocity_makes_the_sample_that_diffusers_makes_of_it() -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    scheduler.set_timesteps(5)
    noise, answer = torch.randn(2, 1, 9, 4, 4, 6).unbind()
    for timestep, strength in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        state = noise * (strength**2 + 1).sqrt()  # for any state
        entered = scheduler.scale_model_input(state, timestep)
        theirs = scheduler.step(answer, timestep, state).pred_original_sample
        sigma = torch.atan(strength).view(1) * 2 / math.pi
        assert_close(PROCESS.clean_from_velocity(entered, answer, sigma), theirs, tolerance=1e-5)
        assert float(noise_condition(PROCESS, sigma)) == pytest.approx(float(timestep), abs=1e-4)


def test_pure_noise_is_the_strongest_that_diffusers_starts_from() -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    scheduler.set_timesteps(1)
    assert scheduler.sigmas.tolist() == [PROCESS.strongest, 0.0]
    noise = torch.randn(1, 9, 4, 4, 6)
    start = noise * scheduler.init_noise_sigma
    assert_close(scheduler.scale_model_input(start, scheduler.timesteps[0]), noise)
    assert float(PROCESS.added_noise(torch.tensor(PROCESS.levels(1)))) == pytest.approx(700.0, rel=1e-4)
    assert float(PROCESS.added_noise(torch.ones(1))) == PROCESS.strongest


@torch.no_grad()
def test_one_step_is_the_one_step_of_diffusers(generator: SVDKeyframes) -> None:
    img0, img1 = _pair(2)
    noise = _noise(generator, img0)
    first, last = generator.encode(img0), generator.encode(img1)
    scheduler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    scheduler.set_timesteps(1)
    timestep = scheduler.timesteps[0]
    state = noise * scheduler.init_noise_sigma
    entered = scheduler.scale_model_input(state, timestep)
    answer = _stock(generator.unet, entered, timestep, first, last)
    theirs = scheduler.step(answer, timestep, state)
    keyframes = generator(img0, img1, noise)
    assert_close(keyframes.latents[:, 1:-1], theirs.pred_original_sample[:, 1:-1])
    # Their step subtracts numbers of size 700 in float32.
    assert_close(keyframes.latents[:, 1:-1], theirs.prev_sample[:, 1:-1], tolerance=1e-3)
    assert torch.equal(keyframes.latents[:, [0, -1]], torch.stack((first, last), dim=1))
    assert keyframes.times.tolist() == [i / 8 for i in range(9)]


@torch.no_grad()
def test_several_steps_follow_the_published_ode(generator: SVDKeyframes) -> None:
    """Euler's method on dx/dS = (x - D) / S over the noise levels of Karras et al., by hand."""
    steps = 4
    made = rdvfi.backbones.create("svd", size="toy", num_inference_steps=steps).eval()
    made.load_state_dict(generator.state_dict())
    img0, img1 = _pair()
    first, last, noise = made.encode(img0), made.encode(img1), _noise(generator, img0)
    ramp = torch.linspace(1, 0, steps, dtype=torch.float64)
    levels = (0.002 ** (1 / 7) + ramp * (700.0 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
    strengths = [*levels.tolist(), 0.0]
    x = noise.double() * math.sqrt(700.0**2 + 1)
    for here, there in itertools.pairwise(strengths):
        c_in = 1 / math.sqrt(here**2 + 1)
        told = torch.tensor([math.log(here) / 4])
        answer = _stock(made.unet, (c_in * x).float(), told, first, last)  # pyright: ignore
        denoised = c_in**2 * x - here * c_in * answer
        x = x + (there - here) * (x - denoised) / here
    assert_close(made(img0, img1, noise).latents[:, 1:-1], x[:, 1:-1].float(), tolerance=1e-4)


@torch.no_grad()
def test_both_frames_and_the_noise_are_used(generator: SVDKeyframes) -> None:
    img0, img1 = _pair()
    noise = _noise(generator, img0)
    middle = generator(img0, img1, noise).latents[:, 4]
    others = (img1, img1, noise), (img0, img0, noise), (img0, img1, noise.flip(1))
    for other in others:
        assert (generator(*other).latents[:, 4] - middle).abs().max() > 1e-3


# Frames and latents.


@torch.no_grad()
def test_the_encoder_is_two_dimensional_and_draws_nothing(generator: SVDKeyframes) -> None:
    encoder = generator.autoencoder.vae.encoder
    assert not any(isinstance(layer, torch.nn.Conv3d) for layer in encoder.modules())
    image, _ = _pair(2)
    posterior = generator.autoencoder.vae.encode(2 * image - 1).latent_dist
    assert torch.equal(generator.encode(image), 0.18215 * posterior.mean)


@torch.no_grad()
def test_a_frame_shared_by_two_pairs_is_encoded_once(generator: SVDKeyframes) -> None:
    frames = [*_pair(), _pair()[0].flip(-1)]
    noise = _noise(generator, frames[0])
    known = generator.encode(frames[0])
    for img0, img1 in itertools.pairwise(frames):
        keyframes = generator(img0, img1, noise, latent0=known)
        assert_close(keyframes.latents, generator(img0, img1, noise).latents)
        known = keyframes.latents[:, -1]


@torch.no_grad()
def test_the_decoder_looks_along_time(generator: SVDKeyframes) -> None:
    latents = torch.randn(2, 5, 4, 4, 6)
    between = generator.decode_between(latents)
    assert between.shape == (2, 3, 3, 32, 48)
    raw = latents.flatten(0, 1) / 0.18215
    theirs = generator.autoencoder.vae.decode(raw, num_frames=5).sample.unflatten(0, (2, 5))
    assert_close(between, (theirs[:, 1:-1] / 2 + 0.5).clamp(0, 1))
    alone = generator.decode(latents[:, 1])
    one = generator.autoencoder.vae.decode(latents[:, 1] / 0.18215, num_frames=1).sample
    assert_close(alone, (one / 2 + 0.5).clamp(0, 1))
    assert (alone - between[:, 0]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_runs_in_half_precision_but_its_autoencoder_not_in_float16(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    made = rdvfi.backbones.create("svd", size="toy").eval().requires_grad_(False)
    img0, img1 = _pair()
    noise = _noise(made, img0)  # pyright: ignore
    exact = made(img0, img1, noise).latents
    weights = made.autoencoder.vae.encoder.conv_in.weight.clone()  # pyright: ignore
    made.to(dtype).optimize()  # pyright: ignore
    kept = made.autoencoder.vae.encoder.conv_in.weight  # pyright: ignore
    assert made.unet.conv_in.weight.dtype == dtype  # pyright: ignore
    assert kept.dtype == (torch.float32 if dtype is torch.float16 else dtype)
    assert torch.equal(kept, weights) or dtype is torch.bfloat16
    half = made(img0.to(dtype), img1.to(dtype), noise.to(dtype)).latents
    assert half.dtype == dtype
    assert_close(half.float(), exact, tolerance=0.05)
