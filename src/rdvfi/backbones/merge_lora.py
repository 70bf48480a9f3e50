"""Merging a LoRA into a network: ``W += scale (alpha / rank) B A``.

A LoRA (Hu et al., ICLR 2022) is two thin matrices per layer, ``A`` (rank x in) and ``B`` (out x rank); added to the
weights once, it costs nothing afterwards. Files differ in how they name layers and matrices. Known here are the names
of peft and diffusers (``lora_A``, ``lora_B``), of kohya (``lora_down``, ``lora_up``, layers joined by underscores),
``alpha`` where it differs from the rank, and full differences of weights and biases (``diff``, ``diff_b``), which
distilled models carry. Every tensor of a file must find its place, or nothing is changed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rdvfi._small_text import check_regular

Rename = Callable[[str], str]
"""Another naming's name of a module to this network's, or to one that it has not."""

_PREFIXES = ("diffusion_model.", "model.diffusion_model.", "transformer.", "unet.", "lora_unet_")
_ENDINGS = {
    ".lora_A.weight": "down",
    ".lora_A.default.weight": "down",
    ".lora_down.weight": "down",
    ".lora.down.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.default.weight": "up",
    ".lora_up.weight": "up",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
    ".diff": "diff",
    ".diff_b": "diff_b",
}
_COUNTERPART = {"down": "up", "up": "down"}


@dataclass(frozen=True, eq=False)
class _Change:
    """The update of one parameter."""

    parameter: nn.Parameter
    difference: Tensor


def merge_lora(
    network: nn.Module, path: str | os.PathLike[str], *, scale: float = 1.0, rename: Rename = lambda name: name
) -> int:
    """Add a LoRA to the weights of a network, in place; returns how many parameters changed.

    Args:
        network: The network for which the LoRA was trained.
        path: Safetensors file of the LoRA.
        scale: Factor on its updates.
        rename: For files that name modules as another implementation does.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or a tensor fits nowhere. The network is then unchanged.
    """
    tensors = read_tensors(path)
    modules = _by_name(network)
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, kind = _split(key, path)
        module = _find(name, modules, rename)
        if module is None:
            raise ValueError(f"{path}: {key} fits no layer of this {type(network).__name__}")
        layers.setdefault(module, {})[kind] = tensor
    changes = [
        change
        for name, given in layers.items()
        for change in _changes(name, network.get_submodule(name), given, scale, path)
    ]
    with torch.no_grad():
        for change in changes:
            change.parameter.add_(change.difference.to(change.parameter))
    return len(changes)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged or empty.
    """
    check_regular(Path(path), "a safetensors file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
    if not tensors:
        raise ValueError(f"{path} holds no tensors")
    return tensors


def read_tensor(path: str | os.PathLike[str]) -> Tensor:
    """The one tensor of a safetensors file, in float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or does not hold exactly one tensor.
    """
    tensors = read_tensors(path)
    if len(tensors) != 1:
        raise ValueError(f"{path} must hold one tensor; got {', '.join(sorted(tensors))}")
    return next(iter(tensors.values())).float()


def _by_name(network: nn.Module) -> dict[str, str]:
    """Every module that has weights, by its name and by its name joined with underscores."""
    # Two namings may give one name to different layers, of which one has no weights.
    weights = [name for name, _ in network.named_parameters() if name.endswith(".weight")]
    names = [name.removesuffix(".weight") for name in weights]
    return {name.replace(".", "_"): name for name in names} | {name: name for name in names}


def _split(key: str, path: str | os.PathLike[str]) -> tuple[str, str]:
    for ending, kind in _ENDINGS.items():
        if key.endswith(ending):
            return key[: -len(ending)], kind
    raise ValueError(f"{path}: {key} is no tensor of a LoRA (known: {', '.join(_ENDINGS)})")


def _find(name: str, modules: dict[str, str], rename: Rename) -> str | None:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    name = name.removeprefix("_")
    candidates = (name, rename(name), rename(_with_dots(name)))
    return next((modules[candidate] for candidate in candidates if candidate in modules), None)


def _with_dots(name: str) -> str:
    """``blocks_3_cross_attn_k_img`` as ``blocks.3.cross_attn.k_img``."""
    head, _, rest = name.partition("_")
    number, _, inside = rest.partition("_")
    for group in ("self_attn", "cross_attn", "ffn"):
        if inside.startswith(f"{group}_"):
            return f"{head}.{number}.{group}.{inside[len(group) + 1 :]}"
    return name


def _changes(name: str, module: nn.Module, given: dict[str, Tensor], scale: float, path: object) -> list[_Change]:
    """The updates of a layer's weight and bias."""
    for kind, other in _COUNTERPART.items():
        if kind in given and other not in given:
            raise ValueError(f"{path}: {name} has only one of the two matrices of a LoRA")
    if "alpha" in given and "down" not in given:
        raise ValueError(f"{path}: {name} has an alpha but no matrices")
    changes = []
    if "down" in given:
        down, up = given["down"].float().flatten(1), given["up"].float().flatten(1)
        rank = len(down)
        if up.shape[1] != rank:
            raise ValueError(f"{path}: {name} has ranks {rank} and {up.shape[1]}")
        share = scale * (float(given["alpha"]) / rank if "alpha" in given else 1.0)
        changes.append(_change(name, module, "weight", share * (up @ down), path))
    for kind, parameter in (("diff", "weight"), ("diff_b", "bias")):
        if kind in given:
            changes.append(_change(name, module, parameter, scale * given[kind].float(), path))
    return changes


def _change(name: str, module: nn.Module, parameter: str, difference: Tensor, path: object) -> _Change:
    held = getattr(module, parameter, None)
    if not isinstance(held, nn.Parameter):
        raise ValueError(f"{path}: it changes {name}.{parameter}, which the network has not")
    # Convolutions are given as matrices: one row per output.
    if (len(held), held.numel()) != (len(difference), difference.numel()):
        raise ValueError(
            f"{path}: the change of {name}.{parameter} has shape {tuple(difference.shape)}, the "
            f"parameter {tuple(held.shape)}"
        )
    return _Change(held, difference.view_as(held))
