"""All new frames of a pair drawn from small maps: `rdvfi.ops.render` and what else there is."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import inputs
import naive
import work
from rdvfi import ops
from rdvfi.ops.drawing.reference import composition

SMALL = (128, 224)
"""The grid of the maps; motion is estimated at 448x256, on a grid of half the size."""


def _grid_sample(*arguments: Tensor) -> Tensor:
    return composition(*arguments).clamp(0.0, 1.0)


FORMS: dict[str, Callable[[], Callable[..., Tensor]]] = {
    "rdvfi": lambda: ops.render,
    "rdvfi-compiled": lambda: torch.compile(_grid_sample, fullgraph=True),
    "naive": lambda: naive.render,
    "naive-compiled": lambda: functools.partial(naive.render, one=torch.compile(naive.frame, fullgraph=True)),
}


def _arguments(size: tuple[int, int], device: torch.device, dtype: torch.dtype, frames: int) -> tuple[Tensor, ...]:
    """Motions of up to some hundredths of the width; small maps stay float32 but for colours."""
    flows = [inputs.flow(frames, SMALL, device, seed=seed)[None] for seed in (2, 3)]
    mask = inputs.smooth(frames, 1, SMALL, device, seed=4).sigmoid()[None]
    residual = 0.02 * inputs.smooth(frames, 3, SMALL, device, seed=5)[None]
    images = [inputs.image(1, size, device, seed=seed).to(dtype) for seed in (0, 1)]
    return *images, *flows, mask, residual


@pytest.mark.parametrize("implementation", FORMS)
def bench_render(
    compared: Callable[..., Any],
    compiling: Callable[[], None],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    new_frames: int,
    implementation: str,
) -> None:
    if implementation.endswith("compiled"):
        compiling()
    arguments = _arguments(size, device, dtype, new_frames)
    result = compared(
        FORMS[implementation](),
        arguments,
        operation=f"render of {new_frames} frames",
        implementation=implementation,
        size=size,
        work=work.render(*arguments),
    )
    expected = naive.render(*(x.float() for x in arguments))
    assert (result.float() - expected).abs().max() < 1.0 / 255.0
