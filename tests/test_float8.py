"""Weights in eight bits: their error is that of the format, and moves and casts leave them alone."""

import pytest
import torch
from torch import nn

from rdvfi.backbones.float8 import Float8Linear, use_float8_weights
from rdvfi.backbones.wan.architecture import fresh_transformer


def test_no_weight_is_off_by_more_than_half_a_step() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 48)
    rounded = Float8Linear(layer).weight_as(torch.float32)
    largest = layer.weight.detach().abs().amax(1, keepdim=True)
    # Three bits of mantissa; below 2^-6 of the scaled range steps are even.
    bound = torch.maximum(layer.weight.detach().abs() / 16, largest / 448 * 2.0**-10)
    assert bool(((rounded - layer.weight.detach()).abs() <= bound * 1.001).all())
    torch.testing.assert_close(rounded.abs().amax(1), largest[:, 0], rtol=1e-6, atol=0)


@torch.no_grad()
def test_the_error_is_told_and_the_result_is_near() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 256)).eval()
    x = torch.randn(8, 256)
    exact = network(x)
    error = use_float8_weights(network)
    assert 0.015 < error < 0.035
    assert float((network(x) - exact).norm() / exact.norm()) < 0.06
    bits = network[0].bits.clone()
    assert torch.equal(network.half().float()[0].bits, bits)  # pyright: ignore


def test_a_network_without_large_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="has 65536 weights"):
        use_float8_weights(nn.Linear(4, 4))


@torch.no_grad()
def test_a_transformer_of_diffusers_runs_with_them() -> None:
    torch.manual_seed(0)
    network = fresh_transformer("toy").eval()
    head = 0.1 * torch.randn(network.proj_out.weight.shape)
    network.proj_out.weight.copy_(head)  # it starts at zero
    inputs = torch.randn(1, 36, 9, 4, 4), torch.full((1,), 1000.0), torch.zeros(1, 512, 16), torch.zeros(1, 257, 4)
    before = network(*inputs, return_dict=False)[0]
    error = use_float8_weights(network, least=256)
    after = network(*inputs, return_dict=False)[0]
    assert 0.0 < float((after - before).norm() / before.norm()) < 4 * error
