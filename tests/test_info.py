"""What the commands ``models`` and ``info`` say is what is there."""

import json

import pytest

import rdvfi
import toy
from rdvfi.about import About
from rdvfi.config import list_recipes
from rdvfi.info import entry_info, find, model_info
from rdvfi.registry import REGISTRIES, backbones, flows, renderers, trajectories
from rdvfi_cli.info_command import info
from rdvfi_cli.main import main


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_everything_registered_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    table = json.loads(_run(capsys, "models", "--json"))
    assert table["models"] == rdvfi.list_models()
    assert list(table["recipes"]) == list_recipes()
    assert all(table["recipes"].values())
    text = _run(capsys, "models")
    for registry in REGISTRIES:
        assert list(table[registry.group]) == list(registry)
        for name in registry:
            assert f"  {name} " in text


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.group)
def test_every_entry_can_be_told_of(registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in registry:
        told = entry_info(registry, name)
        assert told.name == name
        assert told.licence == "Apache-2.0"
        assert bool(told.properties) != bool(told.missing)
        assert len(told.parameters) == len(registry.parameters(name))


def test_facts_are_the_components_own() -> None:
    told = entry_info(backbones, "compact", latent_channels=8)
    built = backbones.create("compact", coarse=flows.create("dis"), latent_channels=8)
    assert told.properties["weights"] == sum(p.numel() for p in built.parameters())
    assert told.properties["a latent at 448x256"] == [8, 32, 56]
    assert told.properties["stride"] == built.stride
    assert told.properties["gives_prior"] is True
    inner = entry_info(trajectories, "iterative").properties  # without those of the flow in its slot
    whole = trajectories.create("iterative", flow=flows.create("local"), basis=rdvfi.bases.create("cubic"))
    flow = sum(p.numel() for p in flows.create("local").parameters())
    assert inner["weights"] == sum(p.numel() for p in whole.parameters()) - flow


def test_what_nobody_stated_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    with toy.registered():
        text = _run(capsys, "info", "toy")
    assert text.count("licence of the code: not stated") == 5  # all five registries
    told = "  licence of the weights: CC-BY-NC-4.0\n"
    assert told not in text
    flows.register("stated", about=About(licence="MIT", weights_licence="CC-BY-NC-4.0"))(toy.toy_flow)
    try:
        text = _run(capsys, "info", "stated", "window=7")
    finally:
        flows.unregister("stated")
    assert told in text
    assert "  licence of the code: MIT\n" in text
    assert "    window: int = 5\n" in text


def test_an_entry_without_its_weights_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert "  not built: FileNotFoundError: the weights of RAFT" in _run(capsys, "info", "raft")
    built = _run(capsys, "info", "raft", "size=SMALL", "weights=null")
    assert "  weights: 990,162\n" in built


def test_a_model_is_told_of_part_by_part(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    (told,) = json.loads(_run(capsys, "info", "rdvfi_s", "--json"))
    assert [part["state"] for part in told["parts"]] == ["trained", "nothing to train", "trained"]
    weights = sum(part["weights"] for part in told["parts"])
    assert weights == sum(p.numel() for p in rdvfi.create_model("rdvfi-s").parameters())
    assert "model card" in told["card"]
    assert "trajectory: iterative(flow=local(" in _run(capsys, "info", "rdvfi-s1")
    with toy.registered():
        model = toy.toy_model()
        model.renderer = renderers.create("warp")
        model.mark_trained("trajectory")
        model.save_pretrained(tmp_path / "mine")
        (saved,) = find(str(tmp_path / "mine"))
    assert saved == model_info(model, str(tmp_path / "mine"))
    assert [part.state for part in saved.parts] == ["untrained", "trained", "nothing to train"]  # pyright: ignore


def test_a_recipe_without_weights_tells_its_choices(capsys: pytest.CaptureFixture[str]) -> None:
    text = _run(capsys, "info", "rdvfi_u")
    assert text.startswith("recipe rdvfi_u: RDVFI-U")
    assert "backbone: _name_=svd" in text


def test_what_does_not_exist_gets_the_close_match(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["info", "cubik"])
    assert ended.value.code == 2
    assert "nothing is called 'cubik'; did you mean 'cubic'?" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must have the form key=value; got 'size'"):
        info("raft", ["size"])
