"""Straight motion: before training, the whole pipeline equals coarse flow and warping."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import rdvfi
import toy
from rdvfi.backbones.compact.generator import CompactKeyframes
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Keyframes, Motion, MotionPrior
from rdvfi.ops import straight_flows
from rdvfi.testing import some_keyframes

TIMES = torch.tensor([0.0, 0.11, 0.5, 0.625, 0.93, 1.0])
KNOTS = torch.arange(1, 8) / 8


def _pair(h: int = 96, w: int = 128) -> tuple[Tensor, Tensor]:
    """A texture and the same moved by (6, -4) pixels."""
    texture = toy.textured(1, h + 8, w + 8, seed=5)
    return texture[..., 4 : h + 4, :w], texture[..., :h, 6 : w + 6]


@pytest.mark.parametrize("trajectory", ["iterative", "direct"])
@torch.no_grad()
def test_untrained_the_pipeline_is_coarse_flow_and_warp(trajectory: str) -> None:
    plain = rdvfi.build("rdvfi_s1", "trajectory=straight", "renderer=warp").eval()
    model = rdvfi.build("rdvfi_s1", f"trajectory={trajectory}").eval()
    model.generator.coarse = plain.generator.coarse  # whose matching starts with random weights
    frames, expected = (made(*_pair(), TIMES) for made in (model, plain))
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-5)
    assert (frames[:, 2] - _pair()[0]).abs().mean() > 0.01  # and that is not the first frame


@torch.no_grad()
def test_untrained_keyframes_are_the_starting_line_guess_whatever_the_noise() -> None:
    generator = rdvfi.build("rdvfi_s").eval().generator
    assert isinstance(generator, CompactKeyframes)
    condition = generator.condition(*_pair())
    guess = generator.keyframes(condition, generator.initial_guess(condition))
    for seed in (0, 1):
        noise = torch.randn(generator.noise_shape(1, 96, 128), generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(generator(*_pair(), noise).latents, guess.latents, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_shifted_picture_is_interpolated_on_the_way() -> None:
    frame = rdvfi.build("rdvfi_s").eval()(*_pair(), [0.5])[:, 0]
    texture = toy.textured(1, 104, 136, seed=5)
    truth = texture[..., 2:98, 3:131]
    inner = (..., slice(16, -16), slice(16, -16))
    assert (frame - truth)[inner].abs().mean() < 0.01


@torch.no_grad()
def test_the_straight_line_is_that_of_the_end_flows_at_every_knot() -> None:
    keyframes = some_keyframes((64, 96))
    assert keyframes.prior is not None
    resized = resize_flow(keyframes.prior.end_flows.flatten(0, 1), (32, 48)).unflatten(0, (2, 2))
    expected = straight_flows(resized[:, 0], resized[:, 1], keyframes.times)
    straight = rdvfi.trajectories.create("straight", basis=rdvfi.bases.create("cubic"))
    found = straight(keyframes).at(keyframes.times)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["iterative", "direct"])
@torch.no_grad()
def test_untrained_fusion_follows_what_the_generator_bent(name: str) -> None:
    """Where the generator departed from the straight line, the trajectory starts out there."""
    made = some_keyframes((64, 96))
    bends = torch.zeros(2, 9, 2, 2, 8, 12)
    bends[:, 1:-1] = torch.tensor([1.5, -0.5])[:, None, None]  # latent pixels
    slots = {"flow": rdvfi.flows.create("local")} if name == "iterative" else {}
    model = rdvfi.trajectories.create(name, basis=rdvfi.bases.create("cubic"), **slots)
    assert made.prior is not None
    priors = (MotionPrior(made.prior.end_flows, part) for part in (None, bends))
    plain, bent = (model(replace(made, prior=prior)).at(KNOTS) for prior in priors)
    # Fields have four times the latent grid's resolution here; detail of the straight line fades.
    expected = 4 * torch.tensor([1.5, -0.5])[:, None, None]
    for straight, flows in zip(plain, bent, strict=True):
        assert ((flows - straight).mean((0, 1, 3, 4)) - expected[:, 0, 0]).abs().max() < 0.5


def test_without_coarse_motion_only_fusion_can_find_a_line() -> None:
    made = some_keyframes((64, 96))
    bare = Keyframes(made.latents, made.times)
    for name in ("straight", "direct"):
        model = rdvfi.trajectories.create(name, basis=rdvfi.bases.create("cubic"))
        with pytest.raises(ValueError, match="carry no coarse motion"):
            model(bare)
    fusion = rdvfi.trajectories.create("iterative", flow=rdvfi.flows.create("local"), basis=rdvfi.bases.create("cubic"))
    with torch.no_grad():
        first, last = fusion(bare).at(TIMES)
    assert not first.any()  # an untrained phi_1 sees no motion
    assert not last.any()


@torch.no_grad()
def test_learned_parts_bend_the_line_but_never_at_the_ends() -> None:
    model = rdvfi.build("rdvfi_s").eval()
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    motion = model.estimate(*_pair())
    assert isinstance(motion, Motion)
    first, last = motion.trajectory.at(TIMES)
    assert not first[:, 0].any()
    assert not last[:, -1].any()
    frames = model.render(*_pair(), motion, TIMES)
    for frame, image in zip((frames[:, 0], frames[:, -1]), _pair(), strict=True):
        torch.testing.assert_close(frame, image, rtol=0, atol=1e-5)
