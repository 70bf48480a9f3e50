"""Training checkpoints: plain tensors and numbers, written atomically.

A checkpoint is one safetensors file with weights, averaged weights and the optimiser's state, and the plain
numbers as JSON in the file's header; nothing is pickled. It is written to a temporary file, flushed and renamed, so
a file under the final name is complete. The last few are kept. A checksum of all tensors detects damaged files.

accelerate's ``save_state`` is not used: it pickles, does not write its several files atomically, and does
not keep earlier checkpoints as a fallback.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rdvfi._tensors import tensor_difference

FORMAT = "rdvfi-training-1"


@dataclass(frozen=True, eq=False)
class TrainingState:
    """The state of a run, on the CPU, after ``step`` optimiser steps.

    ``moments`` are the tensors of the optimiser by ``name/key``; ``numbers`` those of optimiser and engine.
    """

    step: int
    weights: dict[str, Tensor]
    averages: dict[str, Tensor]
    moments: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


class DamagedCheckpointError(ValueError):
    """A file that is not a complete checkpoint."""


class Checkpoints:
    """The checkpoints of one stage in one folder."""

    def __init__(self, folder: Path, name: str, keep: int) -> None:
        self.folder, self.name, self.keep = folder, name, keep

    def paths(self) -> list[Path]:
        """Paths of the checkpoints, newest first."""
        pattern = re.compile(rf"{re.escape(self.name)}-\d{{9}}\.safetensors")
        files = self.folder.glob(f"{self.name}-*.safetensors")
        return sorted((path for path in files if pattern.fullmatch(path.name)), reverse=True)

    def write(self, state: TrainingState) -> Path:
        """Write a checkpoint and delete the oldest; returns its path.

        Raises:
            OSError: If it cannot be written; earlier ones are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}-{state.step:09d}.safetensors"
        partial = path.with_suffix(".partial")
        try:
            _write(partial, state)
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            existing = self.paths()
            last_good = f"the last good one is {existing[0]}" if existing else "there is none yet"
            raise OSError(
                f"the checkpoint of step {state.step} of {self.name} cannot be written to "
                f"{self.folder}: {error}; {last_good}"
            ) from error
        for old in self.paths()[self.keep :]:
            old.unlink()
        return path

    def load_newest(self, report: Callable[[str], None]) -> TrainingState | None:
        """The newest undamaged checkpoint, or None if there are no checkpoints.

        Raises:
            ValueError: If all checkpoints are damaged.
        """
        damaged: list[str] = []
        paths = self.paths()
        for path, previous in zip(paths, (*paths[1:], None), strict=False):
            try:
                return read_checkpoint(path)
            except DamagedCheckpointError as error:
                fallback = f"trying the previous one, {previous}" if previous else "there is no earlier one"
                report(f"{self.name}: {error}; {fallback}")
                damaged.append(str(error))
        if damaged:
            raise ValueError(
                f"no checkpoint of {self.name} in {self.folder} can be read ({damaged[0]}); delete them to start again"
            )
        return None


def read_checkpoint(path: Path) -> TrainingState:
    """Read a checkpoint.

    Raises:
        DamagedCheckpointError: If the file is truncated, changed, not a checkpoint, or has non-finite values.
    """
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "averages": {}, "moments": {}}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = dict(json.loads((file.metadata() or {}).get("rdvfi", "{}")))
            for key in file.keys():
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
        state = TrainingState(int(header["step"]), **groups, numbers=dict(header["numbers"]))
    except (SafetensorError, LookupError, TypeError, ValueError, OSError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path} is damaged or not a checkpoint of a training run: {error}") from error
    if header.get("format") != FORMAT:
        raise DamagedCheckpointError(f"{path} is not a checkpoint of a training run")
    tensors = _named_tensors(state)
    checksum = _checksum(tensors)
    if header.get("checksum", checksum) != checksum:  # version 0.1.0 wrote none
        raise DamagedCheckpointError(f"{path} is damaged: its checksum does not match")
    non_finite = [name for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if non_finite:
        raise DamagedCheckpointError(f"{path} has values that are not finite ({non_finite[0]})")
    return state


def check_tensor_names(source: str, expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    """Raise a ValueError if a name or a shape of the tensors of ``source`` differs from those of this model."""
    difference = tensor_difference(expected, {name: tuple(tensor.shape) for name, tensor in got.items()})
    if difference:
        raise ValueError(f"{source} is of another model or stage: {difference}")


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the output folder of a run, since two runs would mix their checkpoints. Does nothing on Windows.

    Raises:
        ValueError: If another run has locked it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is training into {folder}; wait for it, or give another `out`") from None
        except OSError:
            pass  # the file system does not support locks
        yield
    finally:
        os.close(handle)


def _named_tensors(state: TrainingState) -> dict[str, Tensor]:
    return {
        f"{group}/{name}": tensor.contiguous()
        for group in ("weights", "averages", "moments")
        for name, tensor in getattr(state, group).items()
    }


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(path: Path, state: TrainingState) -> None:
    tensors = _named_tensors(state)
    header = {"format": FORMAT, "step": state.step, "numbers": state.numbers, "checksum": _checksum(tensors)}
    save_file(tensors, path, metadata={"rdvfi": json.dumps(header)})
    with path.open("rb") as file:
        os.fsync(file.fileno())
