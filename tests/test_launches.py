"""Both stages of every recipe, traced without a device: nothing leaves it, and few kernels start.

Tensors are on "meta", which has shapes and no values: an operation that would need a value, or the
CPU, fails or is found by `rdvfi.graph_watch.Watch`. (A torch built without CUDA cannot index fake tensors of
"cuda".) Attention and norms count as one kernel each, as on CUDA. What convolutions do beside their one
operation (layouts, bias) is not counted.
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
from rdvfi.config.recipe_files import list_recipes
from rdvfi.graph_watch import Watch

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
        motion = model._compute_motion(image, image, noise)
    with Watch("meta") as render:
        model._compute_frames(image, image, motion, torch.empty(7, device="meta"))
    return {"estimate": estimate, "render": render}


BARS: dict[str, tuple[int, int]] = {
    "rdvfi_s": (682, 148),
    "rdvfi_s1": (645, 135),
    "rdvfi_d": (671, 133),
    "rdvfi_u": (1513, 133),
    "ablation_constant_velocity": (712, 178),
    "ablation_linear": (718, 166),
    "ablation_no_diffusion": (615, 166),
    "ablation_no_fusion": (499, 135),
    "ablation_no_synthesis": (682, 43),
    "wan_raft": (8233, 43),
}
"""The most kernels of `estimate` and of `render` of seven frames, of every recipe."""
CLASSICAL = ["rdvfi::matched_dis_flow works outside of the device"]
OUTSIDE = {
    "rdvfi_s1": CLASSICAL,
    "ablation_no_fusion": CLASSICAL,
    "wan_raft": [
        "aten::_to_copy copies between the CPU and the device",  # torchvision's RAFT makes its grids on the CPU
        "torch.new_tensor copies from the CPU",  # means of Wan's autoencoder for clips
    ],
}
"""What no graph can hold while motion is estimated, by recipe; there `estimate` stays eager."""
TYPES = {"rdvfi_d": torch.bfloat16}
OVERRIDES = {"wan_raft": ("flow.weights=null", "flow.iterations=1", "backbone.num_inference_steps=1")}
"""A trace needs no weights, and one step or iteration of many tells as much."""


def _built(recipe: str, *overrides: str) -> rdvfi.Interpolator:
    with torch.device("meta"):
        model = rdvfi.build(recipe, *overrides)
    model = model.eval().requires_grad_(False).to("meta", TYPES.get(recipe, torch.float16))
    return model.optimize(graphs=False)


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("recipe", list_recipes())
def test_stages_stay_on_the_device_and_start_few_kernels(recipe: str) -> None:
    assert recipe in BARS, f"hold the number of kernels of the recipe {recipe}"
    traced = _traced(_built(recipe, *OVERRIDES.get(recipe, ())), TYPES.get(recipe, torch.float16))
    assert sorted(set(traced["estimate"].problems)) == OUTSIDE.get(recipe, [])
    assert traced["render"].problems == []
    for (stage, watch), limit in zip(traced.items(), BARS[recipe], strict=True):
        assert sum(watch.launches.values()) <= limit, (stage, sorted(watch.launches.items(), key=lambda x: -x[1])[:20])


@pytest.mark.parametrize(
    "planted",
    [
        lambda x: x[[2, 0]],
        lambda x: x[x > 0],
        lambda x: x * torch.tensor([1.0, 2.0, 3.0], device="meta"),
        lambda x: x + torch.ones(3).to("meta"),
        lambda x: x.gather(0, torch.zeros(3, dtype=torch.long)),
        lambda x: x.repeat_interleave(x.long()),
        lambda x: x * x.sum().item(),
        lambda x: x.nonzero(),
    ],
)
def test_what_no_graph_can_hold_is_found_or_fails(planted: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with Watch("meta") as watch:
        try:
            planted(torch.empty(3, device="meta"))
        except (RuntimeError, NotImplementedError):
            return
    assert watch.problems
