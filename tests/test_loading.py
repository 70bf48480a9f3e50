"""Parts of diffusers pipelines: whole, pinned, of the right class, or refused with a reason."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from rdvfi._hub import is_hub_id
from rdvfi.backbones.pretrained_parts import (
    apply_keeping_float32,
    kept_in_float32,
    load_part,
    prepare_diffusers,
)

prepare_diffusers()
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan  # noqa: E402
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KEY = "blocks.0.ffn.net.2.bias"


def _transformer() -> WanTransformer3DModel:
    torch.manual_seed(0)
    return WanTransformer3DModel(
        num_attention_heads=1,
        attention_head_dim=12,
        in_channels=36,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        image_dim=4,
        added_kv_proj_dim=12,
        rope_max_seq_len=32,
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    _transformer().save_pretrained(tmp_path / "transformer")
    return tmp_path


def _weights(folder: Path) -> Path:
    return folder / "transformer" / "diffusion_pytorch_model.safetensors"


def test_a_part_comes_back_bit_for_bit_in_eval_mode(saved: Path) -> None:
    loaded = load_part(WanTransformer3DModel, saved, "transformer")
    expected = _transformer().state_dict()
    assert not loaded.training
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())


def test_islands_stay_in_float32_on_loading_and_on_casting(saved: Path) -> None:
    loaded = load_part(WanTransformer3DModel, saved, "transformer", dtype=torch.bfloat16)
    whole = nn.ModuleList([load_part(WanTransformer3DModel, saved, "transformer")])
    expected = {name: p.clone() for name, p in whole[0].named_parameters()}

    class Holder(nn.ModuleList):
        def _apply(self, fn, recurse=True):
            return super()._apply(apply_keeping_float32(fn, *self), recurse)

    cast = Holder(whole).to(torch.bfloat16)[0]
    for name, parameter in loaded.named_parameters():
        island = id(parameter) in kept_in_float32(loaded)
        assert parameter.dtype == (torch.float32 if island else torch.bfloat16), name
        assert torch.equal(cast.get_parameter(name), parameter), name
        if island:
            assert torch.equal(parameter, expected[name]), name
    named = [n for n, p in loaded.named_parameters() if p.dtype == torch.float32]
    assert "condition_embedder.time_embedder.linear_1.weight" in named
    assert "blocks.0.scale_shift_table" in named
    assert "blocks.0.norm2.weight" in named
    assert "proj_out.weight" not in named


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(KEY), f"not a whole WanTransformer3DModel: missing {KEY}"),
        (lambda state: state.update(stray=torch.zeros(1)), "unexpected stray"),
        (lambda state: state.update({KEY: torch.zeros(7)}), f"cannot be loaded: .*{KEY}"),
    ],
)
def test_a_part_that_is_not_whole_is_refused(saved: Path, change, message: str) -> None:
    state = safetensors.torch.load_file(_weights(saved))
    change(state)
    safetensors.torch.save_file(state, _weights(saved))
    with pytest.raises(ValueError, match=message):
        load_part(WanTransformer3DModel, saved, "transformer")


def test_a_config_for_more_layers_leaves_nothing_without_values(saved: Path) -> None:
    path = saved / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_layers": 2}))
    with pytest.raises(ValueError, match=r"missing blocks\.1\.attn1.* and \d+ more"):
        load_part(WanTransformer3DModel, saved, "transformer")


@pytest.mark.parametrize("content", [b"", b"half"])
def test_damaged_files_are_refused(saved: Path, content: bytes) -> None:
    _weights(saved).write_bytes(content)
    with pytest.raises(ValueError, match="transformer cannot be loaded: Unable to load weights"):
        load_part(WanTransformer3DModel, saved, "transformer")


def test_what_is_not_there_is_named(saved: Path) -> None:
    with pytest.raises(ValueError, match="holds a WanTransformer3DModel; expected a AutoencoderKL"):
        load_part(AutoencoderKLWan, saved, "transformer")
    with pytest.raises(FileNotFoundError, match=r"vae holds no config\.json"):
        load_part(AutoencoderKLWan, saved, "vae")
    with pytest.raises(FileNotFoundError, match="neither a folder nor a hub id"):
        load_part(AutoencoderKLWan, saved / "nothing", "vae")
    with pytest.raises(ValueError, match="is a folder and has no revision"):
        load_part(WanTransformer3DModel, saved, "transformer", revision=COMMIT)
    _weights(saved).rename(saved / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"holds no diffusion_pytorch_model\*\.safetensors"):
        load_part(WanTransformer3DModel, saved, "transformer")


def test_the_original_format_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"dim": 1536, "in_dim": 36}')
    with pytest.raises(FileNotFoundError, match="original format: run `rdvfi convert`"):
        load_part(WanTransformer3DModel, tmp_path, "transformer")


@pytest.mark.parametrize("revision", [None, "main", "0123abc"])
def test_a_hub_model_must_be_pinned(revision: str | None) -> None:
    with pytest.raises(ValueError, match="full hash of a commit"):
        load_part(WanTransformer3DModel, "owner/name", "transformer", revision=revision)


def test_hub_ids_and_paths() -> None:
    assert is_hub_id("owner/name")
    assert not any(map(is_hub_id, ["name", "./name", "/a/b", "a/b/c", "~/b", Path("a/b")]))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub that is empty, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_without_a_network_the_error_says_how_to_get_the_model(offline: Path) -> None:
    with pytest.raises(ConnectionError) as caught:
        load_part(WanTransformer3DModel, "owner/name", "transformer", revision=COMMIT)
    assert "'owner/name' is not a folder here, and cannot be fetched" in str(caught.value)
    assert f"hf download owner/name --revision {COMMIT}" in str(caught.value)
    assert not offline.exists()


def test_a_cached_commit_is_found_without_a_network(offline: Path) -> None:
    snapshot = offline / "models--owner--name" / "snapshots" / COMMIT
    _transformer().save_pretrained(snapshot / "transformer")
    part = load_part(WanTransformer3DModel, "owner/name", "transformer", revision=COMMIT)
    assert part.config["in_channels"] == 36
    with pytest.raises((ConnectionError, FileNotFoundError), match="name"):
        load_part(AutoencoderKLWan, "owner/name", "vae", revision=COMMIT)
