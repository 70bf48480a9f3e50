"""All new frames of a pair drawn from small maps: `rdvfi.ops.render` and what else there is."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import inputs
import naive
import work
from rdvfi import ops
from rdvfi.ops.drawing import join
from rdvfi.ops.tiles import draw_in_tiles

SMALL = (128, 224)
"""The grid of the maps; motion is estimated at 448x256, on a grid of half the size."""

# The module is hidden by its function of the same name.
reference = importlib.import_module("rdvfi.ops.render").reference


def _consistent(*arguments: Tensor) -> Tensor:
    return ops.render(*arguments, upsample="consistent")


def _grid_sample(*arguments: Tensor) -> Tensor:
    return reference(*arguments).clamp(0.0, 1.0)


def _tiles(img0: Tensor, img1: Tensor, *maps: Tensor) -> Tensor:
    flow0, flow1, mask, residual = (x.float() for x in maps)
    joined = join(flow0, flow1, mask, residual)
    return draw_in_tiles(img0.float(), img1.float(), joined).to(img0.dtype)


def _native() -> Callable[..., Tensor]:
    ops.compile_render()
    return ops.render


FORMS: dict[str, Callable[[], Callable[..., Tensor]]] = {
    "rdvfi": lambda: ops.render,
    "rdvfi-without-opencv": lambda: _tiles,
    "rdvfi-consistent": lambda: _consistent,
    "rdvfi-compiled": lambda: torch.compile(_grid_sample, fullgraph=True),
    "rdvfi-native-compiled": _native,
    "naive": lambda: naive.render,
    "naive-compiled": lambda: functools.partial(naive.render, one=torch.compile(naive.frame, fullgraph=True)),
}
CPU_ONLY = ("rdvfi-without-opencv", "rdvfi-native-compiled")


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
    if implementation in CPU_ONLY and device.type != "cpu":
        pytest.skip("this form is for the CPU only")
    arguments = _arguments(size, device, dtype, new_frames)
    result = compared(
        FORMS[implementation](),
        arguments,
        operation=f"render of {new_frames} frames",
        implementation=implementation,
        size=size,
        work=work.render(*arguments),
    )
    if implementation != "rdvfi-consistent":  # which is meant to be different
        expected = naive.render(*(x.float() for x in arguments))
        error = (result.float() - expected).abs().max()
        assert error < 1.0 / 255.0
