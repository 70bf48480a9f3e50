"""Kernels beside products and convolutions of networks, against their definitions in float64."""

from typing import Any

import pytest
import torch

import kernels
from rdvfi.motion.trajectory import iterative
from rdvfi.ops import transformer


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(kernels.DEVICE)


def _exact(arguments: Any) -> list[Any]:
    return [x.cpu().double() if isinstance(x, torch.Tensor) else x for x in arguments]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_norms(dtype: torch.dtype) -> None:
    x, added, constant = (4 * _random(1, 3, 24, seed=1).to(dtype), _random(1, 3, 24).to(dtype), _random(24).to(dtype))
    gate, scale, shift = (_random(1, 1, 24, seed=seed) for seed in (2, 3, 4))
    for more in ((None, None, None), (added, gate, constant)):
        arguments = (x, *more, scale, shift, 1e-6)
        got = kernels.load("transformer").gated_norm(*arguments)
        for mine, expected in zip(got, transformer.gated_norm.reference(*_exact(arguments)), strict=True):  # pyright: ignore
            kernels.assert_close(mine, expected, tolerance=3 * kernels.ROUNDING[dtype])


@pytest.mark.parametrize("joined", [False, True])
def test_turned_heads(joined: bool) -> None:
    whole = _random(2, 3, 72) - 0.5
    q, k = whole.chunk(3, dim=-1)[:2] if joined else (whole[..., :24].contiguous(), whole[..., 24:48].contiguous())
    angle = _random(3, 4, seed=1).repeat_interleave(2, dim=1)
    arguments = (q, k, _random(24, seed=2), _random(24, seed=3), angle.cos(), angle.sin(), 1e-6)
    got = kernels.load("transformer").rotary_heads(*arguments)
    for mine, expected in zip(got, transformer.rotary_heads.reference(*_exact(arguments)), strict=True):  # pyright: ignore
        kernels.assert_close(mine, expected, tolerance=1e-5)


@pytest.mark.parametrize("silu", [False, True])
def test_norms_over_channels(silu: bool) -> None:
    arguments = (_random(2, 6, 3, 5) - 0.5, _random(6, seed=1), silu)
    got = kernels.load("transformer").rms_silu(*arguments)
    kernels.assert_close(got, transformer.rms_silu.reference(*_exact(arguments)), tolerance=1e-5)  # pyright: ignore


def test_gated_units() -> None:
    x = 4.0 * _random(2, 3, 14) - 2.0
    got = kernels.load("transformer").gated_unit(x)
    kernels.assert_close(got, transformer.gated_unit.reference(x.cpu().double()), tolerance=1e-5)  # pyright: ignore


def test_a_step_of_phi_2() -> None:
    module, size = kernels.load("iterative"), (6, 9)
    step, before, now = (4 * _random(3, 3, 2, *size, seed=seed)[:, 1] - 2 for seed in range(3))
    residual, (here, end) = _random(3, 2, *size, seed=3) - 0.5, (_random(3, 4, *size, seed=s) for s in (4, 5))
    flows = module.carried_flows(step, before, now, residual)
    exact = _exact((step, before, now, residual))
    kernels.assert_close(flows, iterative.carried_flows.reference(*exact), tolerance=1e-5)  # pyright: ignore
    arguments = (here.contiguous(memory_format=torch.channels_last), end, now, flows)
    got = module.fusion_candidates(*arguments)
    for mine, expected in zip(got, iterative.fusion_candidates.reference(*_exact(arguments)), strict=True):  # pyright: ignore
        kernels.assert_close(mine, expected, tolerance=1e-5)
    answer = _random(3, 3, *size, seed=6)
    expected = iterative.fused_flow.reference(*_exact((flows, answer)))  # pyright: ignore
    kernels.assert_close(module.fused_flow(flows, answer), expected, tolerance=1e-5)
