"""Parts of trained models exchanged: what fits keeps its weights bit for bit, and what does not is named."""

import logging
from functools import cache
from pathlib import Path

import pytest
import torch

import rdvfi
import toy
from rdvfi import testing
from rdvfi.config import exchange_parts
from rdvfi.interpolator import Interpolator


@pytest.fixture(scope="module")
def shipped() -> Interpolator:
    return rdvfi.create_model("rdvfi-s1")


PLACES = {
    "backbone.autoencoder": "generator.autoencoder.",
    "backbone.denoiser": "generator.denoiser.",
    "backbone.coarse": "generator.coarse.",
    "trajectory.flow": "trajectory.flow.",
    "trajectory": "trajectory.",
    "renderer": "renderer.",
}
"""Each part of them that has weights, and how its tensors begin; the inner ones first."""


def _component_of(tensor: str) -> str:
    return next(place for place, prefix in PLACES.items() if tensor.startswith(prefix))


Case = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], list[str]]
"""Overrides, the parts that change, those of them without weights that fit, and the stages untrained by that."""
CASES: dict[str, list[Case]] = {
    "rdvfi-s": [
        (("basis=linear",), (), (), []),
        (("trajectory.knots=FIXED",), (), (), []),
        (("backbone.fill=false",), (), (), []),
        (("renderer.one_light=false",), (), (), []),
        (("coarse.patch_rounds=0",), (), (), []),
        (("coarse=dis",), ("backbone.coarse",), (), []),
        (("coarse=matched-dis",), ("backbone.coarse",), ("backbone.coarse",), ["backbone"]),
        (("renderer=warp",), ("renderer",), (), []),
        (("renderer.width=32",), ("renderer",), ("renderer",), ["renderer"]),
        (("trajectory=straight",), (), (), []),
        (("trajectory=iterative", "flow=local"), (), ("trajectory.flow", "trajectory"), ["trajectory"]),
        (("backbone.width=32",), ("backbone.denoiser",), ("backbone.denoiser",), ["backbone"]),
        (("backbone=ends",), ("backbone.denoiser",), (), []),
        (("basis=linear", "trajectory.knots=SOURCE", "coarse=dis"), ("backbone.coarse",), (), []),
    ],
    "rdvfi-s1": [
        (("basis=linear",), (), (), []),
        (("trajectory.knots=FIXED",), (), (), []),
        (("backbone.fill=false",), (), (), []),
        (("renderer.one_light=true",), (), (), []),
        (("coarse=dis",), ("backbone.coarse",), (), []),
        (("coarse=global-local",), ("backbone.coarse",), ("backbone.coarse",), ["backbone"]),
        (("renderer=warp",), ("renderer",), (), []),
        (("renderer.width=32",), ("renderer",), ("renderer",), ["renderer"]),
        (("trajectory=prior",), ("trajectory", "trajectory.flow"), (), []),
        (("trajectory=straight",), ("trajectory", "trajectory.flow"), (), []),
        (("flow.width=16",), ("trajectory.flow",), ("trajectory.flow",), ["trajectory"]),
        (("backbone.width=32",), ("backbone.denoiser",), ("backbone.denoiser",), ["backbone"]),
        (("basis=linear", "trajectory.knots=FIXED", "coarse=dis"), ("backbone.coarse",), (), []),
    ],
}


@cache
def _weights(name: str) -> dict[str, torch.Tensor]:
    return rdvfi.create_model(name).state_dict()


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_each_part_of_a_shipped_model_exchanged_leaves_the_others_bit_equal(
    caplog: pytest.LogCaptureFixture, name: str, case: Case
) -> None:
    overrides, changed, fresh, untrained = case
    with caplog.at_level(logging.WARNING, "rdvfi"):
        model = rdvfi.create_model(name, *overrides)
    state, before = model.state_dict(), _weights(name)
    for key, tensor in before.items():
        if _component_of(key) not in changed:
            assert torch.equal(state[key], tensor), key
    assert {_component_of(key) for key in before if key not in state or state[key].shape != before[key].shape} <= {
        *changed
    }
    assert model.untrained_parts() == untrained
    said = [record.getMessage() for record in caplog.records]
    assert said == ([f"model {name!r}: no trained weights fit {', '.join(fresh)}: untrained"] if fresh else [])
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_exchanged_part_is_the_one_that_works(shipped: Interpolator) -> None:
    img0, img1 = (toy.textured(1, 64, 80, seed=seed) for seed in (1, 2))
    model = rdvfi.create_model("rdvfi-s1", "basis=constant-velocity")
    assert repr(model.pretrained().trajectory["config"]["basis"]) == "{'name': 'constant-velocity', 'config': {}}"
    assert not torch.equal(model(img0, img1, [0.4]), shipped(img0, img1, [0.4]))
    testing.assert_close(model(img0, img1, [0.0]), img0[:, None])


def test_another_basis_and_back_is_the_same_model(shipped: Interpolator, tmp_path: Path) -> None:
    linear = rdvfi.create_model("rdvfi-s1", "basis=linear")
    linear.save_pretrained(tmp_path / "linear")
    again = rdvfi.create_model(tmp_path / "linear", "basis=cubic")
    assert again.pretrained() == shipped.pretrained()
    state = shipped.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def test_a_recipe_starts_from_a_models_weights(shipped: Interpolator, caplog: pytest.LogCaptureFixture) -> None:
    random = torch.get_rng_state()
    model = rdvfi.build("rdvfi_s1", "basis=linear", "renderer.width=32", start="rdvfi-s1")
    assert torch.equal(torch.get_rng_state(), random)
    assert model.untrained_parts() == ["renderer"]
    assert "no trained weights fit renderer: untrained" in caplog.text
    state = model.state_dict()
    kept = {name: tensor for name, tensor in shipped.state_dict().items() if not name.startswith("renderer")}
    assert all(torch.equal(state[name], tensor) for name, tensor in kept.items())


def test_parts_trained_on_other_latents_are_trained_apart() -> None:
    model = rdvfi.create_model("rdvfi-s1", "backbone.encoder_width=16")
    assert model.untrained_parts() == ["backbone"]
    assert model.parts_trained_apart() == ["trajectory", "renderer"]
    assert rdvfi.create_model("rdvfi-s1", "coarse=dis").parts_trained_apart() == []


def test_a_part_of_a_shipped_model_is_loaded_by_its_name(shipped: Interpolator) -> None:
    model = rdvfi.build("rdvfi_s1", "basis=linear", "coarse=dis")
    model.load_part("backbone", "rdvfi-s1")
    model.load_part("trajectory", "rdvfi-s1")
    assert model.untrained_parts() == ["renderer"]
    assert model.parts_trained_apart() == []
    state, before = model.state_dict(), shipped.state_dict()
    for name, tensor in state.items():
        assert torch.equal(tensor, before[name]) or name.startswith("renderer")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone=svd", "carry none"),  # the contract of a combination that does not fit
        ("basis=cubc", "no basis named 'cubc'; did you mean 'cubic'"),
        ("flow.width=wide", "expected width: int = 32"),
        ("flow.widht=3", "flow 'local' has no parameter 'widht'; did you mean 'width'"),
        ("recipe=x", "no group 'recipe'"),
    ],
)
def test_what_does_not_fit_is_refused(shipped: Interpolator, override: str, message: str) -> None:
    extra = ("backbone.size=toy", "trajectory=straight") if override == "backbone=svd" else ()
    with pytest.raises(ValueError, match=message):
        exchange_parts(shipped, override, *extra)
