"""The contract of a keyframe generator."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.interfaces import Condition, KeyframeGenerator, Keyframes, MotionPrior, NoiseProcess
from rdvfi.testing.assertions import BATCH_TOLERANCE, CheckReport, assert_close, call_unchanged, check_field
from rdvfi.testing.known_motion import check_prior
from rdvfi.testing.sample_inputs import smooth_noise


def check_generator(generator: KeyframeGenerator) -> None:
    """Check a keyframe generator: its keyframes contain both ends unchanged, noise has the declared shape, it repeats.

    If the generator is a diffusion model, the parts that training uses are checked too: its noise process,
    and that it denoises any level, sample by sample, with gradients.
    """
    unit = math.lcm(generator.size_multiple, generator.stride)
    sides = [max(1, -(-least // unit)) * unit for least in (64, 48)]
    for h, w in ((sides[1], sides[0]), (sides[0], sides[1])):
        img0, img1 = (smooth_noise(2, 3, h, w, seed=seed).sigmoid() for seed in (0, 1))
        noise = _sample_noise(generator, 2, h, w)
        rng_state = torch.random.get_rng_state()
        keyframes = call_unchanged(generator, img0, img1, noise)
        assert torch.equal(rng_state, torch.random.get_rng_state()), "all noise must be the argument"
        _check_keyframes(generator, keyframes, img0, img1)
        again = generator(img0, img1, noise)
        assert torch.equal(keyframes.latents, again.latents), "keyframes must repeat bit for bit"
        alone = generator(img0[1:], img1[1:], noise[1:])
        assert_close(alone.latents, keyframes.latents[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")
        if generator.time_symmetric:
            flipped = generator(img1, img0, noise.flip(1)).flipped()
            assert_close(flipped.latents, keyframes.latents, tolerance=1e-4, law="must be time-symmetric")
        _check_decoder(generator, keyframes.latents, h, w)
    _check_known_latents(generator, img0, img1)
    report = CheckReport("check_generator", generator)
    report.passed("keyframes: shapes, times, both ends the frames' own latents")
    report.passed("all noise is the argument", "arguments stay", "repeats", "a batch does not matter")
    report.passed("known latents and priors are used")
    if generator.time_symmetric:
        report.passed("time-symmetric")
    if generator.gives_prior:
        check_prior(generator)
        report.passed("end_flows: shape, float32, direction of the motion")
    if generator.noise_process is not None:
        _check_noise_process(generator.noise_process, generator.target_latents(keyframes.latents))
        _check_denoising(generator, img0, img1, noise)
        report.passed("noise process: clean, noise and velocity determine each other; level 1 is pure noise")
        report.passed("denoise: every sample at its own level, forward is condition, sample, keyframes; it can learn")
    else:
        report.skipped("denoising", "it has no noise_process")
    report.print()


def _check_keyframes(generator: KeyframeGenerator, keyframes: Keyframes, img0: Tensor, img1: Tensor) -> None:
    b, _, h, w = img0.shape
    times, latents = keyframes.times, keyframes.latents
    grid = (h // generator.stride, w // generator.stride)
    expected = (b, len(times), generator.latent_channels, *grid)
    assert latents.shape == expected, f"latents must be {expected}, got {tuple(latents.shape)}"
    assert torch.isfinite(latents).all(), "latents must be finite"
    assert generator.keyframe_count in (None, len(times)), "keyframe_count must be that of times"
    assert times.dtype == torch.float32, "times must be float32"
    assert times[0] == 0, "the first knot must be time 0"
    assert times[-1] == 1, "the last knot must be time 1"
    assert (times.diff() > 0).all(), "times must increase"
    for latent, image in ((latents[:, 0], img0), (latents[:, -1], img1)):
        encoded = generator.encode(image)
        assert_close(latent, encoded, tolerance=1e-4, law="an end must be the frame's own latent")
    assert generator.gives_prior is (keyframes.prior is not None), (
        "gives_prior must say whether keyframes.prior is there"
    )
    assert generator.target_latents(latents).shape == _sample_noise(generator, b, h, w).shape, (
        "target_latents must have the shape of the noise"
    )
    if keyframes.prior is not None:
        _check_prior(keyframes.prior, (b, len(times)), grid)


def _check_prior(prior: MotionPrior, count: tuple[int, int], grid: tuple[int, int]) -> None:
    b, k = count
    assert prior.end_flows.shape[:3] == (b, 2, 2), "end_flows must be (b, 2, 2, hm, wm)"
    check_field(prior.end_flows, "end_flows")
    if prior.residual_motion is not None:
        expected = (b, k, 2, 2, *grid)
        got = tuple(prior.residual_motion.shape)
        assert got == expected, f"residual_motion must be {expected}, got {got}"
        assert torch.isfinite(prior.residual_motion).all(), "residual_motion must be finite"
        assert not prior.residual_motion[:, [0, -1]].any(), "residual_motion must be zero at both ends"


def _check_known_latents(generator: KeyframeGenerator, img0: Tensor, img1: Tensor) -> None:
    """Assert that given latents of the first frame, as in a stream, and a given prior are used."""
    condition = generator.condition(img0, img1)
    known = 2.0 * condition.latent0
    given = generator.condition(img0, img1, latent0=known)
    assert torch.equal(given.latent0, known), "a latent that is known must be used"
    assert_close(given.latent1, condition.latent1, tolerance=1e-4, law="the other end's latent must stay")
    if condition.prior is not None:
        known_prior = condition.prior.flipped()
        prior = generator.condition(img0, img1, prior=known_prior).prior
        assert prior is not None, "a prior that is known must be used"
        assert torch.equal(prior.end_flows, known_prior.end_flows), "a prior that is known must be used"


def _check_noise_process(process: NoiseProcess, clean: Tensor) -> None:
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(7)).to(clean)
    for level in (0.2, 0.7, 1.0):
        sigma = torch.full((len(clean),), level)
        noisy, velocity = process.add_noise(clean, noise, sigma), process.velocity(clean, noise, sigma)
        back = process.clean_from_velocity(noisy, velocity, sigma)
        law = "noise process: the velocity must give the clean latents again"
        assert_close(back, clean, tolerance=1e-4, law=law)
        law = "noise process: noisy and clean latents must determine the velocity"
        assert_close(process.velocity_from_clean(noisy, clean, sigma), velocity, tolerance=1e-4, law=law)
    # The range of a process may end before 1, as that of EDM, at 0.999.
    assert_close(noisy, noise, tolerance=0.01, law="noise process: level 1 must be pure noise")


def _check_denoising(generator: KeyframeGenerator, img0: Tensor, img1: Tensor, noise: Tensor) -> None:
    """Assert that each sample is denoised at its own noise level, and that `forward` is composed of the parts."""
    condition = generator.condition(img0, img1)
    sigma = torch.tensor([0.9, 0.3])
    predicted = generator.predict(noise, sigma, condition).latents
    clean = call_unchanged(lambda noisy, level: generator.denoise(noisy, level, condition), noise, sigma)
    assert clean.shape == noise.shape, "denoise must keep the shape of the noisy latents"
    assert torch.isfinite(clean).all(), "clean latents must be finite"
    assert torch.equal(predicted, clean), "predict must give the latents that denoise gives"
    alone = generator.denoise(noise[1:], sigma[1:], generator.condition(img0[1:], img1[1:]))
    assert_close(alone, clean[1:], tolerance=BATCH_TOLERANCE, law="every sample has its own noise level")
    composed = generator.keyframes(condition, generator.sample(condition, noise))
    whole = generator(img0, img1, noise)
    assert torch.equal(composed.latents, whole.latents), "forward must be condition, sample and keyframes"
    _check_gradient(generator, condition, noise, sigma)


def _check_gradient(generator: KeyframeGenerator, condition: Condition, noise: Tensor, sigma: Tensor) -> None:
    """Assert that gradients reach the network that ``denoise`` evaluates, if the generator has one."""
    parameters = [*getattr(generator, "denoiser", nn.Module()).parameters()]
    flags = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            loss = generator.denoise(noise, sigma, condition).square().mean()
            has_graph = bool(parameters) and loss.requires_grad
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True) if has_graph else ()
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
    nonzero = [gradient for gradient in gradients if gradient is not None and bool(gradient.any())]
    assert nonzero or not parameters, "no gradient reaches the denoiser, so it cannot be trained"
    assert all(torch.isfinite(gradient).all() for gradient in nonzero), "gradients must be finite"


def _check_decoder(generator: KeyframeGenerator, latents: Float[Tensor, "b k c hz wz"], h: int, w: int) -> None:
    if type(generator).decode is KeyframeGenerator.decode:
        return
    b, k = latents.shape[:2]
    decoded = [generator.decode(latents[:, 0])[:, None]]
    if k > 2:
        decoded.append(generator.decode_between(latents))
    for images, count in zip(decoded, (1, k - 2), strict=False):
        expected = (b, count, 3, h, w)
        assert images.shape == expected, f"images must be {expected}, got {tuple(images.shape)}"
        assert images.min() >= 0, "decoded images must be in [0, 1]"
        assert images.max() <= 1, "decoded images must be in [0, 1]"


def _sample_noise(generator: KeyframeGenerator, b: int, h: int, w: int) -> Tensor:
    shape = generator.noise_shape(b, h, w)
    assert len(shape) == 5, "noise_shape must be (b, n, c, hz, wz)"
    assert shape[0] == b, "noise_shape must start with the batch"
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))
