"""Both stages of every recipe, traced without a device: nothing leaves it, and few kernels start.

Tensors are on "meta", which has shapes and no values: an operation that would need a value, or the
CPU, fails or is found by `rdvfi.graphs.Watch`. Attention and norms count as one kernel each, as on
CUDA. What convolutions do beside their one operation (layouts, bias) is not counted.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

import rdvfi
from rdvfi.graphs import Watch

SIZE = (576, 1024)
FUSED = (F.scaled_dot_product_attention, F.rms_norm, torch.rms_norm, F.layer_norm, torch.layer_norm)


class _AsOnCuda(TorchFunctionMode):
    """One operation for what is one kernel on CUDA and several on "meta"."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in FUSED:
            return torch.ops.aten.relu.default(args[0] if args else given["query"])
        return func(*args, **given)


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folded = importlib.import_module("rdvfi.backbones.wan.folded")

    def one_row(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rows[:1], torch.full((1,), float(len(rows)), device=rows.device)  # all rows are zeros

    monkeypatch.setattr(folded, "distinct_rows", one_row)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # "meta" has none
    with _AsOnCuda(), torch.no_grad():
        yield


def _traced(model: rdvfi.Interpolator, dtype: torch.dtype) -> dict[str, Watch]:
    image = torch.empty(1, 3, *SIZE, device="meta", dtype=dtype)
    noise = torch.empty(model.noise_shape(image), device="meta", dtype=dtype)
    with Watch("meta") as estimate:
        motion = model._motion(image, image, noise)
    with Watch("meta") as render:
        model._frames(image, image, motion, torch.empty(7, device="meta"))
    return {"estimate": estimate, "render": render}


def _optimized(model: rdvfi.Interpolator) -> None:
    model.generator.optimize()  # pyright: ignore


CASES: dict[str, tuple[tuple[str, ...], torch.dtype, Callable[[rdvfi.Interpolator], None], int, int]] = {
    "rdvfi_s": ((), torch.float16, lambda _: None, 6900, 950),
    "rdvfi_d": ((), torch.bfloat16, _optimized, 3100, 950),
}
"""Overrides, type, preparation, and the most operations of `estimate` and of `render`."""


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("recipe", CASES)
def test_stages_stay_on_the_device_and_start_few_kernels(recipe: str) -> None:
    overrides, dtype, prepare, *limits = CASES[recipe]
    with torch.device("meta"):
        model = rdvfi.build(recipe, *overrides)
    model = model.eval().requires_grad_(False).to("meta", dtype)
    prepare(model)
    for (stage, watch), limit in zip(_traced(model, dtype).items(), limits, strict=True):
        count = sum(watch.count.values())
        print("\n", recipe, stage, count, sorted(watch.count.items(), key=lambda item: -item[1])[:12])  # noqa: T201
        assert not watch.found, f"{stage}: {watch.found[:3]}"
        assert count <= limit


@pytest.mark.usefixtures("as_on_cuda")
def test_a_classical_coarse_flow_is_named() -> None:
    with torch.device("meta"):
        model = rdvfi.build("rdvfi_s", "coarse=matched-dis")
    estimate = _traced(model.eval().to("meta", torch.float16), torch.float16)["estimate"]
    assert estimate.found == ["rdvfi::matched_dis_flow works outside of the device"]
