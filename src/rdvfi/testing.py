"""Checks of the contracts: what every registered component promises, as plain functions.

A plug-in is tested by one line in its own repository::

    def test_my_flow():
        rdvfi.testing.check_flow(rdvfi.flows.create("mine"))

Each check raises `AssertionError` with the law that was broken. They hold for any weights, so run
them on fresh and on trained components alike; inputs are small and a check takes well under a
second for a small network.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi._samples import SmoothTrajectory as SmoothTrajectory
from rdvfi._samples import smooth_noise as smooth_noise
from rdvfi._samples import some_keyframes as some_keyframes
from rdvfi._samples import some_motion as some_motion
from rdvfi.interfaces import (
    Basis,
    Condition,
    FlowEstimator,
    KeyframeGenerator,
    Keyframes,
    Motion,
    MotionPrior,
    NoiseProcess,
    Reads,
    Renderer,
    Trajectory,
    TrajectoryModel,
)

TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1e-2,
}
"""Largest difference, absolute or relative to the largest value, that counts as equal."""

BATCH_TOLERANCE = 1e-4
"""For one sample alone against the same in a batch: kernels add up in another order."""


def assert_close(got: Tensor, expected: Tensor, *, tolerance: float | None = None, law: str = "values differ") -> None:
    """The tensors have one shape and agree within the tolerance of the coarser of their types."""
    assert got.shape == expected.shape, f"{law}: {tuple(got.shape)} != {tuple(expected.shape)}"
    if tolerance is None:
        tolerance = max(TOLERANCE[got.dtype], TOLERANCE[expected.dtype])
    if got.numel() == 0:
        return
    difference = float((got.double() - expected.double()).abs().max())
    allowed = tolerance * max(1.0, float(expected.double().abs().max()))
    assert difference <= allowed, f"{law}: off by {difference:.3g}, allowed is {allowed:.3g}"


def check_basis(basis: Basis, *, interpolates: bool = True) -> None:
    """Rows of the weight matrix sum to one; interpolating bases return the knots' own values.

    Args:
        basis: What is checked.
        interpolates: Whether it passes through every knot; if not, through both ends at least.
    """
    times = torch.linspace(0, 1, 23, dtype=torch.float64)
    uneven = torch.tensor([0.0, 0.1, 0.35, 0.5, 0.6, 0.9, 1.0], dtype=torch.float64)
    for knots in (torch.linspace(0, 1, 9, dtype=torch.float64), uneven, uneven[[0, -1]]):
        count = len(knots)
        weights = basis.weights(knots, times)
        assert weights.shape == (len(times), count), "weights must have shape (T, K)"
        assert_close(weights.sum(1), torch.ones_like(times), law="rows must sum to one")
        unused = sorted(set(range(count)) - set(basis.used(count)))
        assert not weights[:, unused].any(), "knots outside `used` must have no weight"
        _check_reach(basis, weights, knots, times)
        kept = torch.arange(count) if interpolates else torch.tensor([0, count - 1])
        at_knots = basis.weights(knots, knots[kept])
        identity = torch.eye(count, dtype=knots.dtype)[kept]
        assert_close(at_knots, identity, law="a knot's time must return its value")
        # Played backwards; at generic times, since at a tie either neighbour may be taken.
        generic = torch.tensor([0.013, 0.21, 0.47, 0.66, 0.98], dtype=torch.float64)
        mirrored = basis.weights(1 - knots.flip(0), 1 - generic).flip(1)
        assert_close(mirrored, basis.weights(knots, generic), law="must be time-symmetric")


def _check_reach(basis: Basis, weights: Tensor, knots: Tensor, times: Tensor) -> None:
    """Among the knots that it uses, those further away than `reach` have no weight."""
    if basis.reach is None:
        return
    used = basis.used(len(knots))
    ahead = (knots[used] > times[:, None]).cumsum(1)
    behind = (knots[used] <= times[:, None]).flip(1).cumsum(1).flip(1)
    far = (ahead > basis.reach) | (behind > basis.reach)
    assert not (weights[:, used] * far).any(), f"knots beyond `reach` ({basis.reach}) have weight"


def check_flow(flow: FlowEstimator, *, channels: int | None = None) -> None:
    """Flow comes in float32 on the source's grid, repeats, and is zero between equal images.

    Args:
        flow: What is checked.
        channels: Channels of what it reads; by default 3 for pixels, and for latents those that it
            declares, or 16.
    """
    if channels is None:
        channels = 3 if flow.reads is Reads.PIXELS else flow.latent_channels or 16
    for h, w in ((48, 64), (40, 24)):
        source, target = (smooth_noise(2, channels, h, w, seed=seed) for seed in (0, 1))
        if flow.reads is Reads.PIXELS:
            source, target = source.sigmoid(), target.sigmoid()
        found = _unchanged(flow, source, target)
        assert found.shape == (2, 2, h, w), f"flow must be (n, 2, h, w), got {tuple(found.shape)}"
        _check_field(found, "flow")
        assert torch.equal(found, flow(source, target)), "flow must repeat bit for bit"
        alone = flow(source[1:], target[1:])
        assert_close(alone, found[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")


def check_generator(generator: KeyframeGenerator) -> None:
    """Keyframes hold both ends as they are, noise has the promised shape, and results repeat.

    Of a generator that diffuses, the parts that training uses are checked too: its noise process,
    and that it denoises any level, sample by sample, with gradients.
    """
    unit = math.lcm(generator.size_multiple, generator.stride)
    sides = [max(1, -(-least // unit)) * unit for least in (64, 48)]
    for h, w in ((sides[1], sides[0]), (sides[0], sides[1])):
        img0, img1 = (smooth_noise(2, 3, h, w, seed=seed).sigmoid() for seed in (0, 1))
        noise = _noise_for(generator, 2, h, w)
        before = torch.random.get_rng_state()
        keyframes = _unchanged(generator, img0, img1, noise)
        assert torch.equal(before, torch.random.get_rng_state()), "all noise must be the argument"
        _check_keyframes(generator, keyframes, img0, img1)
        again = generator(img0, img1, noise)
        assert torch.equal(keyframes.latents, again.latents), "keyframes must repeat bit for bit"
        alone = generator(img0[1:], img1[1:], noise[1:])
        assert_close(
            alone.latents,
            keyframes.latents[1:],
            tolerance=BATCH_TOLERANCE,
            law="a batch must not matter",
        )
        if generator.time_symmetric:
            flipped = generator(img1, img0, noise.flip(1)).flipped()
            assert_close(flipped.latents, keyframes.latents, tolerance=1e-4, law="must be time-symmetric")
        _check_decoder(generator, keyframes.latents, h, w)
    _check_known_latents(generator, img0, img1)
    if generator.noise_process is not None:
        _check_noise_process(generator.noise_process, generator.target_latents(keyframes.latents))
        _check_denoising(generator, img0, img1, noise)


def check_trajectory(trajectory: Trajectory) -> None:
    """Flows are float32, zero at their own end, continuous, and one instant needs no other."""
    times = torch.tensor([0.0, 0.123, 0.5, 0.77, 1.0])
    first, last = trajectory.at(times)
    assert first.shape == last.shape, "both flows must have one shape"
    assert first.shape[1:3] == (5, 2), f"flows must be (b, t, 2, h, w), got {tuple(first.shape)}"
    _check_field(first, "flow to the first frame")
    _check_field(last, "flow to the last frame")
    zero = torch.zeros_like(first[:, 0])
    assert_close(first[:, 0], zero, law="flow to the first frame must be zero at time 0")
    assert_close(last[:, -1], zero, law="flow to the last frame must be zero at time 1")
    one = trajectory.at(times[1:2])
    assert_close(one[0], first[:, 1:2], law="an instant must not depend on the others")
    assert_close(one[1], last[:, 1:2], law="an instant must not depend on the others")
    _check_continuity(trajectory)
    confidence = trajectory.confidence(times)
    assert confidence.shape == (*first.shape[:3], *first.shape[3:]), "confidence: (b, t, 2, h, w)"
    assert ((confidence >= 0) & (confidence <= 1)).all(), "confidence must be in [0, 1]"
    velocity = trajectory.velocity(times)
    assert velocity.shape == first.shape, "velocity must have the shape of a flow"
    assert torch.isfinite(velocity).all(), "velocity must be finite"


def check_trajectory_model(model: TrajectoryModel, keyframes: Keyframes) -> None:
    """Keyframes played backwards give the same flows, swapped and mirrored; results repeat.

    Args:
        model: What is checked.
        keyframes: Of the kind that it reads; see `some_keyframes`.
    """
    trajectory = model(keyframes)
    assert isinstance(trajectory, Trajectory), "a trajectory model must return a Trajectory"
    assert trajectory.grid is model.grid, "a model must declare the grid of its trajectories"
    check_trajectory(trajectory)
    times = torch.tensor([0.0, 0.1, 0.43, 0.5, 0.81, 1.0])
    first, last = trajectory.at(times)
    again = model(keyframes).at(times)
    assert torch.equal(first, again[0]), "a trajectory must repeat bit for bit"
    assert torch.equal(last, again[1]), "a trajectory must repeat bit for bit"
    flipped_first, flipped_last = model(keyframes.flipped()).at(1 - times.flip(0))
    law = "flipped keyframes must give swapped, mirrored flows"
    assert_close(flipped_last.flip(1), first, law=law)
    assert_close(flipped_first.flip(1), last, law=law)


def check_renderer(renderer: Renderer, *, latent_channels: int | None = None, stride: int = 8) -> None:
    """Times 0 and 1 return the inputs, times next to them are next to them, sizes are kept.

    Args:
        renderer: What is checked.
        latent_channels: Channels of the keyframes' latents; by default those that it declares.
        stride: Motion-size pixels per latent pixel.
    """
    channels = latent_channels or renderer.latent_channels or 16
    for motion_size, size in (((48, 64), (48, 64)), ((64, 48), (131, 97)), ((32, 32), (33, 63))):
        img0, img1 = (smooth_noise(2, 3, *size, seed=seed).sigmoid() for seed in (2, 3))
        for flow_size in (motion_size, tuple(side // stride for side in motion_size)):
            motion = some_motion(motion_size, flow_size=flow_size, channels=channels, stride=stride)
            _check_frames(renderer, img0, img1, motion)


def _check_frames(renderer: Renderer, img0: Tensor, img1: Tensor, motion: Motion) -> None:
    times = torch.tensor([0.0, 0.001, 0.31, 0.5, 0.999, 1.0])
    frames = renderer(img0, img1, motion, times)
    expected = (img0.shape[0], len(times), *img0.shape[1:])
    assert frames.shape == expected, f"frames must be {expected}, got {tuple(frames.shape)}"
    assert frames.dtype == img0.dtype, "frames must have the type of the images"
    assert torch.isfinite(frames).all(), "frames must be finite"
    assert_close(frames[:, 0], img0, law="time 0 must return the first frame")
    assert_close(frames[:, -1], img1, law="time 1 must return the last frame")
    for near, image in ((frames[:, 1], img0), (frames[:, -2], img1)):
        distance = float((near - image).abs().max())
        assert distance < 0.05, f"times next to an end must look like it: off by {distance:.3g}"
    assert torch.equal(frames, renderer(img0, img1, motion, times)), "frames must repeat"
    alone = renderer(img0, img1, motion, times[2:3])
    assert_close(alone, frames[:, 2:3], tolerance=BATCH_TOLERANCE, law="a frame must not depend on others")


def _check_field(field: Tensor, name: str) -> None:
    assert field.dtype == torch.float32, f"{name} must be float32, got {field.dtype}"
    assert torch.isfinite(field).all(), f"{name} must be finite"


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
        own = generator.encode(image)
        assert_close(latent, own, tolerance=1e-4, law="an end must be the frame's own latent")
    assert generator.gives_prior is (keyframes.prior is not None), (
        "gives_prior must say whether keyframes.prior is there"
    )
    if keyframes.prior is not None:
        _check_prior(keyframes.prior, (b, len(times)), grid)


def _check_prior(prior: MotionPrior, count: tuple[int, int], grid: tuple[int, int]) -> None:
    """Coarse motion both ways, and departures from it that are zero at both ends."""
    b, k = count
    assert prior.end_flows.shape[:3] == (b, 2, 2), "end_flows must be (b, 2, 2, hm, wm)"
    _check_field(prior.end_flows, "end_flows")
    if prior.residual_motion is not None:
        expected = (b, k, 2, 2, *grid)
        got = tuple(prior.residual_motion.shape)
        assert got == expected, f"residual_motion must be {expected}, got {got}"
        assert torch.isfinite(prior.residual_motion).all(), "residual_motion must be finite"
        assert not prior.residual_motion[:, [0, -1]].any(), "residual_motion must be zero at both ends"


def _check_known_latents(generator: KeyframeGenerator, img0: Tensor, img1: Tensor) -> None:
    """In a stream of frames the latents of the first are known, and used as they are."""
    condition = generator.condition(img0, img1)
    known = 2.0 * condition.latent0
    made = generator.condition(img0, img1, latent0=known)
    assert torch.equal(made.latent0, known), "a latent that is known must be used"
    assert_close(made.latent1, condition.latent1, tolerance=1e-4, law="the other end's latent must stay")


def _check_noise_process(process: NoiseProcess, clean: Tensor) -> None:
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


def _check_denoising(generator: KeyframeGenerator, img0: Tensor, img1: Tensor, noise: Tensor) -> None:
    """Any noise level is denoised, each sample at its own; `forward` is the composition of the parts."""
    condition = generator.condition(img0, img1)
    sigma = torch.tensor([0.9, 0.3])
    predicted = _unchanged(lambda noisy, level: generator.denoise(noisy, level, condition), noise, sigma)
    assert predicted.shape == noise.shape, "denoise must keep the shape of the noisy latents"
    assert torch.isfinite(predicted).all(), "clean latents must be finite"
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


def _check_decoder(generator: KeyframeGenerator, latents: Float[Tensor, "b k c hz wz"], h: int, w: int) -> None:
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


def _check_continuity(trajectory: Trajectory) -> None:
    """A thousandth of the time moves nothing further than a hundredth of the whole way."""
    times = torch.tensor([0.1249, 0.1251, 0.4999, 0.5001, 0.3, 0.3002])
    first, last = trajectory.at(times)
    whole = max(1.0, float(first.abs().max()), float(last.abs().max()))
    for flow in (first, last):
        jump = float((flow[:, 1::2] - flow[:, ::2]).abs().max())
        assert jump <= 0.05 * whole, f"flows must be continuous in time: a jump of {jump:.3g} px"


def _noise_for(generator: KeyframeGenerator, b: int, h: int, w: int) -> Tensor:
    shape = generator.noise_shape(b, h, w)
    assert len(shape) == 5, "noise_shape must be (b, n, c, hz, wz)"
    assert shape[0] == b, "noise_shape must start with the batch"
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))


def _unchanged(module: Callable[..., Any], *inputs: Tensor) -> Any:
    """Call a module and see that it left its arguments as they were."""
    copies = [argument.clone() for argument in inputs]
    result = module(*inputs)
    same = all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
    name = type(module).__name__ if isinstance(module, nn.Module) else "denoise"
    assert same, f"{name} must not change its arguments"
    return result
