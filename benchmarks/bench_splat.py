"""An image pushed along a full-size flow: `rdvfi.ops.splat` in its forms, and by hand."""

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


FORMS: dict[str, Splat] = {
    "rdvfi": ops.splat_sum,
    "rdvfi-deterministic": _deterministic,
    "naive": naive.splat_sum,
}


def _arguments(size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return (
        inputs.image(1, size, device, seed=0).to(dtype),
        inputs.flow(1, size, device, seed=1),
        inputs.smooth(1, 1, size, device, seed=2).sigmoid(),
    )


@pytest.mark.parametrize("implementation", FORMS)
def bench_splat_sum(
    compared: Callable[..., Any],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    implementation: str,
) -> None:
    """Weighted sums and totals."""
    arguments = _arguments(size, device, dtype)
    result = compared(
        FORMS[implementation],
        arguments,
        operation="splat sum",
        implementation=implementation,
        size=size,
        work=work.splat(*arguments),
    )
    expected = ops.splat_sum(*arguments)
    # A position in the last digit of a wide picture moves a share between neighbours.
    tolerance = {"atol": 1e-2, "rtol": 1e-2}
    for got, wanted in zip(result, expected, strict=True):
        torch.testing.assert_close(got, wanted, **tolerance)


def bench_splat_softmax(
    compared: Callable[..., Any], device: torch.device, size: tuple[int, int], dtype: torch.dtype
) -> None:
    """Softmax splatting, all included."""
    arguments = _arguments(size, device, dtype)
    compared(
        ops.splat,
        arguments,
        operation="splat softmax",
        implementation="rdvfi",
        size=size,
        work=work.splat(*arguments),
    )


def bench_splat_with_gradients(
    compared: Callable[..., Any], device: torch.device, size: tuple[int, int], dtype: torch.dtype
) -> None:
    """Softmax splatting forward and backward, by values, flow and weights."""

    def call(*arguments: Tensor) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in arguments]
        return torch.autograd.grad(ops.splat(*leaves)[0].sum(), leaves)

    compared(
        call,
        _arguments(size, device, dtype),
        operation="splat softmax with gradients",
        implementation="rdvfi",
        size=size,
        differentiable=True,
    )
