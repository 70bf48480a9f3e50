"""A LoRA is added to the weights exactly, whatever its file calls them, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import rdvfi
from rdvfi.backbones.merge_lora import merge_lora, read_tensor
from rdvfi.backbones.wan.architecture import fresh_transformer
from rdvfi.backbones.wan.generator import WanKeyframes
from rdvfi.backbones.wan.names import to_diffusers

LAYERS = {
    "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "blocks.1.attn2.to_out.0": "blocks.1.cross_attn.o",
    "blocks.1.attn2.add_k_proj": "blocks.1.cross_attn.k_img",
    "blocks.0.ffn.net.2": "blocks.0.ffn.2",
}
"""Layers by diffusers' names and by the original's."""
RANK, ALPHA = 3, 1.5


def _matrices(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    made = {}
    for name in LAYERS:
        out, wide = network.get_parameter(f"{name}.weight").shape
        made[name] = torch.randn(RANK, wide), torch.randn(out, RANK)
    return made


def _file(path: Path, matrices: dict[str, tuple[Tensor, Tensor]], naming: str) -> Path:
    """The same LoRA as peft, the original's repository and kohya's scripts would write it."""
    tensors = {}
    for name, (down, up) in matrices.items():
        other = LAYERS[name]
        if naming == "peft":
            tensors |= {
                f"transformer.{name}.lora_A.weight": down,
                f"transformer.{name}.lora_B.weight": up,
            }
            continue
        stem = f"diffusion_model.{other}"
        if naming == "kohya":
            stem = "lora_unet__" + other.replace(".", "_")
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        tensors[f"{stem}.alpha"] = torch.tensor(ALPHA)
    safetensors.torch.save_file(tensors, path)
    return path


@pytest.mark.parametrize("naming", ["peft", "original", "kohya"])
def test_weights_gain_the_product_of_both_matrices(tmp_path: Path, naming: str) -> None:
    network = fresh_transformer("toy")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    matrices = _matrices(network)
    file = _file(tmp_path / "lora.safetensors", matrices, naming)
    assert merge_lora(network, file, scale=0.7, rename=to_diffusers) == len(LAYERS)
    share = 0.7 * (1.0 if naming == "peft" else ALPHA / RANK)
    for name, tensor in network.state_dict().items():
        layer = name.removesuffix(".weight")
        expected = before[name]
        if layer in matrices:
            down, up = matrices[layer]
            expected = expected + share * up @ down
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-6)


def test_whole_differences_are_added_too(tmp_path: Path) -> None:
    network = fresh_transformer("toy")
    layer: Any = network.get_submodule("blocks.0.norm2")
    projection: Any = network.get_submodule("patch_embedding")
    before = layer.weight.clone(), layer.bias.clone(), projection.weight.clone()
    given = {
        "diffusion_model.blocks.0.norm3.diff": torch.randn(24),
        "diffusion_model.blocks.0.norm3.diff_b": torch.randn(24),
        "diffusion_model.patch_embedding.diff": torch.randn(24, 36, 1, 2, 2),
    }
    safetensors.torch.save_file(given, tmp_path / "lora.safetensors")
    assert merge_lora(network, tmp_path / "lora.safetensors", rename=to_diffusers) == 3
    after = layer.weight, layer.bias, projection.weight
    for was, difference, now in zip(before, given.values(), after, strict=True):
        torch.testing.assert_close(now, was + difference)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"blocks.9.attn1.to_q.lora_A.weight": (3, 24)}, "fits no layer of this WanTransformer3D"),
        ({"blocks.0.attn1.to_q.weight": (24, 24)}, "is no tensor of a LoRA"),
        ({"blocks.0.attn1.to_q.lora_A.weight": (3, 24)}, "only one of the two matrices"),
        ({"blocks.0.attn1.to_q.alpha": (1,)}, "an alpha but no matrices"),
        ({"blocks.0.norm1.diff": (24,)}, "norm1.diff fits no layer"),
        (
            {
                "blocks.0.attn1.to_q.lora_A.weight": (3, 24),
                "blocks.0.attn1.to_q.lora_B.weight": (24, 4),
            },
            "ranks 3 and 4",
        ),
        (
            {
                "blocks.0.attn1.to_q.lora_A.weight": (3, 20),
                "blocks.0.attn1.to_q.lora_B.weight": (24, 3),
            },
            r"to_q.weight has shape \(24, 20\), the parameter \(24, 24\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str
) -> None:
    network = fresh_transformer("toy")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    good = {
        "blocks.1.attn1.to_k.lora_A.weight": (3, 24),
        "blocks.1.attn1.to_k.lora_B.weight": (24, 3),
    }
    given = {name: torch.randn(shape) for name, shape in {**good, **tensors}.items()}
    safetensors.torch.save_file(given, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=message):
        merge_lora(network, tmp_path / "lora.safetensors", rename=to_diffusers)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_files_that_are_not_there_or_damaged_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        merge_lora(nn.Linear(2, 2), tmp_path / "nothing")
    (tmp_path / "half").write_bytes(b"half")
    with pytest.raises(ValueError, match="damaged or not a safetensors"):
        merge_lora(nn.Linear(2, 2), tmp_path / "half")
    safetensors.torch.save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "two")
    with pytest.raises(ValueError, match="must hold one tensor; got a, b"):
        read_tensor(tmp_path / "two")


def test_the_backbone_takes_a_lora(tmp_path: Path) -> None:
    torch.manual_seed(4)
    plain = rdvfi.backbones.create("wan", size="toy")
    assert isinstance(plain, WanKeyframes)
    file = _file(tmp_path / "lora.safetensors", _matrices(plain.transformer), "peft")
    torch.manual_seed(4)
    merged = rdvfi.backbones.create("wan", size="toy", lora=str(file), lora_scale=0.5)
    merge_lora(plain.transformer, file, scale=0.5)
    for name, tensor in merged.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
