"""`rdvfi.ops.render`, which renders all frames of a pair from small maps, and alternatives."""

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

MAP_SIZE = (128, 224)
"""The grid of the maps; motion is estimated at 448x256, on a grid of half the size."""


def _clamped_composition(*arguments: Tensor) -> Tensor:
    return composition(*arguments).clamp(0.0, 1.0)


IMPLEMENTATIONS: dict[str, Callable[[], Callable[..., Tensor]]] = {
    "rdvfi": lambda: ops.render,
    "rdvfi-compiled": lambda: torch.compile(_clamped_composition, fullgraph=True),
    "naive": lambda: naive.render,
    "naive-compiled": lambda: functools.partial(naive.render, render_frame=torch.compile(naive.frame, fullgraph=True)),
}


def _arguments(size: tuple[int, int], device: torch.device, dtype: torch.dtype, frames: int) -> tuple[Tensor, ...]:
    """Images in ``dtype`` and small float32 maps; displacements are a few hundredths of the width."""
    flows = [inputs.smooth_flow(frames, MAP_SIZE, device, seed=seed)[None] for seed in (2, 3)]
    mask = inputs.smooth_maps(frames, 1, MAP_SIZE, device, seed=4).sigmoid()[None]
    residual = 0.02 * inputs.smooth_maps(frames, 3, MAP_SIZE, device, seed=5)[None]
    images = [inputs.smooth_images(1, size, device, seed=seed).to(dtype) for seed in (0, 1)]
    return *images, *flows, mask, residual


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def bench_render(
    compare: Callable[..., Any],
    require_compilation: Callable[[], None],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    new_frames: int,
    implementation: str,
) -> None:
    if implementation.endswith("compiled"):
        require_compilation()
    arguments = _arguments(size, device, dtype, new_frames)
    result = compare(
        IMPLEMENTATIONS[implementation](),
        arguments,
        operation=f"render of {new_frames} frames",
        implementation=implementation,
        size=size,
        work=work.render(*arguments),
    )
    expected = naive.render(*(x.float() for x in arguments))
    assert (result.float() - expected).abs().max() < 1.0 / 255.0
