"""The compact backbone inside the whole model: half precision, its residual motion, its candidates."""

from dataclasses import replace

import pytest
import torch

import rdvfi
from rdvfi.backbones.compact.denoiser import Denoiser
from rdvfi.interfaces import Motion
from rdvfi.motion.trajectory.knots import MovedKnotTrajectory
from rdvfi.ops import similarity_path_flows
from rdvfi.testing import smooth_noise


def _shaken(*overrides: str) -> rdvfi.Interpolator:
    """RDVFI-S with its zero-initialised layers moved off zero, so that every path is alive."""
    torch.manual_seed(3)
    model = rdvfi.build("rdvfi_s", *overrides).eval().requires_grad_(False)
    for parameter in model.generator.denoiser.answer.parameters():
        parameter.normal_(0.0, 0.02)
    for parameter in model.renderer.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.01)
    return model


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    first = smooth_noise(1, 3, 64, 96, seed=5).sigmoid()
    return first, first.roll((2, 3), (2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_stages_run_in_half_precision_as_on_an_accelerator(dtype: torch.dtype) -> None:
    first, last = _pair()
    times = torch.tensor([0.25, 0.6])
    model = _shaken()
    noise = torch.randn(model.generator.noise_shape(1, 64, 96))

    def draw(kind: torch.dtype) -> torch.Tensor:
        # The interpolator keeps networks in float32 on the CPU; its stages themselves do not.
        for part in (model.generator, model.trajectory, model.renderer):
            part.to(kind)
        keyframes = model.generator(first.to(kind), last.to(kind), noise.to(kind))
        assert keyframes.prior is not None
        assert keyframes.prior.end_flows.dtype == torch.float32
        motion = Motion.of(keyframes, model.trajectory(keyframes))
        assert motion.trajectory.at(times)[0].dtype == torch.float32
        return model.renderer(first, last, motion, times)

    exact = draw(torch.float32)
    # Latents in bfloat16 hold eight bits, and matching turns their error into fractions of a pixel.
    assert (draw(dtype) - exact).abs().mean() < 5e-3


def test_residual_motion_survives_a_flow_estimator_that_reads_pixels() -> None:
    first, last = _pair()
    keyframes = _shaken("trajectory=iterative", "flow=dis").estimate(first, last).keyframes
    assert keyframes.images is not None
    assert keyframes.prior is not None
    assert keyframes.prior.residual_motion.abs().max() > 0.0


def test_without_lines_the_denoiser_does_not_see_the_coarse_flow() -> None:
    first, last = _pair()
    blind = _shaken("backbone.lines=false")
    keyframes = blind.estimate(first, last).keyframes
    blind.generator.coarse = rdvfi.flows.create("dis")
    same = blind.estimate(first, last).keyframes
    assert not torch.equal(keyframes.prior.end_flows, same.prior.end_flows)  # whoever reads them still has it
    torch.testing.assert_close(keyframes.latents, same.latents, rtol=0.0, atol=0.0)
    assert keyframes.prior.residual_motion is None
    assert _shaken().estimate(first, last).keyframes.prior.residual_motion is not None


def test_without_lines_and_before_training_keyframes_are_a_cross_fade() -> None:
    first, last = _pair()
    model = rdvfi.build("rdvfi_s", "backbone.lines=false").eval().requires_grad_(False)
    keyframes = model.estimate(first, last).keyframes
    ends, times = keyframes.latents[:, [0, -1]], keyframes.times[None, :, None, None, None]
    faded = torch.lerp(ends[:, :1], ends[:, 1:], times)
    torch.testing.assert_close(keyframes.latents, faded, rtol=0.0, atol=1e-5)


def test_turning_lines_are_bounded_and_have_finite_gradients() -> None:
    """Opposite turns side by side, between which the slope of the path vanishes."""
    torch.manual_seed(0)
    flow = (20.0 * torch.randn(2, 2, 12, 20)).requires_grad_()
    times = torch.tensor([0.2, 0.5, 0.9])
    found = similarity_path_flows(flow, -flow.flip(-1), times).flows
    assert found.isfinite().all()
    assert found.abs().max() <= 2 * (12 + 20)
    found.square().mean().backward()
    assert flow.grad is not None
    assert flow.grad.isfinite().all()


def test_moved_knots_refuse_a_basis_that_reaches_too_far() -> None:
    class Everywhere(rdvfi.Basis):
        def weights(self, knots: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            return torch.full((times.numel(), knots.numel()), 1.0 / knots.numel())

    fields = torch.zeros(1, 9, 2, 8, 8)
    with pytest.raises(ValueError, match=r"its reach is None.*use knots=SOURCE or knots=FIXED"):
        MovedKnotTrajectory(fields, fields, torch.linspace(0, 1, 9), Everywhere())
    assert MovedKnotTrajectory(fields[:, :3], fields[:, :3], torch.linspace(0, 1, 3), Everywhere())


def test_the_second_iteration_starts_from_the_motion_of_the_first() -> None:
    first, last = _pair()
    denoiser = _shaken().generator.denoiser
    generator = _shaken().generator
    condition = generator.condition(first, last)
    noise, pure = torch.randn(generator.noise_shape(1, 64, 96)), torch.ones(1)
    denoiser.iterations = 1
    once = denoiser(condition, noise, pure)
    again = denoiser(replace(condition, to_first=once.to_first, to_last=once.to_last), noise, pure)
    denoiser.iterations = 2
    twice = denoiser(condition, noise, pure)
    assert torch.equal(twice.latents, again.latents)
    assert torch.equal(twice.to_first, again.to_first)
    assert not torch.equal(twice.to_first, once.to_first)
    with pytest.raises(ValueError, match="at least one iteration; got 0"):
        Denoiser(16, 16, 0)


@pytest.mark.parametrize("number", [1, 3, 7])
def test_the_number_of_keyframes_is_a_choice_that_needs_no_other_weights(number: int) -> None:
    model = rdvfi.build("rdvfi_s", f"backbone.num_keyframes={number}", "motion_area=4096")
    model.load_state_dict(rdvfi.create_model("rdvfi-s").state_dict())
    img0, img1 = _pair()
    keyframes = model.estimate(img0, img1).keyframes
    torch.testing.assert_close(keyframes.times, torch.linspace(0, 1, number + 2))
    assert keyframes.latents.shape[1] == number + 2
    assert model.render(img0, img1, model.estimate(img0, img1), [0.3, 0.5]).isfinite().all()
