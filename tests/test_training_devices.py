"""Every stage's step on one device, without reading a value from it.

The device is ``meta``: an operator that mixes it with the CPU is refused by torch, and so is every
look at a value (``item``, ``bool``, a shape that depends on data), on which a GPU would be waited
for. What passes here runs on an accelerator as one stream of work.
"""

import contextlib

import pytest
import torch
from torch import Tensor

import rdvfi
from rdvfi.data.pair_pool import EXACT, FLOWS, STRIDES, VISIBLE, MovingPairs
from rdvfi.data.symmetries import SymmetryAugmentation
from rdvfi.data.synthetic.procedural_source import KNOTS, MovingTextures
from rdvfi.data.synthetic.textures import PicturePyramid
from rdvfi.interpolator import Interpolator
from rdvfi.training.losses.loss_registry import WeightedLosses
from rdvfi.training.model_parts import train_only
from rdvfi.training.objectives.coarse import CoarseFlowObjective
from rdvfi.training.objectives.decoding import AutoencoderObjective, DecodingObjective
from rdvfi.training.objectives.objective import Objective
from rdvfi.training.objectives.one_step import DiffusionObjective
from rdvfi.training.objectives.training_step import TrainingStep

META = torch.device("meta")


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no autocast for this device."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


H, W = 64, 96


def _clips(b: int = 2, free: int = 1) -> dict[str, Tensor]:
    """Clips with exact flow, at their knots and at one free time, which belong to the CPU."""
    t = KNOTS + free
    times = torch.cat((torch.linspace(0, 1, KNOTS), torch.full((free,), 0.3))).expand(b, t)
    return {
        "frames": torch.empty(b, t, 3, H, W, device=META),
        "times": times,
        "flows": torch.empty(b, t, 4, 2, H // 8, W // 8, device=META),
        "visible": torch.empty(b, t, 4, H // 8, W // 8, device=META),
        "coarse": torch.empty(b, 2, 2, H // 2, W // 2, device=META),
    }


def _pairs(b: int = 2) -> dict[str, Tensor]:
    batch = {"frames": torch.empty(b, 2, 3, H, W, device=META), EXACT: torch.empty(b, device=META)}
    for s in STRIDES:
        batch[FLOWS[s]] = torch.empty(b, 2, 2, H // s, W // s, device=META)
        batch[VISIBLE[s]] = torch.empty(b, 2, H // s, W // s, device=META)
    return batch


def _model(recipe: str, *overrides: str) -> Interpolator:
    return rdvfi.build(recipe, *overrides).to_empty(device=META)


def _step(objective: Objective, batch: dict[str, Tensor], step: int = 3) -> None:
    losses = objective.to_empty(device=META)(batch, TrainingStep(step, 4, device=META))
    assert losses
    assert all(value.device == META for value in losses.values())
    torch.stack([value.float() for value in losses.values()]).sum().backward()
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert any(p.grad is not None for p in trained)
    assert all(p.grad is None or p.grad.device == META for p in trained)


def test_this_device_refuses_what_a_gpu_would_wait_for() -> None:
    value = torch.empty(2, device=META)
    for look in (lambda: bool(value.sum() > 0), lambda: float(value[0]), lambda: value + torch.ones(2)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            look()


FLOW = {"flow": 1.0, "adjacent": 1.0}
FRAMES = {"l1": 1.0, "l2": 1.0, "edges": 1.0, "psnr": 0.1, "imitation": 1.0}


@pytest.mark.parametrize(
    ("part", "weights", "predicted"),
    [("trajectory", FLOW, False), ("trajectory", FLOW, True), ("renderer", FRAMES, False), ("renderer", FRAMES, True)],
)
def test_decoding_stages_stay_on_the_device(part: str, weights: dict[str, float], predicted: bool) -> None:
    model = _model("rdvfi_s1", "coarse=matching")
    train_only(model, [part])
    _step(DecodingObjective(model, WeightedLosses(weights), predicted=predicted), _clips())


def test_the_diffusion_stage_stays_on_the_device() -> None:
    model = _model("rdvfi_s", "coarse=matching")
    train_only(model, ["denoiser"])
    _step(DiffusionObjective(model, WeightedLosses({"theta": 1, "flow": 1, "l2": 1})), _clips())


def test_the_default_models_own_coarse_flow_stays_on_the_device() -> None:
    """Scenes that are drawn where training runs carry no coarse flow: it is found in every step."""
    model, batch = _model("rdvfi_s"), _clips()
    del batch["coarse"]
    train_only(model, ["renderer"])
    _step(DecodingObjective(model, WeightedLosses(FRAMES), predicted=True), batch)
    train_only(model, ["denoiser"])
    _step(DiffusionObjective(model, WeightedLosses({"theta": 1, "flow": 1, "l2": 1})), batch)
    train_only(model, ["coarse"])
    _step(CoarseFlowObjective(model, WeightedLosses({"estimates": 1, "matching": 1})), _pairs())


@pytest.mark.parametrize("source", [MovingPairs, MovingTextures])
def test_pairs_and_scenes_are_drawn_on_the_device(source: type[MovingPairs] | type[MovingTextures]) -> None:
    pictures = torch.empty(3, 3, 96, 128, dtype=torch.uint8, device=META)
    made = (
        MovingPairs(PicturePyramid(pictures), (H, W))
        if source is MovingPairs
        else MovingTextures(pictures, (H, W), free=1)
    )
    batch = next(SymmetryAugmentation(made).batches(2, seed=1))
    assert {name for name, value in batch.items() if value.device != META} <= {"times"}


@pytest.mark.parametrize("recipe", ["rdvfi_d", "rdvfi_u"])
def test_the_papers_stages_stay_on_the_device(recipe: str) -> None:
    model = _model(recipe, "backbone.size=toy", "flow.width=8", "trajectory.width=8", "renderer.width=8")
    train_only(model, ["trajectory", "renderer"])
    _step(DecodingObjective(model, WeightedLosses({"l2": 1.0})), _clips())
    train_only(model, ["denoiser"])
    _step(DiffusionObjective(model, WeightedLosses({"theta": 1, "l2": 0.5})), _clips())


@pytest.mark.parametrize("batch", [_pairs(), _clips()], ids=["pairs", "clips"])
def test_the_stage_of_the_coarse_flow_stays_on_the_device(batch: dict[str, Tensor]) -> None:
    model = _model("rdvfi_s", "coarse=matching", "coarse.width=16", "coarse.blocks=1")
    train_only(model, ["coarse"])
    _step(CoarseFlowObjective(model, WeightedLosses({"estimates": 1, "flow": 1, "matching": 1})), batch)


def test_the_stage_of_the_autoencoder_stays_on_the_device() -> None:
    model = _model("rdvfi_s", "coarse=matching")
    train_only(model, ["autoencoder"])
    _step(AutoencoderObjective(model, WeightedLosses({"l1": 1, "edges": 1})), _clips())
