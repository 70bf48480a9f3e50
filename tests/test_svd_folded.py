"""What `optimize` computes beforehand is exact, serves inference only, and is never stale."""

import pytest
import torch
from torch import Tensor

import rdvfi
from rdvfi.backbones.svd.folded import FixedUNet
from rdvfi.backbones.svd.generator import SVDKeyframes
from rdvfi.testing import assert_close, smooth_noise


@pytest.fixture
def generator() -> SVDKeyframes:
    made = rdvfi.backbones.create("svd", size="toy").eval().requires_grad_(False)
    assert isinstance(made, SVDKeyframes)
    for parameter in made.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def _arguments(made: SVDKeyframes, b: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    first, last = (smooth_noise(b, 3, 32, 48, seed=seed).sigmoid() for seed in (0, 1))
    return first, last, torch.randn(made.noise_shape(b, 32, 48))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fixed_network_is_the_network(generator: SVDKeyframes, dtype: torch.dtype) -> None:
    generator.to(dtype)
    arguments = [argument.to(dtype) for argument in _arguments(generator)]
    expected = generator(*arguments).latents
    generator.optimize()
    # Sines of the timestep are float32 in diffusers, on both sides.
    tolerance = 1e-5 if dtype is torch.float32 else 1e-9
    assert_close(generator(*arguments).latents, expected, tolerance=tolerance)


@torch.no_grad()
def test_a_given_image_embedding_is_folded_too(generator: SVDKeyframes) -> None:
    arguments = _arguments(generator)
    plain = generator(*arguments).latents
    generator.set_image_embedding(torch.randn(1, 1, 8))
    expected = generator(*arguments).latents
    assert (expected - plain).abs().max() > 1e-3
    assert_close(generator.optimize()(*arguments).latents, expected)


@torch.no_grad()
def test_it_is_the_fixed_network_that_runs(generator: SVDKeyframes) -> None:
    arguments = _arguments(generator)
    generator.optimize()
    before = generator(*arguments).latents
    # The fold has replaced the queries of every cross-attention: changing them changes nothing.
    for name, parameter in generator.unet.named_parameters():
        if "attn2.to_q" in name or "attn2.to_k" in name or "time_emb_proj" in name:
            parameter.mul_(3.0)
    assert torch.equal(generator(*arguments).latents, before)


def test_its_weights_are_the_same_tensors_and_are_not_saved_twice(generator: SVDKeyframes) -> None:
    names = list(generator.state_dict())
    generator.optimize()
    assert list(generator.state_dict()) == names
    fixed = generator._fixed[0]
    own = {id(p) for p in generator.parameters()}
    added = [p for p in fixed.parameters() if id(p) not in own]
    biases = sum(p.numel() for name, p in fixed.named_parameters() if name.endswith("conv1.bias"))
    assert sum(p.numel() for p in added) == biases


@torch.no_grad()
@pytest.mark.parametrize("change", ["move", "load", "embed"])
def test_it_is_made_anew_when_weights_change(generator: SVDKeyframes, change: str) -> None:
    arguments = _arguments(generator)
    stale = generator.optimize()._fixed[0]
    if change == "move":
        generator.double().float()
    elif change == "load":
        generator.load_state_dict({k: 1.1 * v for k, v in generator.state_dict().items()})
    else:
        generator.set_image_embedding(torch.ones(1, 1, 8))
    assert generator._fixed[0] is not stale
    now = generator(*arguments).latents
    generator._fixed.clear()
    assert_close(now, generator(*arguments).latents)


def test_training_drops_it_and_refuses_it(generator: SVDKeyframes) -> None:
    generator.optimize().train()
    assert generator._fixed == []
    with pytest.raises(RuntimeError, match=r"optimize\(\) is for inference"):
        generator.optimize()
    generator.eval().requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"optimize\(\) is for inference"):
        generator.optimize()


def test_gradients_go_through_the_network_itself(generator: SVDKeyframes) -> None:
    generator.optimize()
    generator.unet.requires_grad_(True)
    generator(*_arguments(generator, 1)).latents.square().mean().backward()
    missing = [name for name, p in generator.unet.named_parameters() if p.grad is None]
    assert missing == []


def test_several_steps_have_nothing_fixed() -> None:
    made = rdvfi.backbones.create("svd", size="toy", num_inference_steps=2)
    assert isinstance(made, SVDKeyframes)
    assert made.eval().requires_grad_(False).optimize()._fixed == []


def test_it_costs_fewer_operations(generator: SVDKeyframes) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    arguments, counted = _arguments(generator, 1), []
    for _ in range(2):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            generator(*arguments)
        counted.append(counter.get_total_flops())
        generator.optimize()
    assert counted[1] < counted[0]
    assert isinstance(generator._fixed[0], FixedUNet)
