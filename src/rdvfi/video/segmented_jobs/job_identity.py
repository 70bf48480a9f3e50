"""The settings that the frames of a job depend on, to check that a resumed run has the same ones.

Sources and weights are identified by their content. Of large files and tensors only evenly spaced blocks and the size
are hashed: hashing 100 GB could take longer than the rest of a resumed run.
"""

import hashlib
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import rdvfi
from rdvfi.interpolator import Interpolator

_FULL_HASH_BYTES = 2**28
"""Size up to which files are hashed completely."""
_BLOCK_BYTES, _BLOCKS = 2**20, 128
"""Size of the blocks that are read, and their number in larger files."""
_MAX_VALUES = 2**18
"""Largest number of values that are hashed of one tensor."""


def job_identity(sources: Iterable[Path], settings: Mapping[str, Any], model: Interpolator) -> dict[str, str]:
    """The identity of a job by name, as `rdvfi.video.segmented_jobs.segment_store` stores and compares it."""
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    return {
        "the version of rdvfi": rdvfi.__version__,
        "the version of torch": torch.__version__,
        "the version of PyAV": version("av"),
        "the device": f"{device} {platform.machine()}",
        "the source": _digest(_source_blocks(sources)),
        "the model": _digest(_model_state(model)),
        **{key: _setting_text(value) for key, value in settings.items()},
    }


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _source_blocks(sources: Iterable[Path]) -> Iterator[bytes]:
    """The content of files, and of those in folders in order of name."""
    for path in sources:
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        for file in files:
            yield from _file_blocks(file)


def _file_blocks(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield size.to_bytes(8, "big")
    count = -(-size // _BLOCK_BYTES) if size <= _FULL_HASH_BYTES else _BLOCKS
    with open(path, "rb") as file:
        for k in range(count):
            file.seek(k * _BLOCK_BYTES if size <= _FULL_HASH_BYTES else k * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
            yield file.read(_BLOCK_BYTES)


def _model_state(model: Interpolator) -> Iterator[bytes]:
    try:
        yield repr(model.pretrained()).encode()
    except TypeError:  # a stage has no configuration
        yield "\n".join(str(stage) for stage in model.children()).encode()
    yield f"{model.dtype} {model.content_rules}".encode()
    for name, tensor in model.state_dict().items():
        values = tensor.detach().flatten()[:: max(1, tensor.numel() // _MAX_VALUES)]
        yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
        yield values.contiguous().cpu().view(torch.uint8).numpy().tobytes()


def _setting_text(value: Any) -> str:
    """A setting as text; a file is identified by its name and content."""
    if isinstance(value, str | os.PathLike) and (path := Path(value)).is_file():
        return f"{path.name} ({_digest(_file_blocks(path))})"
    return str(value)
