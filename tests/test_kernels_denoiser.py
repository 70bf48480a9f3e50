"""The kernels of the compact denoiser, and of activation with border, against their references."""

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.backbones.compact import denoiser

module = kernels.load("denoiser")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_the_network_reads_and_answers_agrees_with_the_reference(dtype: torch.dtype) -> None:
    b, n, c, h, w = 2, 2, 3, 5, 9
    noisy, latent0, latent1 = (x.to(dtype) for x in (_random(b, n, c, h, w), _random(b, c, h, w), _random(b, w, c, h)))
    latent1 = latent1.permute(0, 2, 3, 1)
    flows, candidates = 2.0 * _random(b, n, 4, h, w), 6.0 * _random(b, n, 4, 4, h, w)
    mismatches, arrived = _random(b, n, 4, h, w).abs(), torch.rand(b, n, 2, h, w)
    times, sigma = torch.tensor([0.25, 0.875]), torch.tensor([1.0, 0.5])
    arguments = (noisy, latent0, latent1, flows, candidates, mismatches, arrived, times, sigma)
    given = [x.to(kernels.DEVICE) for x in arguments]
    tolerance = 4 * kernels.ROUNDING[dtype]
    expected = denoiser._inputs_reference(*(x.double() for x in arguments))
    kernels.assert_close(module.denoiser_inputs(*given), expected, tolerance=tolerance)
    answer = _random(b * n, h, w, 9 + c).permute(0, 3, 1, 2).to(dtype)
    arguments = (answer, latent0, latent1, flows, candidates, times)
    got = module.denoiser_outputs(*(x.to(kernels.DEVICE) for x in arguments))
    # Gates are taken in float32 there.
    expected = denoiser._outputs_reference(*(x.double() for x in arguments))
    for ours, theirs in zip(got, expected, strict=True):
        kernels.assert_close(ours, theirs, tolerance=tolerance)
    got = module.mismatches(*(x.to(kernels.DEVICE) for x in (latent0, latent1, candidates)))
    expected = denoiser._mismatches_reference(*(x.double() for x in (latent0, latent1, candidates)))
    kernels.assert_close(got, expected, tolerance=tolerance)
