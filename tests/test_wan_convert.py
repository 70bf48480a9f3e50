"""The original file of Wan becomes diffusers' format, bit for bit, or is refused."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from rdvfi.backbones.pretrained_parts import load_part
from rdvfi.backbones.wan.architecture import fresh_autoencoder, fresh_transformer
from rdvfi.backbones.wan.convert import convert_transformer, copy_autoencoder
from rdvfi.backbones.wan.names import to_diffusers
from rdvfi_cli.main import main

_ORIGINAL = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("proj_out", "head.head"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    ("to_out.0", "o"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("add_k_proj", "k_img"),
    ("add_v_proj", "v_img"),
    ("norm_added_k", "norm_k_img"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
)
"""diffusers' names and the original's, as its source has them."""


def original_name(name: str) -> str:
    """The name that a parameter of diffusers' class has in the original repository."""
    if name == "scale_shift_table":
        return "head.modulation"
    for theirs, original in _ORIGINAL:
        name = f".{name}.".replace(f".{theirs}.", f".{original}.").strip(".")
    name = name.replace("scale_shift_table", "modulation")
    return name.replace(".norm2.", ".norm3.") if name.startswith("blocks.") else name


@pytest.fixture
def original(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A file as its publisher writes it, and its tensors under diffusers' names."""
    torch.manual_seed(1)
    state = {k: v.bfloat16() for k, v in fresh_transformer("toy").state_dict().items()}
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    safetensors.torch.save_file({original_name(k): v for k, v in state.items()}, file)
    return file, state


def test_conversion_is_bit_for_bit(original, tmp_path: Path) -> None:
    file, state = original
    convert_transformer(file, tmp_path / "wan", size="toy")
    written = safetensors.torch.load_file(tmp_path / "wan" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert written.keys() == state.keys()
    for name, tensor in written.items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, state[name]), name
    assert [path.name for path in (tmp_path / "wan").iterdir()] == ["transformer"]


def test_what_was_converted_is_what_diffusers_reads_from_the_original(original, tmp_path: Path) -> None:
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    file, _ = original
    convert_transformer(file, tmp_path / "wan", size="toy")
    ours = load_part(WanTransformer3DModel, tmp_path / "wan", "transformer")
    theirs: Any = WanTransformer3DModel.from_single_file(
        str(file), config=str(tmp_path / "wan" / "transformer"), local_files_only=True
    )
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    x, t = torch.randn(1, 36, 3, 4, 4), torch.tensor([1000.0])
    context = torch.zeros(1, 512, 16), torch.zeros(1, 257, 4)
    with torch.no_grad():
        assert torch.equal(ours(x, t, *context).sample, theirs(x, t, *context).sample)


def test_every_original_module_has_its_place() -> None:
    names = [
        name.removesuffix(".weight") for name, _ in fresh_transformer("toy").named_parameters() if ".weight" in name
    ]
    assert [to_diffusers(original_name(f"{name}.weight").removesuffix(".weight")) for name in names] == names
    assert to_diffusers("blocks.3.cross_attn.k_img") == "blocks.3.attn2.add_k_proj"


def test_the_full_size_has_the_parameters_of_the_published_model() -> None:
    with torch.device("meta"):
        model = fresh_transformer("1.3b")
    assert sum(p.numel() for p in model.parameters()) == 1_564_428_608


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head.head.bias"), r"missing tensors proj_out\.bias"),
        (lambda s: s.update(stray=torch.zeros(1)), "unknown tensors stray"),
        (lambda s: s.update({"head.head.bias": torch.zeros(7)}), r"shape \(7,\), expected \(64,\)"),
    ],
)
def test_another_model_is_refused_and_nothing_is_written(original, tmp_path: Path, change, message: str) -> None:
    state = safetensors.torch.load_file(original[0])
    change(state)
    safetensors.torch.save_file(state, original[0])
    with pytest.raises(ValueError, match=message):
        convert_transformer(original[0], tmp_path / "wan", size="toy")
    assert not (tmp_path / "wan").exists()


def test_the_command_converts_and_copies_the_autoencoder(
    original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vae: Any = fresh_autoencoder("toy")
    vae.save_pretrained(tmp_path / "t2v" / "vae")
    words = ["convert", str(original[0]), str(tmp_path / "wan"), "--size", "toy"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--vae", str(tmp_path / "t2v")])
    assert ended.value.code == 0
    assert capsys.readouterr().out.count("written") == 2
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "transformer exists already" in capsys.readouterr().err
    with pytest.raises(FileExistsError, match="vae exists already"):
        copy_autoencoder(str(tmp_path / "t2v"), tmp_path / "wan")
