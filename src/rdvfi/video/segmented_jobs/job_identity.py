"""The settings that the frames of a job depend on, for checking that a resumed run has the same.

Sources and weights are told apart by their content. Of a large file or tensor, evenly spaced blocks are
read with the size: hashing a film of 100 GB would take longer than the rest of many a resumed run.
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

_WHOLE = 2**28
"""Files up to so many bytes are read whole."""
_BLOCK, _BLOCKS = 2**20, 128
_VALUES = 2**18
"""Values that are read of one weight at most."""


def job_identity(sources: Iterable[Path], settings: Mapping[str, Any], model: Interpolator) -> dict[str, str]:
    """What a job is, for `rdvfi.video.segmented_jobs.segment_store`.

    Args:
        sources: The files and folders that are read.
        settings: What was asked for, by name.
        model: Makes the frames.
    """
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    return {
        "the version of rdvfi": rdvfi.__version__,
        "the version of torch": torch.__version__,
        "the version of PyAV": version("av"),
        "the device": f"{device} {platform.machine()}",
        "the source": _digest(_content(sources)),
        "the model": _digest(_weights(model)),
        **{key: _plain(value) for key, value in settings.items()},
    }


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def _content(sources: Iterable[Path]) -> Iterator[bytes]:
    """The content of files, and of those in folders; names decide on the order alone."""
    for path in sources:
        files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
        for file in files:
            yield from _blocks(file)


def _blocks(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield size.to_bytes(8, "big")
    count = -(-size // _BLOCK) if size <= _WHOLE else _BLOCKS
    with open(path, "rb") as file:
        for k in range(count):
            file.seek(k * _BLOCK if size <= _WHOLE else k * (size - _BLOCK) // (_BLOCKS - 1))
            yield file.read(_BLOCK)


def _weights(model: Interpolator) -> Iterator[bytes]:
    """How a model is built and set, and what it has learned."""
    try:
        yield repr(model.pretrained()).encode()
    except TypeError:  # a part was built by hand
        yield "\n".join(str(stage) for stage in model.children()).encode()
    yield f"{model.dtype} {model.content_rules}".encode()
    for name, tensor in model.state_dict().items():
        values = tensor.detach().flatten()[:: max(1, tensor.numel() // _VALUES)]
        yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
        yield values.contiguous().cpu().view(torch.uint8).numpy().tobytes()


def _plain(value: Any) -> str:
    """A setting as text; a file that it names counts with its content."""
    if isinstance(value, str | os.PathLike) and (path := Path(value)).is_file():
        return f"{path.name} ({_digest(_blocks(path))})"
    return str(value)
