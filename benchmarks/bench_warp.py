"""Backward warping by a full-size flow: `rdvfi.ops.backward_warp` and alternatives."""

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
FLOAT32_TOLERANCE = 1e-2
"""OpenCV rounds positions, older versions more coarsely."""
HALF_TOLERANCE = 0.5
"""Sampling grids in half precision are wrong by whole pixels in large images."""


def _arguments(size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (
        inputs.smooth_images(1, size, device, seed=0).to(dtype),
        inputs.smooth_flow(1, size, device, seed=1),
    )


@pytest.mark.parametrize("implementation", FORWARD)
def bench_warp(
    compare: Callable[..., Any],
    require_compilation: Callable[[], None],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    implementation: str,
) -> None:
    if implementation.endswith("compiled"):
        require_compilation()
    arguments = _arguments(size, device, dtype)
    result = compare(
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
    assert error < (FLOAT32_TOLERANCE if dtype == torch.float32 else HALF_TOLERANCE)


BACKWARD = {"rdvfi": lambda: ops.backward_warp, "grid_sample": peers.grid_sample}


@pytest.mark.parametrize("implementation", BACKWARD)
def bench_warp_with_gradients(
    compare: Callable[..., Any],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    implementation: str,
) -> None:
    """Forward and backward, with gradients of image and flow, as in training."""
    image, flow = _arguments(size, device, dtype)
    warp = BACKWARD[implementation]()

    def call(image: Tensor, flow: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        leaves = image.detach().requires_grad_(), flow.detach().requires_grad_()
        return torch.autograd.grad(warp(*leaves), leaves, cotangent)

    forward, backward = work.warp(image, flow), work.warp_backward(image, flow)
    compare(
        call,
        (image, flow, torch.ones_like(image)),
        operation="warp with gradients",
        implementation=implementation,
        size=size,
        work=work.add(forward, backward),
        differentiable=True,
    )
