"""The kernels of learned matching and of the basis against their references."""

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.motion import basis
from rdvfi.motion.flow import attention, match_ops
from rdvfi.ops.inference import KERNELS

module = kernels.load("matching")
weights = kernels.load("basis")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("dtype", "turned"), [(dtype, 2) for dtype in kernels.DTYPES] + [(torch.float32, 1)])
def test_rotations_agree_with_the_reference(dtype: torch.dtype, turned: int) -> None:
    x = _random(2, 24, 5, 9).to(dtype).contiguous(memory_format=torch.channels_last).unflatten(1, (2, 12))
    got = module.rotated_tokens(x.to(kernels.DEVICE), 2.0, turned, **KERNELS["rotated_tokens"].settings)
    assert got.dtype == dtype
    expected = attention._tokens_reference(x.double(), 2.0, turned)
    kernels.assert_close(got, expected, tolerance=2 * kernels.ROUNDING[dtype])


def test_expected_flows_agree_with_the_reference() -> None:
    scores = (3.0 * _random(2, 35, 35)).transpose(1, 2)
    got = module.expected_flow(scores.to(kernels.DEVICE), 5, 7).cpu()
    torch.testing.assert_close(got, match_ops._expected_reference(scores, 5, 7), rtol=1e-4, atol=1e-4)


def test_what_refinements_read_agrees_with_the_reference() -> None:
    scores, unsure = _random(2, 35, 35), _random(2, 1, 5, 7)
    flow = 3.0 * _random(2, 2, 7, 5).transpose(2, 3)
    given = [x.to(kernels.DEVICE) for x in (scores, flow, unsure)]
    got = module.looked_up(given[0], given[1], 1, torch.float32).cpu()
    torch.testing.assert_close(
        got, match_ops._sample_scores_reference(scores, flow, 1, torch.float32), rtol=1e-4, atol=1e-4
    )
    got = module.motion_features(given[1], given[2], torch.float16).cpu()
    torch.testing.assert_close(got, match_ops._motion_reference(flow, unsure, torch.float16), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("factor", [2, 3])
def test_convex_upsampling_agrees_with_the_reference(factor: int) -> None:
    flow, logits = _random(2, 2, 5, 7), 4.0 * _random(2, 9 * factor**2, 5, 7)
    logits = logits.contiguous(memory_format=torch.channels_last)
    got = module.convex_upsampled(flow.to(kernels.DEVICE), logits.to(kernels.DEVICE), factor).cpu()
    torch.testing.assert_close(got, match_ops._convex_reference(flow, logits, factor), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("knots", [(0.0, 0.2, 1.0), (0.0, 0.1, 0.3, 0.45, 0.8, 1.0)])
def test_cubic_weights_agree_with_the_reference(knots: tuple[float, ...]) -> None:
    places, times = torch.tensor(knots), torch.cat((torch.linspace(0.0, 1.0, 37), torch.tensor(knots)))
    got = weights.cubic_weights(places.to(kernels.DEVICE), times.to(kernels.DEVICE)).cpu()
    torch.testing.assert_close(got, basis._cubic_reference(places, times), rtol=0, atol=1e-5)
