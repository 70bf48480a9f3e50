"""Slim checkpoints: small files that take a run to another machine.

Weights and averages are stored in half precision, in shards of at most `SHARD_BYTES`; the
optimiser's moments are dropped, and the learning rate rises anew over the first steps. A manifest
names every tensor's shape and every shard's hash, so what arrives incomplete is refused. Large
tensors are cut into pieces.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rdvfi.training.engine.checkpoints import State

FORMAT = "rdvfi-slim-1"
SHARD_BYTES = 15_000_000
"""Largest size of a file."""
MANIFEST = "slim.json"
_HEADER_BYTES = 200
"""Room for one piece's entry in a shard's header."""

_GROUPS = ("weights", "averages")


def save_slim(folder: Path, state: State, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write weights and averages in half precision; an older slim checkpoint there is replaced.

    Raises:
        ValueError: If a weight is too large for half precision, or not a number.
    """
    tensors = {
        f"{group}/{name}": _half(name, tensor) for group in _GROUPS for name, tensor in getattr(state, group).items()
    }
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    hashes = {}
    for number, shard in enumerate(_shards(tensors, shard_bytes)):
        path = partial / f"slim-{number:04d}.safetensors"
        save_file(shard, path)
        hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {
        "format": FORMAT,
        "step": state.step,
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "shards": hashes,
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_slim(folder: Path) -> State:
    """Read a slim checkpoint: float32 weights and averages, and no moments.

    Raises:
        FileNotFoundError: If there is none in ``folder``, or a shard is missing.
        ValueError: If it is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no slim checkpoint ({MANIFEST})")
    try:
        manifest = json.loads(path.read_text())
        shapes, shards, step = manifest["shapes"], manifest["shards"], int(manifest["step"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the manifest of a slim checkpoint: {error}") from error
    pieces: dict[str, Tensor] = {}
    for name, expected in shards.items():
        shard = folder / Path(name).name
        if not shard.exists():
            raise FileNotFoundError(f"{folder} lacks {name}, a shard of the slim checkpoint")
        if hashlib.sha256(shard.read_bytes()).hexdigest() != expected:
            raise ValueError(f"{shard} is damaged: its hash is not the manifest's")
        pieces |= load_file(shard)
    state = State(step, {}, {})
    for key, shape in shapes.items():
        group, name = key.split("/", 1)
        getattr(state, group)[name] = _joined(key, shape, pieces)
    return state


def _half(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not bool(torch.isfinite(half).all()):
        raise ValueError(f"{name} holds values that half precision cannot hold")
    return half


def _shards(tensors: dict[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    used = 0
    for name, tensor in tensors.items():
        flat = tensor.contiguous().flatten()
        most = max(1, (limit // 2) // flat.element_size())
        for number in range(max(1, math.ceil(flat.numel() / most))):
            piece = flat[number * most : (number + 1) * most].clone()
            size = piece.numel() * piece.element_size() + len(name) + _HEADER_BYTES
            if shard and used + size > limit:
                yield shard
                shard, used = {}, 0
            shard[f"{name}#{number}"] = piece
            used += size
    if shard:
        yield shard


def _joined(key: str, shape: list[int], pieces: dict[str, Tensor]) -> Tensor:
    parts: list[Tensor] = []
    while f"{key}#{len(parts)}" in pieces:
        parts.append(pieces[f"{key}#{len(parts)}"])
    flat = torch.cat(parts) if parts else torch.empty(0)
    if flat.numel() != math.prod(shape):
        raise ValueError(f"the slim checkpoint is damaged: {key} is not whole")
    flat = flat.float() if flat.is_floating_point() else flat
    return flat.reshape(shape)
