"""Training checkpoints: plain tensors and numbers, written atomically.

A checkpoint is one safetensors file: weights, averaged weights and the optimiser's state, each
tensor under a name of its own, with the plain numbers as JSON in the file's header. There is no
pickle. It is written beside its place, flushed, and renamed, so that whatever is found under the
final name is complete; the last few are kept. A checksum of all tensors tells what a disk or a copy damaged.

accelerate's ``save_state`` is not used: it pickles, writes several files that do not appear
together, and knows no last good one.
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
class State:
    """The state of a run, on the CPU.

    ``weights`` and ``averages`` have the names of the trained tensors; ``moments`` holds the
    optimiser's tensors as ``name/key``; ``numbers`` its plain numbers and our own.
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
        """Complete checkpoints, the newest first."""
        pattern = re.compile(rf"{re.escape(self.name)}-\d{{9}}\.safetensors")
        found = self.folder.glob(f"{self.name}-*.safetensors")
        return sorted((path for path in found if pattern.fullmatch(path.name)), reverse=True)

    def write(self, state: State) -> Path:
        """Write one and forget the oldest.

        Raises:
            OSError: If it cannot be written; those that are there stay.
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
            last = self.paths()
            good = f"the last good one is {last[0]}" if last else "there is none yet"
            raise OSError(
                f"the checkpoint of step {state.step} of {self.name} cannot be written to "
                f"{self.folder}: {error}; {good}"
            ) from error
        for old in self.paths()[self.keep :]:
            old.unlink()
        return path

    def newest(self, report: Callable[[str], None]) -> State | None:
        """The newest one that is whole, or None if there is none at all.

        Raises:
            ValueError: If there are some and every one is damaged.
        """
        damaged: list[str] = []
        paths = self.paths()
        for path, before in zip(paths, (*paths[1:], None), strict=False):
            try:
                return read_checkpoint(path)
            except DamagedCheckpointError as error:
                report(f"{self.name}: {error}; " + (f"trying the one before, {before}" if before else "it is the last"))
                damaged.append(str(error))
        if damaged:
            raise ValueError(
                f"no checkpoint of {self.name} in {self.folder} can be read ({damaged[0]}); delete them to begin anew"
            )
        return None


def read_checkpoint(path: Path) -> State:
    """Read one file.

    Raises:
        DamagedCheckpointError: If it is truncated, changed, not a checkpoint of ours, or not finite.
    """
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "averages": {}, "moments": {}}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            table = (file.metadata() or {}).get("rdvfi", "{}")
            head = dict(json.loads(table))
            for key in file.keys():
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
        state = State(int(head["step"]), **groups, numbers=dict(head["numbers"]))
    except (SafetensorError, LookupError, TypeError, ValueError, OSError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path} is damaged or not a checkpoint of a training run: {error}") from error
    if head.get("format") != FORMAT:
        raise DamagedCheckpointError(f"{path} is not a checkpoint of a training run")
    tensors = _tensors(state)
    if head.get("checksum", _checksum(tensors)) != _checksum(tensors):  # version 0.1.0 wrote none
        raise DamagedCheckpointError(f"{path} is damaged: its checksum is another")
    broken = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise DamagedCheckpointError(f"{path} holds values that are not finite ({broken[0]})")
    return state


def check_names(where: str, expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    """The tensors are those of this model; raises ValueError if a name or a shape differs."""
    difference = tensor_difference(expected, {name: tuple(tensor.shape) for name, tensor in got.items()})
    if difference:
        raise ValueError(f"{where} is of another model or stage: {difference}")


@contextlib.contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Hold a folder for this run: two that write to one would mix their checkpoints. Windows has no such lock.

    Raises:
        ValueError: If another run holds it.
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
            pass  # the file system has no locks
        yield
    finally:
        os.close(handle)


def _tensors(state: State) -> dict[str, Tensor]:
    return {
        f"{group}/{name}": tensor.contiguous()
        for group in ("weights", "averages", "moments")
        for name, tensor in getattr(state, group).items()
    }


def _checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all names and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _write(path: Path, state: State) -> None:
    tensors = _tensors(state)
    head = {"format": FORMAT, "step": state.step, "numbers": state.numbers, "checksum": _checksum(tensors)}
    save_file(tensors, path, metadata={"rdvfi": json.dumps(head)})
    with path.open("rb") as file:
        os.fsync(file.fileno())
