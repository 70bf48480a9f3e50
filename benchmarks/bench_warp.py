"""One image looked up along a full-size flow: `rdvfi.ops.backward_warp` and what else there is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import inputs
import naive
import peers
import work
from rdvfi import ops

FORWARD: dict[str, Callable[[], peers.Warp]] = {
    "rdvfi": lambda: ops.backward_warp,
    "naive": lambda: naive.backward_warp,
    "grid_sample": peers.grid_sample,
    "grid_sample-compiled": lambda: torch.compile(peers.grid_sample(), fullgraph=True),
    "kornia": peers.kornia,
    "opencv": peers.opencv,
}
FINE = 1e-2
"""Agreement in float32: OpenCV rounds positions, most in older versions."""
COARSE = 0.5
"""Agreement of grids in half precision, which are off by whole pixels in large pictures."""


def _arguments(size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (
        inputs.image(1, size, device, seed=0).to(dtype),
        inputs.flow(1, size, device, seed=1),
    )


@pytest.mark.parametrize("implementation", FORWARD)
def bench_warp(
    compared: Callable[..., Any],
    compiling: Callable[[], None],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    implementation: str,
) -> None:
    if implementation.endswith("compiled"):
        compiling()
    arguments = _arguments(size, device, dtype)
    result = compared(
        FORWARD[implementation](),
        arguments,
        operation="warp",
        implementation=implementation,
        size=size,
        work=work.warp(*arguments),
    )
    if implementation == "opencv":
        result = result.permute(2, 0, 1)[None]
    error = (result.float() - ops.backward_warp(*arguments).float()).abs().max()
    assert error < (FINE if dtype == torch.float32 else COARSE)


BACKWARD = {"rdvfi": lambda: ops.backward_warp, "grid_sample": peers.grid_sample}


@pytest.mark.parametrize("implementation", BACKWARD)
def bench_warp_with_gradients(
    compared: Callable[..., Any],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    implementation: str,
) -> None:
    """Forward and backward, by the image and by the flow: what training pays."""
    image, flow = _arguments(size, device, dtype)
    warp = BACKWARD[implementation]()

    def call(image: Tensor, flow: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        leaves = image.detach().requires_grad_(), flow.detach().requires_grad_()
        return torch.autograd.grad(warp(*leaves), leaves, cotangent)

    forward, backward = work.warp(image, flow), work.warp_backward(image, flow)
    compared(
        call,
        (image, flow, torch.ones_like(image)),
        operation="warp with gradients",
        implementation=implementation,
        size=size,
        work=work.added(forward, backward),
        differentiable=True,
    )
