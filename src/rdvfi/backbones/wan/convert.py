"""``rdvfi convert``: conversion of the original Wan2.1-Fun-InP file to diffusers' format.

The publisher's repository holds one safetensors file under the original names and no configuration
that diffusers reads; its `from_single_file` would take the file for a text-to-video model and fetch
the configuration of that one. Here names are changed by the table that `from_single_file` uses,
values and types are kept bit for bit, every name and shape is checked against the architecture, and
the configuration is written beside. The result appears under its name only when it is complete.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdvfi._tensors import tensor_difference
from rdvfi.backbones.merge_lora import read_tensors
from rdvfi.backbones.pretrained_parts import load_part, prepare_diffusers
from rdvfi.backbones.wan.architecture import fresh_transformer


def convert_transformer(file: Path, folder: Path, *, size: str = "1.3b") -> None:
    """Write ``folder/transformer`` from an original file.

    Args:
        file: The original ``diffusion_pytorch_model.safetensors``.
        folder: Folder in which ``transformer`` is written.
        size: Size of the architecture, see `rdvfi.backbones.wan.architecture`.

    Raises:
        FileNotFoundError: If there is no such file.
        FileExistsError: If there is a transformer already.
        ValueError: If the file is damaged, or holds another model.
    """
    target = folder / "transformer"
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    with torch.device("meta"):
        model = fresh_transformer(size)
    state = _read_as_diffusers(file, model, size)
    model.load_state_dict(state, assign=True)
    _write(model, target)


def copy_autoencoder(source: str, folder: Path, *, revision: str | None = None) -> None:
    """Write ``folder/vae`` from a folder or hub id in diffusers' format.

    Raises:
        FileExistsError: If there is one already.
        FileNotFoundError, ConnectionError, ValueError: See `rdvfi.backbones.pretrained_parts.load_part`.
    """
    target = folder / "vae"
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    prepare_diffusers()
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    _write(load_part(AutoencoderKLWan, source, "vae", revision=revision), target)


def _write(model: Any, target: Path) -> None:
    """Save beside, and rename when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        whole = Path(beside) / target.name
        model.save_pretrained(whole)
        whole.rename(target)


def _read_as_diffusers(file: Path, model: nn.Module, size: str) -> dict[str, torch.Tensor]:
    """The file's tensors under diffusers' names, all of them and nothing else."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    state = convert_wan_transformer_to_diffusers(read_tensors(file))
    difference = tensor_difference(model.state_dict(), {name: tuple(tensor.shape) for name, tensor in state.items()})
    if difference:
        raise ValueError(f"{file} is not Wan2.1-Fun-InP of size {size!r}: {difference}")
    return state
