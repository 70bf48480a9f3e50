"""Splatting of an image along a full-size flow: variants of `rdvfi.ops.splat`, and a naive implementation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import inputs
import naive
import work
from rdvfi import ops

Splat = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _deterministic(values: Tensor, flow: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return ops.splat_sum(values, flow, weights, deterministic=True)


IMPLEMENTATIONS: dict[str, Splat] = {
    "rdvfi": ops.splat_sum,
    "rdvfi-deterministic": _deterministic,
    "naive": naive.splat_sum,
}


def _arguments(size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return (
        inputs.smooth_images(1, size, device, seed=0).to(dtype),
        inputs.smooth_flow(1, size, device, seed=1),
        inputs.smooth_maps(1, 1, size, device, seed=2).sigmoid(),
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def bench_splat_sum(
    compare: Callable[..., Any],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    implementation: str,
) -> None:
    """Weighted sums and totals."""
    arguments = _arguments(size, device, dtype)
    result = compare(
        IMPLEMENTATIONS[implementation],
        arguments,
        operation="splat sum",
        implementation=implementation,
        size=size,
        work=work.splat(*arguments),
    )
    expected = ops.splat_sum(*arguments)
    # Rounding of a position in a wide image shifts weight between neighbouring pixels.
    tolerance = {"atol": 1e-2, "rtol": 1e-2}
    for got, reference in zip(result, expected, strict=True):
        torch.testing.assert_close(got, reference, **tolerance)


def bench_splat_softmax(
    compare: Callable[..., Any], device: torch.device, size: tuple[int, int], dtype: torch.dtype
) -> None:
    """The whole of softmax splatting."""
    arguments = _arguments(size, device, dtype)
    compare(
        ops.splat,
        arguments,
        operation="splat softmax",
        implementation="rdvfi",
        size=size,
        work=work.splat(*arguments),
    )


def bench_splat_with_gradients(
    compare: Callable[..., Any], device: torch.device, size: tuple[int, int], dtype: torch.dtype
) -> None:
    """Softmax splatting, forward and backward, with gradients of values, flow and weights."""

    def call(*arguments: Tensor) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in arguments]
        return torch.autograd.grad(ops.splat(*leaves)[0].sum(), leaves)

    compare(
        call,
        _arguments(size, device, dtype),
        operation="splat softmax with gradients",
        implementation="rdvfi",
        size=size,
        differentiable=True,
    )
