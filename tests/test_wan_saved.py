"""RDVFI-D saved and loaded: with its backbone, or with the name of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import rdvfi
from rdvfi.backbones.wan.architecture import fresh_autoencoder, fresh_transformer
from rdvfi.testing import smooth_noise

SMALL = ("flow.width=8", "trajectory.width=8", "renderer.width=8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder in diffusers' format."""
    torch.manual_seed(7)
    parts: list[tuple[str, Any]] = [
        ("transformer", fresh_transformer("toy")),
        ("vae", fresh_autoencoder("toy")),
    ]
    for name, part in parts:
        part.save_pretrained(tmp_path / "wan" / name)
    return tmp_path / "wan"


def _model(source: Path, *overrides: str) -> rdvfi.Interpolator:
    words = ("backbone.size=toy", f"backbone.source={source}", *SMALL, *overrides)
    return rdvfi.build("rdvfi-d", *words).eval().requires_grad_(False)


def _pair() -> tuple[Tensor, Tensor]:
    first = smooth_noise(1, 3, 32, 48, seed=5).sigmoid()
    return first, first.roll(3, -1)


def _names(folder: Path) -> set[str]:
    return set(safetensors.torch.load_file(folder / "model.safetensors"))


def _backbone(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["backbone"]["config"]


def _same(model: rdvfi.Interpolator, folder: Path) -> None:
    again = rdvfi.create_model(folder)
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert torch.equal(again(*_pair(), [0.4]), model(*_pair(), [0.4]))


def test_the_backbone_comes_from_its_source(source: Path) -> None:
    state = _model(source).generator.state_dict()
    for part in ("transformer", "vae"):
        file = source / part / "diffusion_pytorch_model.safetensors"
        for name, tensor in safetensors.torch.load_file(file).items():
            assert torch.equal(state[f"{part}.{name}"], tensor), name


def test_a_backbone_with_a_source_is_referred_to(source: Path, tmp_path: Path) -> None:
    model = _model(source)
    model.save_pretrained(tmp_path / "saved")
    assert not any(name.startswith("generator.") for name in _names(tmp_path / "saved"))
    assert _backbone(tmp_path / "saved")["source"] == str(source)
    _same(model, tmp_path / "saved")


def test_a_backbone_is_copied_on_demand_and_then_needs_no_source(source: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    rows = tmp_path / "prompt.safetensors"
    safetensors.torch.save_file({"prompt_embeds": torch.randn(1, 2, 16)}, rows)
    model = _model(source, f"backbone.prompt_embeds={rows}", "backbone.num_inference_steps=2")
    model.save_pretrained(tmp_path / "saved", include_backbone=True)
    config = _backbone(tmp_path / "saved")
    assert config["source"] is None
    assert config["prompt_embeds"] is None
    assert config["num_inference_steps"] == 2
    source.rename(tmp_path / "away")
    rows.unlink()
    _same(model, tmp_path / "saved")


def test_a_trained_backbone_is_copied(source: Path, tmp_path: Path) -> None:
    model = _model(source)
    with torch.no_grad():
        next(model.generator.parameters()).add_(1.0)
    model.mark_trained("backbone")
    model.save_pretrained(tmp_path / "saved")
    assert any(name.startswith("generator.") for name in _names(tmp_path / "saved"))
    _same(model, tmp_path / "saved")


def test_a_trained_backbone_is_left_out_under_a_warning_only(source: Path, tmp_path: Path) -> None:
    model = _model(source)
    model.mark_trained("backbone", "renderer")
    with pytest.warns(UserWarning, match="its trained weights are not saved"):
        model.save_pretrained(tmp_path / "saved", include_backbone=False)
    assert rdvfi.create_model(tmp_path / "saved").untrained_parts() == ["backbone", "trajectory"]


def test_a_backbone_that_was_replaced_is_copied(source: Path, tmp_path: Path) -> None:
    torch.manual_seed(8)
    rdvfi.build("rdvfi-d", "backbone.size=toy", *SMALL).save_pretrained(tmp_path / "other")
    model = _model(source)
    model.load_part("backbone", tmp_path / "other")
    with pytest.raises(ValueError, match="no source to refer to"):
        model.save_pretrained(tmp_path / "saved", include_backbone=False)
    model.save_pretrained(tmp_path / "saved")
    _same(model, tmp_path / "saved")


def test_a_backbone_without_a_source_cannot_be_referred_to(tmp_path: Path) -> None:
    model = rdvfi.build("rdvfi-d", "backbone.size=toy", *SMALL)
    with pytest.raises(ValueError, match="no source to refer to"):
        model.save_pretrained(tmp_path / "saved", include_backbone=False)
    assert not (tmp_path / "saved").exists()


def test_a_source_that_is_gone_is_named(source: Path, tmp_path: Path) -> None:
    _model(source).save_pretrained(tmp_path / "saved")
    source.rename(tmp_path / "away")
    with pytest.raises((ValueError, FileNotFoundError), match="wan is neither a folder nor a hub"):
        rdvfi.create_model(tmp_path / "saved")


def test_a_source_of_another_size_is_refused(source: Path) -> None:
    with pytest.raises(ValueError, match=r"not of size '1\.3b': num_attention_heads is 2, expect"):
        rdvfi.backbones.create("wan", source=str(source))
    with pytest.raises(ValueError, match=r"size must be one of 1\.3b, toy; got 'huge'"):
        rdvfi.backbones.create("wan", size="huge")
    with pytest.raises(ValueError, match="revision 'main' without a source"):
        rdvfi.backbones.create("wan", size="toy", revision="main")


def test_pretrained_weights_as_they_were_trained_need_no_training(source: Path) -> None:
    ready = _model(source, "backbone.layout=CAUSAL_25", "backbone.num_inference_steps=4")
    assert "backbone" not in ready.untrained_parts()
    assert "backbone" in _model(source).untrained_parts()
