"""Layers in a row by few operators, as kernels run them, against the same layers one by one."""

from itertools import product

import pytest
import torch
from torch import nn

from rdvfi import layers
from rdvfi.layers import Chain, ResidualBlock, conv

KINDS = (
    lambda: ResidualBlock(4),
    nn.SiLU,
    lambda: conv(4, 4, stride=2),
    lambda: nn.Conv2d(4, 4, 1),
    lambda: nn.AvgPool2d(2),
)


@pytest.mark.parametrize("with_added", [False, True])
def test_chains_are_their_layers_one_by_one(monkeypatch: pytest.MonkeyPatch, with_added: bool) -> None:
    torch.manual_seed(0)
    x, added = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16) if with_added else None
    for kinds in product(KINDS, repeat=3):
        chain = Chain(*(kind() for kind in kinds)).requires_grad_(False)
        expected = chain(x, added)
        with monkeypatch.context() as patch:
            patch.setattr(layers, "uses_fused_operators", lambda _: True)
            torch.testing.assert_close(chain(x, added), expected)


def test_blocks_in_a_row_start_one_operator_between_two_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = layers.activate
    monkeypatch.setattr(layers, "uses_fused_operators", lambda _: True)
    monkeypatch.setattr(layers, "activate", lambda *given: (calls.append(given[-1]), real(*given))[1])
    chain = Chain(conv(4, 4), nn.SiLU(), conv(4, 4), ResidualBlock(4), ResidualBlock(4), nn.SiLU(), nn.Conv2d(4, 4, 1))
    chain.requires_grad_(False)(torch.randn(1, 4, 8, 8))
    assert calls == [1, 1, 1, 1, 1, 0]  # borders
