"""The checks of ``rdvfi doctor``: installed packages, devices, codecs, and what is missing.

It has to work where little else does. Nothing of `rdvfi` is imported here; torch, PyAV and plug-ins are
tried in processes of their own, so that one that is missing, broken, or ends its process is a line of the
answer and not the end of it.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds that a tried module may take."""
_LITTLE_SPACE = 2 * 2**30
"""Free bytes for temporary files below which long jobs may fail."""

COSTS = {
    "demo": "no page in the browser (rdvfi serve)",
    "onnx": "no export to ONNX (rdvfi export onnx)",
    "vapoursynth": "no filter for VapourSynth",
    "ray": "no interpolation on a cluster (--ray)",
    "metrics": "rdvfi evaluate has PSNR and SSIM, and no metric of these packages",
    "vmaf": "rdvfi evaluate has VMAF only where the system's FFmpeg has libvmaf",
    "generators": "no text encoder for the generative models that rdvfi evaluate compares with",
    "plot": "no plots of trajectories and sweeps",
    "flow": "no flow of torchvision (raft)",
    "train": "no LPIPS loss and no TensorBoard log in training",
    "docs": "the documentation cannot be built here",
    "dev": "the project's own tests cannot be run here",
}
"""What is missing without an extra."""

ENCODERS = {
    "libx264": "no H.264 by the processor",
    "libx265": "no H.265 by the processor",
    "libsvtav1": "no AV1",
    "libvpx-vp9": "no VP9, and no transparency in WebM",
    "ffv1": "no lossless FFV1",
    "prores_ks": "no ProRes",
}
HARDWARE = (
    "h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "h264_vaapi", "h264_amf", "h264_videotoolbox",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    section: str
    name: str
    state: str
    """'ok', 'missing' (of what is optional), or 'broken' (nothing works as it should without it)."""
    detail: str
    cost: str = ""
    """What its absence costs, and what to do."""


def examine() -> Iterator[Finding]:
    """Every finding, in order."""
    yield from _machine()
    yield from _torch()
    yield from _packages()
    yield from _media()
    yield from _extras()
    yield from _models()
    yield from _plugins()
    yield from _caches()


def tried(program: str) -> dict[str, Any]:
    """What a program prints as JSON in a process of its own; under ``error`` why it did not."""
    command = [sys.executable, "-c", program]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {PATIENCE:.0f} s"}
    try:
        return json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = [line for line in run.stderr.splitlines() if line.strip()]
        return {"error": lines[-1].strip()[:300] if lines else f"its process ended with code {run.returncode}"}


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    cost = "" if fine else "rdvfi needs Python 3.11 or newer"
    yield Finding("machine", "rdvfi", "ok", importlib.metadata.version("rdvfi"))
    yield Finding("machine", "python", "ok" if fine else "broken", f"{version}, {sys.executable}", cost)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = f", {_memory() / 2**30:.0f} GiB of memory" if _memory() else ""
    yield Finding("machine", "system", "ok", f"{platform.platform()}, {cores} cores{memory}")


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


_TORCH = """
import json, torch
x = torch.ones(4, 4) @ torch.ones(4, 4)
assert float(x.sum()) == 64.0, "it multiplies wrongly"
cuda = torch.cuda.is_available()
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
mps = getattr(torch.backends, "mps", None)
print(json.dumps({
    "version": torch.__version__, "threads": torch.get_num_threads(), "built": torch.version.cuda,
    "devices": [f"{d.name}, {d.total_memory / 2**30:.0f} GiB, compute capability {d.major}.{d.minor}" for d in devices],
    "mps": bool(mps and mps.is_available()),
}))
"""


def _torch() -> Iterator[Finding]:
    found = tried(_TORCH)
    if "error" in found:
        cost = "nothing but this report works; install it again: pip install --force-reinstall torch"
        yield Finding("torch", "torch", "broken", found["error"], cost)
        return
    yield Finding("torch", "torch", "ok", f"{found['version']}, {found['threads']} threads")
    for index, device in enumerate(found["devices"]):
        yield Finding("torch", f"cuda:{index}", "ok", device)
    if not found["devices"]:
        why = (
            f"built for CUDA {found['built']}, and there is no GPU or driver"
            if found["built"]
            else "built without CUDA"
        )
        yield Finding(
            "torch", "cuda", "missing", why, "the processor computes, in float32; docs/guides/performance.md has times"
        )
    if found["mps"]:
        yield Finding("torch", "mps", "ok", "Apple's GPU, with --device mps")
    triton = _version("triton")
    if triton:
        yield Finding("torch", "triton", "ok", triton)
    else:
        cost = (
            "kernels of plain torch draw on a GPU, several times slower"
            if found["devices"]
            else "nothing, without CUDA"
        )
        yield Finding("torch", "triton", "missing", "not installed", cost)


def _packages() -> Iterator[Finding]:
    """Whether every requirement of rdvfi itself is installed in a version that it allows."""
    wrong = [line for line in _requirements(None) if _unmet(line)]
    for line in wrong:
        name = _name(line)
        have = _version(name)
        detail = f"{have} is installed, {line} is needed" if have else f"not installed, {line} is needed"
        yield Finding("packages", name, "broken", detail, f"pip install '{line}'")
    if not wrong:
        yield Finding("packages", "requirements", "ok", "all are installed, in versions that rdvfi allows")


def _extras() -> Iterator[Finding]:
    for extra in sorted(importlib.metadata.metadata("rdvfi").get_all("Provides-Extra") or []):
        lines = list(_requirements(extra))
        missing = sorted({_name(line) for line in lines if _unmet(line)})
        if not lines:
            yield Finding("extras", extra, "missing", "not for this version of Python", COSTS.get(extra, ""))
        elif missing:
            cost = f"{COSTS.get(extra, 'what needs it')}; pip install 'rdvfi[{extra}]'"
            yield Finding("extras", extra, "missing", f"without {', '.join(missing)}", cost)
        else:
            yield Finding("extras", extra, "ok", ", ".join(sorted({_name(line) for line in lines})))


def _requirements(extra: str | None) -> Iterator[str]:
    """Requirements that hold on this machine: those of an extra, or those without one."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # it comes with the hub's client
        for line in importlib.metadata.requires("rdvfi") or []:
            text, _, marker = line.partition(";")
            if (f"extra == '{extra}'" in marker.replace('"', "'")) if extra else ("extra" not in marker):
                yield text.strip()
        return
    for line in importlib.metadata.requires("rdvfi") or []:
        requirement = Requirement(line)
        marker = requirement.marker
        plain = marker is None or marker.evaluate({"extra": ""})
        if (marker is not None and not plain and marker.evaluate({"extra": extra})) if extra else plain:
            yield line.partition(";")[0].strip()


def _unmet(line: str) -> bool:
    have = _version(_name(line))
    if have is None:
        return True
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return False
    return not Requirement(line).specifier.contains(have, prereleases=True)


def _name(line: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", line)
    return match[0] if match else line


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_MEDIA = """
import json, sys, av
from fractions import Fraction
av.logging.set_level(None)
def problem(name):
    try:
        codec = av.CodecContext.create(name, "w")
    except Exception:
        return "not in this build"
    try:
        codec.width, codec.height, codec.time_base, codec.framerate = 256, 256, Fraction(1, 25), Fraction(25)
        codec.pix_fmt = codec.codec.video_formats[0].name
        codec.open()
    except Exception as error:
        return f"built in, and does not open ({type(error).__name__})"
    return ""
def decoding():
    from av.codec.hwaccel import HWAccel, hwdevices_available
    if "cuda" not in hwdevices_available():
        return "this build of FFmpeg knows no CUDA"
    try:
        HWAccel("cuda").create(av.Codec("h264", "r"))
    except Exception as error:
        return f"no device opens ({getattr(error, 'strerror', None) or error})"
    return ""
versions = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
print(json.dumps({"av": av.__version__, "libraries": versions, "encoders": {name: problem(name) for name in NAMES},
                  "decoding": decoding()}))
"""


def _media() -> Iterator[Finding]:
    found = tried(_MEDIA.replace("NAMES", repr([*ENCODERS, *HARDWARE])))
    if "error" in found:
        yield Finding("video", "av", "broken", found["error"], "no video can be read or written: pip install av")
        return
    codec = found["libraries"].get("libavcodec", "?")
    yield Finding("video", "av", "ok", f"PyAV {found['av']} with FFmpeg's libavcodec {codec} inside")
    for name, cost in ENCODERS.items():
        problem = found["encoders"][name]
        yield Finding("video", name, "missing" if problem else "ok", problem or "encodes", cost if problem else "")
    working = [name for name in HARDWARE if not found["encoders"][name]]
    if working:
        yield Finding("video", "hardware encoders", "ok", ", ".join(working))
    else:
        cost = "the processor encodes: beside a GPU that may be what limits the speed"
        yield Finding("video", "hardware encoders", "missing", f"none of {', '.join(HARDWARE)} opens", cost)
    problem = found["decoding"]
    cost = "the processor decodes: beside a GPU that may be what limits the speed" if problem else ""
    detail = problem or "decodes on the GPU (--hwaccel auto)"
    yield Finding("video", "hardware decoding", "missing" if problem else "ok", detail, cost)
    ffmpeg = shutil.which(os.environ.get("RDVFI_FFMPEG", "ffmpeg"))
    cost = "" if ffmpeg else "rdvfi evaluate has no VMAF and no minterpolate; nothing else needs it"
    yield Finding("video", "ffmpeg program", "ok" if ffmpeg else "missing", ffmpeg or "not found", cost)


def _models() -> Iterator[Finding]:
    spec = importlib.util.find_spec("rdvfi")  # finds it without importing it
    folder = Path(spec.origin).parent / "weights" if spec and spec.origin else Path()
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        size = file.stat().st_size
        whole = file.with_suffix(".json").exists() and size > 1000
        cost = "" if whole else "install rdvfi again"
        yield Finding("models", file.stem, "ok" if whole else "broken", f"{size / 1e6:.1f} MB, installed", cost)
    if not files:
        yield Finding("models", "weights", "broken", f"none in {folder}", "install rdvfi again; the wheel holds them")


_PLUGINS = """
import json, warnings
warnings.simplefilter("ignore")
from rdvfi._plugins import load_plugins
from rdvfi.registry import REGISTRIES
found = load_plugins(REGISTRIES)
print(json.dumps({"plugins": [[p.name, p.package, list(p.registered), p.failure] for p in found]}))
"""


def _plugins() -> Iterator[Finding]:
    announced = list(importlib.metadata.entry_points(group="rdvfi.plugins"))
    if not announced:
        yield Finding("plug-ins", "plug-ins", "ok", "none are installed")
        return
    found = tried(_PLUGINS)
    if "error" in found:
        yield Finding("plug-ins", "plug-ins", "broken", found["error"], "rdvfi itself cannot be imported")
        return
    for name, package, registered, failure in found["plugins"]:
        detail = failure or f"{package} registers {', '.join(registered) or 'nothing'}"
        cost = "it is left out; rdvfi plugins says more" if failure else ""
        yield Finding("plug-ins", name, "broken" if failure else "ok", detail, cost)


def _caches() -> Iterator[Finding]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    count = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    state = "HF_HUB_OFFLINE is set: nothing is fetched" if offline else "what is missing is fetched when it is named"
    yield Finding("files", "hub cache", "ok", f"{cache}, {count} models; {state}")
    torch_home = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch")
    names = sorted(path.name for path in (torch_home / "hub" / "checkpoints").glob("*.pth"))
    cost = "" if names else "LPIPS and FID need theirs there; docs/guides/evaluate.md says how"
    yield Finding("files", "networks of metrics", "ok" if names else "missing", ", ".join(names) or "none", cost)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    cost = "" if free > _LITTLE_SPACE else "long jobs may run out of it; TMPDIR names another place"
    detail = f"{folder}, {free / 2**30:.0f} GiB free"
    yield Finding("files", "temporary files", "missing" if cost else "ok", detail, cost)
