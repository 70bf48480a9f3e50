"""One suite over every registered component: what `rdvfi.testing` checks, fresh and shaken.

Shaken means that all weights were moved by random numbers: laws must hold by construction, not
because a last layer starts at zero.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

import toy
from rdvfi import testing
from rdvfi.backbones.diffusion import VariancePreserving
from rdvfi.interfaces import (
    Basis,
    Condition,
    FlowEstimator,
    KeyframeGenerator,
    Keyframes,
    Motion,
    Reads,
    Renderer,
    Trajectory,
    TrajectoryModel,
)
from rdvfi.motion.trajectory.knots import Knots
from rdvfi.registry import (
    Registry,
    backbones,
    bases,
    create_from_spec,
    create_sample,
    flows,
    renderers,
    spec_of,
    trajectories,
)
from rdvfi.types import Image, Times, Video

INTERPOLATING = {"linear", "quadratic", "cubic"}
SMALL: dict[str, dict[str, Any]] = {
    "svd": {"size": "toy"},
    "wan": {"size": "toy"},
    "raft": {"size": "SMALL", "weights": None, "iterations": 2},
    "timm-pyramid": {"pretrained": False, "refine": 8},
}
"""Entries whose defaults are large or load weights from elsewhere, with values that are not."""


def _create_entry(registry: Registry[Any], name: str, **given: Any) -> Any:
    """An entry with defaults; its slots take what needs no training."""
    return create_sample(registry, name, **{**SMALL.get(name, {}), **given}).eval().requires_grad_(False)


def _perturb_parameters(module: nn.Module, *, amount: float = 0.02) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.add_(amount * torch.randn(parameter.shape, generator=generator))
    return module


both = pytest.mark.parametrize("shaken", [False, True], ids=["fresh", "shaken"])


@pytest.mark.parametrize("name", list(bases))
def test_bases(name: str) -> None:
    testing.check_basis(bases.create(name), interpolates=name in INTERPOLATING)


@both
@pytest.mark.parametrize("name", list(flows))
def test_flows(name: str, shaken: bool) -> None:
    flow = _create_entry(flows, name)
    testing.check_flow(_perturb_parameters(flow) if shaken else flow)  # pyright: ignore


@both
@pytest.mark.parametrize("name", list(backbones))
def test_backbones(name: str, shaken: bool) -> None:
    generator = _create_entry(backbones, name)
    testing.check_generator(_perturb_parameters(generator) if shaken else generator)  # pyright: ignore


@both
@pytest.mark.parametrize("reads", list(Reads))
@pytest.mark.parametrize("name", list(trajectories))
def test_trajectories(name: str, reads: Reads, shaken: bool) -> None:
    slots = {}
    if "flow" in trajectories.parameters(name):
        slots["flow"] = flows.create("dis" if reads is Reads.PIXELS else "local")
    elif reads is Reads.PIXELS:
        pytest.skip("it has no flow estimator")
    model = _create_entry(trajectories, name, **slots)
    if shaken:
        _perturb_parameters(model)
    for size, count in (((64, 48), 9), ((48, 64), 2)):
        images = model.reads is Reads.PIXELS
        keyframes = testing.some_keyframes(size, count=count, images=images)
        testing.check_trajectory_model(model, keyframes)


@pytest.mark.parametrize("basis", list(bases))
def test_trajectories_with_every_basis(basis: str) -> None:
    for name in trajectories:
        if "basis" in trajectories.parameters(name):
            model = _perturb_parameters(_create_entry(trajectories, name, basis=bases.create(basis)))
            testing.check_trajectory_model(model, testing.some_keyframes((48, 64), count=5))  # pyright: ignore


@pytest.mark.parametrize("knots", list(Knots))
def test_trajectories_with_every_kind_of_knots(knots: Knots) -> None:
    names = [name for name in trajectories if "knots" in trajectories.parameters(name)]
    assert {"iterative", "direct", "straight", "chained"} <= set(names)
    for name in names:
        slots = {"flow": flows.create("local")} if "flow" in trajectories.parameters(name) else {}
        model = _perturb_parameters(_create_entry(trajectories, name, knots=knots, **slots))
        keyframes = testing.some_keyframes((48, 64), count=5)
        testing.check_trajectory_model(model, keyframes)  # pyright: ignore


@both
@pytest.mark.parametrize("name", list(renderers))
def test_renderers(name: str, shaken: bool) -> None:
    renderer = _create_entry(renderers, name)
    testing.check_renderer(_perturb_parameters(renderer) if shaken else renderer)  # pyright: ignore


@pytest.mark.parametrize("registry", [backbones, bases, flows, renderers, trajectories])
def test_every_entry_is_documented_and_can_be_described(registry: Registry[Any]) -> None:
    for name in registry:
        assert registry[name].__doc__, f"{registry.group} {name!r} has no docstring"
        made = _create_entry(registry, name)
        again = create_from_spec(registry, spec_of(made))
        assert spec_of(again) == spec_of(made)
        assert again.state_dict().keys() == made.state_dict().keys()


def test_the_toy_components_keep_the_contracts() -> None:
    testing.check_basis(toy.ToyBasis())
    testing.check_generator(_perturb_parameters(toy.toy_backbone().requires_grad_(False)))  # pyright: ignore
    for reads in Reads:
        flow = toy.ToyFlow(reads, 5).requires_grad_(False)
        testing.check_flow(flow)
        model = toy.toy_trajectory(flow=flow, basis=toy.ToyBasis())
        keyframes = testing.some_keyframes((48, 64), images=reads is Reads.PIXELS)
        testing.check_trajectory_model(model, keyframes)
    testing.check_renderer(toy.ToyRenderer(0.5).requires_grad_(False))


# Each contract is broken in one way, and the check says which.


class UnnormalisedBasis(toy.ToyBasis):
    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Float[Tensor, "t k"]:
        return super().weights(knots, times) * 1.01


def test_a_basis_that_does_not_sum_to_one_is_found() -> None:
    with pytest.raises(AssertionError, match="rows must sum to one"):
        testing.check_basis(UnnormalisedBasis())


def test_a_basis_that_misses_its_knots_is_found() -> None:
    with pytest.raises(AssertionError, match="a knot's time must return its value"):
        testing.check_basis(bases.create("constant-velocity"), interpolates=True)


class RandomFlow(toy.ToyFlow):
    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        return super().forward(source, target) + torch.randn(())


class ArgumentChangingFlow(toy.ToyFlow):
    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        target.clamp_(0, 0.5)
        return super().forward(source, target)


class HalfPrecisionFlow(toy.ToyFlow):
    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        return super().forward(source, target).half()


@pytest.mark.parametrize(
    ("kind", "law"),
    [(RandomFlow, "repeat"), (ArgumentChangingFlow, "must not change its arguments"), (HalfPrecisionFlow, "float32")],
)
@torch.no_grad()
def test_a_broken_flow_estimator_is_found(kind: type[toy.ToyFlow], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        testing.check_flow(kind(Reads.LATENTS, 5))


class ChangedEndGenerator(toy.ToyGenerator):
    def condition(self, img0: Image, img1: Image, **known: Any) -> Condition:
        made = super().condition(img0, img1, **known)
        return replace(made, latent0=made.latent0 + 0.1)


class OwnNoiseGenerator(toy.ToyGenerator):
    def denoise(self, noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        return super().denoise(torch.randn_like(noisy), sigma, condition)


class AsymmetricGenerator(toy.ToyGenerator):
    def denoise(self, noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        latents = super().denoise(noisy, sigma, condition).clone()
        latents[:, 0] = condition.latent0
        return latents


class ArgumentChangingGenerator(toy.ToyGenerator):
    def denoise(self, noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        return super().denoise(noisy.mul_(0.5), sigma, condition)


class ReencodingGenerator(toy.ToyGenerator):
    """Encodes anew what is known already."""

    def condition(self, img0: Image, img1: Image, **known: Any) -> Condition:
        return super().condition(img0, img1)


class OneNoiseLevelGenerator(toy.ToyGenerator):
    """Uses the first sample's noise level for all."""

    def denoise(self, noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        return super().denoise(noisy * sigma[0], sigma, condition)


class DetachedGenerator(toy.ToyGenerator):
    """Its network is evaluated, and cannot learn."""

    def denoise(self, noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        return super().denoise(noisy, sigma, condition).detach()


class _NegatedVelocity(VariancePreserving):
    def clean_from_velocity(self, noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
        return super().clean_from_velocity(noisy, -velocity, sigma)


class WrongNoiseProcessGenerator(toy.ToyGenerator):
    noise_process = _NegatedVelocity()


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (ChangedEndGenerator, "an end must be the frame's own latent"),
        (OwnNoiseGenerator, "all noise must be the argument"),
        (AsymmetricGenerator, "must be time-symmetric"),
        (ArgumentChangingGenerator, "must not change its arguments"),
        (ReencodingGenerator, "a latent that is known must be used"),
        (OneNoiseLevelGenerator, "every sample has its own noise level"),
        (DetachedGenerator, "no gradient reaches the denoiser"),
        (WrongNoiseProcessGenerator, "noise process: the velocity must give the clean latents again"),
    ],
)
@torch.no_grad()
def test_a_broken_generator_is_found(kind: type[toy.ToyGenerator], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        testing.check_generator(kind(3, 4, toy.Pooling.MEAN, None))


def test_a_backbone_of_the_first_version_is_told_what_replaced_its_methods() -> None:
    with pytest.raises(TypeError, match=r"Old\.forward is of rdvfi 0\.1\.0; .* condition and denoise"):
        type("Old", (KeyframeGenerator,), {"forward": lambda self, img0, img1, noise: None})


class AsymmetricTrajectoryModel(toy.ToyTrajectoryModel):
    def forward(self, keyframes: Keyframes) -> Trajectory:
        made = super().forward(keyframes)
        assert isinstance(made, toy.ToyTrajectory)
        return toy.ToyTrajectory(2 * made.first_to_last, made.last_to_first, made.knots, made.basis, made.grid)


class NonzeroStartTrajectory(toy.ToyTrajectory):
    def at(self, times: Times) -> tuple[Tensor, Tensor]:
        first, last = super().at(times)
        return first + 0.01, last


def test_a_broken_trajectory_is_found() -> None:
    model = AsymmetricTrajectoryModel(toy.ToyFlow(Reads.LATENTS, 5), toy.ToyBasis(), toy.FlowGrid.TARGET)
    model.requires_grad_(False)
    with pytest.raises(AssertionError, match="flipped keyframes must give swapped"):
        testing.check_trajectory_model(model, testing.some_keyframes((48, 64)))
    field = torch.ones(1, 2, 16, 16)
    drifting = NonzeroStartTrajectory(field, -field, torch.linspace(0, 1, 9), toy.ToyBasis())
    with pytest.raises(AssertionError, match="flow to the first frame must be zero at time 0"):
        testing.check_trajectory(drifting)


class TintingRenderer(toy.ToyRenderer):
    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        return (super().forward(img0, img1, motion, timesteps) + 0.01).clamp(0, 1)


class DiscontinuousRenderer(toy.ToyRenderer):
    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        frames = super().forward(img0, img1, motion, timesteps)
        frames[:, (timesteps > 0) & (timesteps < 0.01)] = 0.0
        return frames


@pytest.mark.parametrize(
    ("kind", "law"),
    [(TintingRenderer, "time 0 must return the first frame"), (DiscontinuousRenderer, "next to an end must look like")],
)
def test_a_broken_renderer_is_found(kind: type[Renderer], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        testing.check_renderer(kind(0.0).requires_grad_(False))  # pyright: ignore


def test_close_means_close() -> None:
    one = torch.ones(3)
    testing.assert_close(one + 1e-6, one)
    testing.assert_close(one.half(), one + 1e-3)
    testing.assert_close(1000 * one, 1000 * one + 1e-3)  # relative to the largest value
    with pytest.raises(AssertionError, match=r"differ: off by 0\.0001"):
        testing.assert_close(one + 1e-4, one)
    with pytest.raises(AssertionError, match=r"\(3,\) != \(1, 3\)"):
        testing.assert_close(one, one[None])
    with pytest.raises(AssertionError, match="off by nan"):
        testing.assert_close(one * float("nan"), one)


@pytest.mark.parametrize("check", [testing.check_flow, testing.check_generator, testing.check_renderer])
def test_every_check_is_documented(check: Any) -> None:
    assert check.__doc__


def test_interfaces_are_what_the_registries_hold() -> None:
    held = {registry.interface for registry in (backbones, bases, flows, renderers, trajectories)}
    assert held == {KeyframeGenerator, Basis, FlowEstimator, Renderer, TrajectoryModel}
