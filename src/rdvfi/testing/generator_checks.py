"""The contract of a keyframe generator: `check_generator`, and the laws that it puts together."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.interfaces import Condition, KeyframeGenerator, Keyframes, MotionPrior, NoiseProcess
from rdvfi.testing.assertions import BATCH_TOLERANCE, Account, assert_close, check_field, unchanged
from rdvfi.testing.known_motion import check_prior
from rdvfi.testing.sample_inputs import smooth_noise


def check_generator(generator: KeyframeGenerator) -> None:
    """Keyframes hold both ends as they are, noise has the promised shape, and results repeat.

    Of a generator that diffuses, the parts that training uses are checked too: its noise process,
    and that it denoises any level, sample by sample, with gradients.
    """
    unit = math.lcm(generator.size_multiple, generator.stride)
    sides = [max(1, -(-least // unit)) * unit for least in (64, 48)]
    for h, w in ((sides[1], sides[0]), (sides[0], sides[1])):
        img0, img1 = (smooth_noise(2, 3, h, w, seed=seed).sigmoid() for seed in (0, 1))
        noise = noise_for(generator, 2, h, w)
        before = torch.random.get_rng_state()
        keyframes = unchanged(generator, img0, img1, noise)
        assert torch.equal(before, torch.random.get_rng_state()), "all noise must be the argument"
        check_keyframes(generator, keyframes, img0, img1)
        again = generator(img0, img1, noise)
        assert torch.equal(keyframes.latents, again.latents), "keyframes must repeat bit for bit"
        alone = generator(img0[1:], img1[1:], noise[1:])
        assert_close(alone.latents, keyframes.latents[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")
        if generator.time_symmetric:
            flipped = generator(img1, img0, noise.flip(1)).flipped()
            assert_close(flipped.latents, keyframes.latents, tolerance=1e-4, law="must be time-symmetric")
        check_decoder(generator, keyframes.latents, h, w)
    check_known_latents(generator, img0, img1)
    said = Account("check_generator", generator)
    said.holds("keyframes: shapes, times, both ends the frames' own latents")
    said.holds("all noise is the argument", "arguments stay", "repeats", "a batch does not matter")
    said.holds("known latents and priors are used")
    if generator.time_symmetric:
        said.holds("time-symmetric")
    if generator.gives_prior:
        check_prior(generator)
        said.holds("end_flows: shape, float32, direction where any is found")
    if generator.noise_process is not None:
        check_noise_process(generator.noise_process, generator.target_latents(keyframes.latents))
        check_denoising(generator, img0, img1, noise)
        said.holds("noise process: clean, noise and velocity determine each other; level 1 is pure noise")
        said.holds("denoise: every sample at its own level, forward is condition, sample, keyframes; it can learn")
    else:
        said.skips("denoising", "it has no noise_process")
    said.tell()


def check_keyframes(generator: KeyframeGenerator, keyframes: Keyframes, img0: Tensor, img1: Tensor) -> None:
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
        own = generator.encode(image)
        assert_close(latent, own, tolerance=1e-4, law="an end must be the frame's own latent")
    assert generator.gives_prior is (keyframes.prior is not None), (
        "gives_prior must say whether keyframes.prior is there"
    )
    assert generator.target_latents(latents).shape == noise_for(generator, b, h, w).shape, (
        "target_latents must have the shape of the noise"
    )
    if keyframes.prior is not None:
        _check_prior(keyframes.prior, (b, len(times)), grid)


def _check_prior(prior: MotionPrior, count: tuple[int, int], grid: tuple[int, int]) -> None:
    """Coarse motion both ways, and departures from it that are zero at both ends."""
    b, k = count
    assert prior.end_flows.shape[:3] == (b, 2, 2), "end_flows must be (b, 2, 2, hm, wm)"
    check_field(prior.end_flows, "end_flows")
    if prior.residual_motion is not None:
        expected = (b, k, 2, 2, *grid)
        got = tuple(prior.residual_motion.shape)
        assert got == expected, f"residual_motion must be {expected}, got {got}"
        assert torch.isfinite(prior.residual_motion).all(), "residual_motion must be finite"
        assert not prior.residual_motion[:, [0, -1]].any(), "residual_motion must be zero at both ends"


def check_known_latents(generator: KeyframeGenerator, img0: Tensor, img1: Tensor) -> None:
    """In a stream of frames the latents of the first are known, and used as they are."""
    condition = generator.condition(img0, img1)
    known = 2.0 * condition.latent0
    made = generator.condition(img0, img1, latent0=known)
    assert torch.equal(made.latent0, known), "a latent that is known must be used"
    assert_close(made.latent1, condition.latent1, tolerance=1e-4, law="the other end's latent must stay")
    if condition.prior is not None:
        known_prior = condition.prior.flipped()
        given = generator.condition(img0, img1, prior=known_prior).prior
        assert given is not None, "a prior that is known must be used"
        assert torch.equal(given.end_flows, known_prior.end_flows), "a prior that is known must be used"


def check_noise_process(process: NoiseProcess, clean: Tensor) -> None:
    """Clean latents, noise and velocity determine each other."""
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


def check_denoising(generator: KeyframeGenerator, img0: Tensor, img1: Tensor, noise: Tensor) -> None:
    """Any noise level is denoised, each sample at its own; `forward` is the composition of the parts."""
    condition = generator.condition(img0, img1)
    sigma = torch.tensor([0.9, 0.3])
    made = generator.predict(noise, sigma, condition).latents
    predicted = unchanged(lambda noisy, level: generator.denoise(noisy, level, condition), noise, sigma)
    assert predicted.shape == noise.shape, "denoise must keep the shape of the noisy latents"
    assert torch.isfinite(predicted).all(), "clean latents must be finite"
    assert torch.equal(made, predicted), "predict must give the latents that denoise gives"
    alone = generator.denoise(noise[1:], sigma[1:], generator.condition(img0[1:], img1[1:]))
    assert_close(alone, predicted[1:], tolerance=BATCH_TOLERANCE, law="every sample has its own noise level")
    composed = generator.keyframes(condition, generator.sample(condition, noise))
    whole = generator(img0, img1, noise)
    assert torch.equal(composed.latents, whole.latents), "forward must be condition, sample and keyframes"
    _check_gradient(generator, condition, noise, sigma)


def _check_gradient(generator: KeyframeGenerator, condition: Condition, noise: Tensor, sigma: Tensor) -> None:
    """The network that ``denoise`` evaluates can learn, where the generator has one."""
    parameters = [*getattr(generator, "denoiser", nn.Module()).parameters()]
    flags = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            loss = generator.denoise(noise, sigma, condition).square().mean()
            linked = loss.requires_grad
            found = torch.autograd.grad(loss, parameters, allow_unused=True) if parameters and linked else ()
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
    reached = [gradient for gradient in found if gradient is not None and bool(gradient.any())]
    assert reached or not parameters, "no gradient reaches the denoiser, so it cannot be trained"
    assert all(torch.isfinite(gradient).all() for gradient in reached), "gradients must be finite"


def check_decoder(generator: KeyframeGenerator, latents: Float[Tensor, "b k c hz wz"], h: int, w: int) -> None:
    if type(generator).decode is KeyframeGenerator.decode:
        return  # it has none, and the interface's own says so
    b, k = latents.shape[:2]
    decoded = [generator.decode(latents[:, 0])[:, None]]
    if k > 2:
        decoded.append(generator.decode_between(latents))
    for images, count in zip(decoded, (1, k - 2), strict=False):
        expected = (b, count, 3, h, w)
        assert images.shape == expected, f"images must be {expected}, got {tuple(images.shape)}"
        assert images.min() >= 0, "decoded images must be in [0, 1]"
        assert images.max() <= 1, "decoded images must be in [0, 1]"


def noise_for(generator: KeyframeGenerator, b: int, h: int, w: int) -> Tensor:
    shape = generator.noise_shape(b, h, w)
    assert len(shape) == 5, "noise_shape must be (b, n, c, hz, wz)"
    assert shape[0] == b, "noise_shape must start with the batch"
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))
