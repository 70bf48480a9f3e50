"""The kernels of local correlation against the reference in float64."""

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.ops.local_correlation import _reference, _reference_backward

module = kernels.load("correlation")

CASES = [
    (1, 2, 9, 70, 1, torch.float32),
    (2, 1, 3, 5, 2, torch.float32),  # a window larger than the map
    (1, 2, 1, 1, 1, torch.float32),
    (1, 5, 6, 7, 0, torch.float32),
    (2, 3, 4, 6, 1, torch.float16),
    (1, 3, 4, 6, 1, torch.bfloat16),
]
"""Batch, channels, height, width, radius, type."""


def _pair(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> list[Tensor]:
    own = torch.Generator().manual_seed(n + c + h + w)
    return [torch.rand(n, c, h, w, generator=own).to(kernels.DEVICE, dtype) for _ in range(2)]


@pytest.mark.parametrize(("n", "c", "h", "w", "radius", "dtype"), CASES)
def test_the_kernels_agree_with_the_reference(n: int, c: int, h: int, w: int, radius: int, dtype: torch.dtype) -> None:
    source, target = _pair(n, c, h, w, dtype)
    got = module.correlation(source, target, radius)
    assert got.dtype == dtype
    exact = [x.cpu().double() for x in (source, target)]
    kernels.assert_close(got, _reference(*exact, radius), tolerance=2 * kernels.ROUNDING[dtype])
    grad = torch.rand(got.shape, generator=torch.Generator().manual_seed(7)).to(got)
    by_source, by_target = module.correlation_backward(grad, source, target, radius)
    expected = _reference_backward(grad.cpu().double(), *exact, radius)
    for ours, theirs in zip((by_source, by_target), expected, strict=True):
        assert ours.dtype == dtype
        kernels.assert_close(ours, theirs, tolerance=2 * kernels.ROUNDING[dtype])


def test_any_strides_are_taken() -> None:
    source, target = _pair(2, 3, 5, 6, torch.float32)
    expected = module.correlation(source, target, 1)
    turned = [x.to(memory_format=torch.channels_last) for x in (source, target)]
    assert torch.equal(module.correlation(*turned, 1), expected)
    shared = [x[:1].expand_as(x) for x in (source, target)]
    assert torch.equal(module.correlation(*shared, 1)[1:], expected[:1])
