"""RDVFI-S by stage: fixed cost per pair, and cost per frame.

The whole pair is timed with one frame and with many, from which the report computes the fixed cost
and the cost per extra frame.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import counting
import inputs
import rdvfi
from rdvfi.interpolator import Interpolator
from work import Work

DEFAULT_SIZES = {
    "cpu": ("1024x576",),
    "cuda": ("576x320", "1024x576", "1280x720", "1920x1080", "3840x2160"),
}

Compare = Callable[..., Any]
Size = tuple[int, int]


@pytest.fixture(scope="module")
def model(device: torch.device) -> Interpolator:
    pytest.importorskip("cv2", reason="the example clip is read by OpenCV, which is not installed")
    return rdvfi.create_model("rdvfi-s", device=device)


def _times(device: torch.device, count: int) -> Tensor:
    return torch.arange(1, count + 1, device=device) / (count + 1)


def _work(call: Callable[..., Any], pair: list[Tensor], frames: int) -> Work:
    """The operations of networks and matrix products, counted by torch."""
    return Work(operations=counting.count(lambda: call(*pair)).flops, frames=frames)


@pytest.mark.parametrize("frames", ["one", "many"])
@pytest.mark.parametrize("method", ["rdvfi-s", "rdvfi-s-compiled", "rife-4.25"])
def bench_whole(
    compare: Compare,
    require_compilation: Callable[[], None],
    model: Interpolator,
    size: Size,
    dtype: torch.dtype,
    new_frames: int,
    frames: str,
    method: str,
) -> None:
    """A whole pair."""
    if method.endswith("compiled"):
        require_compilation()
    pair = inputs.real_pair(size, model.device, dtype)
    count = 1 if frames == "one" else new_frames
    call = _load_method(method, model.to(dtype=dtype), _times(model.device, count))
    compare(
        call,
        pair,
        operation=f"whole pair, {count} new",
        implementation=method,
        size=size,
        ours="rdvfi-s",
        work=_work(call, pair, count) if method == "rdvfi-s" else Work(frames=count),
    )


def _load_method(name: str, model: Interpolator, times: Tensor) -> Callable[..., Tensor]:
    if name == "rife-4.25":
        from rdvfi.evaluation.rife import RIFE

        try:
            rife = RIFE(device=model.device)
        except ImportError as error:
            pytest.skip(str(error))
        return lambda img0, img1: rife(img0, img1, times)
    if name == "rdvfi-s-compiled":
        model = rdvfi.create_model("rdvfi-s", device=model.device, dtype=model.dtype)
        model.compile(fullgraph=False)  # OpenCV's flow breaks the graph
    return lambda img0, img1: model(img0, img1, times)


def bench_estimate(compare: Compare, model: Interpolator, size: Size, dtype: torch.dtype) -> None:
    """Keyframes and trajectory, computed once per pair."""
    model.to(dtype=dtype)
    pair = inputs.real_pair(size, model.device, dtype)
    compare(
        model.estimate,
        pair,
        operation="estimate",
        implementation="rdvfi-s",
        size=size,
        ours="rdvfi-s",
        work=_work(model.estimate, pair, 0),
    )


def bench_render(compare: Compare, model: Interpolator, size: Size, dtype: torch.dtype, new_frames: int) -> None:
    """Frames of a pair with known motion."""
    model.to(dtype=dtype)
    pair, times = inputs.real_pair(size, model.device, dtype), _times(model.device, new_frames)
    with torch.inference_mode():
        motion = model.estimate(*pair)

    def call(img0: Tensor, img1: Tensor) -> Tensor:
        return model.render(img0, img1, motion, times)

    compare(
        call,
        pair,
        operation=f"render by the model, {new_frames} new",
        implementation="rdvfi-s",
        size=size,
        ours="rdvfi-s",
        work=_work(call, pair, new_frames),
    )


@pytest.mark.parametrize("name", ["dis", "sift-dis", "matched-dis", "global-local"])
def bench_coarse_flow(compare: Compare, device: torch.device, name: str) -> None:
    """Both directions of the coarse flow at motion size, with the shipped weights."""
    size = (256, 448)
    pair = inputs.real_pair(size, device, torch.float32)
    flow = rdvfi.flows.create(name)
    shipped_models = {"matched-dis": "rdvfi-s1", "global-local": "rdvfi-s"}
    if name in shipped_models:
        flow = rdvfi.create_model(shipped_models[name], device=device).generator.coarse
    compare(
        flow.both_ways,
        pair,
        operation="coarse flow, both directions",
        implementation=name,
        size=size,
        ours="global-local",
    )
