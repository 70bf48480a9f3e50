"""Recipes of training as their users write them: odd names, folders of their own, and what was trained."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rdvfi
from rdvfi.config.overrides import format_value, parse_override
from rdvfi.training.model_parts import mark_trained, save_parts
from rdvfi.training.recipes import compose_stages, expand_overrides

PLAIN = st.recursive(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))) | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_any_plain_value_is_read_again_by_hydras_grammar(value: object) -> None:
    assert parse_override(f"data.folder={format_value(value)}").value() == value


def test_numbers_of_a_sequence_keep_spaces_and_apostrophes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "stages: [rdvfi_s/synthesis]\n"
        "model: {overrides: ['basis=linear']}\n"
        "numbers:\n"
        '  every: {data: {folder: "Anna\'s clips, \\"old\\"", kinds: [procedural], samples: [2]}}\n'
        "  synthesis: {out: 'a folder', engine: {trackers: [tensorboard], max_minutes: null, rate: 2.0e-4}}\n"
    )
    (stage,) = compose_stages(str(tmp_path / "mine.yaml"), [])
    assert stage.data.folder == 'Anna\'s clips, "old"'
    assert stage.out == "a folder"
    assert (stage.engine.trackers, stage.engine.max_minutes, stage.engine.rate) == (["tensorboard"], None, 2e-4)
    assert stage.model.overrides == ["basis=linear"]


def test_paths_need_no_quotes(tmp_path: Path) -> None:
    odd = tmp_path / "a, b (c)"
    odd.mkdir()
    overrides = [f"data.clips={odd}", "out=Anna's run", "model.start=[odd"]
    (stage,) = compose_stages("rdvfi_s/finetune", overrides)
    assert (stage.data.folder, stage.out, stage.model.start) == (str(odd), "Anna's run", "[odd")
    assert stage.data.source.name == "clips"
    assert expand_overrides(expand_overrides(overrides)) == expand_overrides(overrides)
    with pytest.raises(ValueError, match="gives several values, which is a sweep"):
        compose_stages("rdvfi_s/finetune", ["data.clips=a,b"])


def test_a_folder_of_ones_own_gives_groups_to_stages_and_models(tmp_path: Path) -> None:
    (tmp_path / "renderer").mkdir()
    (tmp_path / "renderer" / "narrow.yaml").write_text("defaults: [synthesis, _self_]\nwidth: 16\n")
    wanted = ["data.clips=x", "model.start=null", "model.overrides=['renderer=narrow']"]
    for given_by in (expand_overrides(wanted, tmp_path), [*wanted, f"hydra.searchpath=[{tmp_path}]"]):
        (stage,) = compose_stages("rdvfi_s/finetune", given_by)
        assert stage.model.config_dir == str(tmp_path)
        model = rdvfi.build(stage.model.recipe, *stage.model.overrides, config_dir=stage.model.config_dir)
        assert model.pretrained().renderer["config"]["width"] == 16
    with pytest.raises(ValueError, match="no renderer named 'narrow'"):
        rdvfi.build(stage.model.recipe, *stage.model.overrides)
    with pytest.raises(ValueError, match=r"the folder of configurations .*nowhere does not exist"):
        compose_stages("rdvfi_s/finetune", expand_overrides(wanted, tmp_path / "nowhere"))


def test_only_what_was_trained_is_marked(tmp_path: Path) -> None:
    model = rdvfi.build("rdvfi_s", "coarse=dis", "trajectory=prior", "flow=null")
    assert model.untrained_parts() == ["backbone", "renderer"]
    save_parts(model, ["denoiser"], tmp_path / "keyframes.safetensors")
    save_parts(model, ["renderer"], tmp_path / "synthesis.safetensors")
    mark_trained(model, ["keyframes", "synthesis"], tmp_path)
    assert model.untrained_parts() == ["backbone"]  # nobody trained its autoencoder
    save_parts(model, ["autoencoder"], tmp_path / "autoencoder.safetensors")
    mark_trained(model, ["autoencoder", "keyframes", "synthesis"], tmp_path)
    assert model.untrained_parts() == []


def test_a_generator_with_a_coarse_flow_has_a_prior_by_it() -> None:
    class Plain(rdvfi.KeyframeGenerator):
        stride, latent_channels, gives_prior = 8, 3, True

        def __init__(self) -> None:
            super().__init__()
            self.coarse = rdvfi.flows.create("dis")

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return images[..., ::8, ::8]

        def denoise(self, noisy: torch.Tensor, sigma: torch.Tensor, condition: object) -> torch.Tensor:
            return noisy

    generator, frames = Plain(), torch.rand(2, 1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    made = generator(*frames, torch.zeros(generator.noise_shape(1, 32, 48)))
    assert made.prior is not None
    assert torch.equal(made.prior.end_flows, generator.coarse_flows(*frames))
    given_prior = generator.condition(*frames, prior=made.prior.flipped()).prior
    assert given_prior is not None
    assert torch.equal(given_prior.end_flows, made.prior.end_flows.flip(1))
