"""The checks of ``rdvfi doctor``: installed packages, devices, codecs, and what is missing.

They have to work in a broken installation. Nothing of `rdvfi` is imported here; torch, PyAV and plug-ins are
imported in other processes, so that a package that is missing, broken, or ends its process becomes a finding
instead of ending the report.
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

TIMEOUT = 120.0
"""Seconds that a program in another process may take."""
_MIN_FREE_BYTES = 2 * 2**30
"""Free space for temporary files, in bytes, below which long jobs may fail."""

EXTRA_COSTS = {
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
"""Features that are missing without each extra."""

ENCODERS = {
    "libx264": "no H.264 by the processor",
    "libx265": "no H.265 by the processor",
    "libsvtav1": "no AV1",
    "libvpx-vp9": "no VP9, and no transparency in WebM",
    "ffv1": "no lossless FFV1",
    "prores_ks": "no ProRes",
}
HARDWARE_ENCODERS = (
    "h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "h264_vaapi", "h264_amf", "h264_videotoolbox",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    section: str
    name: str
    state: str
    """'ok', 'missing' (something optional), or 'broken' (something that rdvfi needs)."""
    detail: str
    cost: str = ""
    """The consequence of its absence, and what to do."""


def run_checks() -> Iterator[Finding]:
    """Run all checks, in order."""
    yield from _check_machine()
    yield from _check_torch()
    yield from _check_packages()
    yield from _check_media()
    yield from _check_extras()
    yield from _check_models()
    yield from _check_plugins()
    yield from _check_files()


def run_isolated(program: str) -> dict[str, Any]:
    """Run a Python program in another process and parse the JSON that it prints; on failure ``{"error": reason}``."""
    command = [sys.executable, "-c", program]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {TIMEOUT:.0f} s"}
    try:
        return json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = [line for line in run.stderr.splitlines() if line.strip()]
        return {"error": lines[-1].strip()[:300] if lines else f"its process ended with code {run.returncode}"}


def _check_machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    is_supported = sys.version_info >= (3, 11)
    cost = "" if is_supported else "rdvfi needs Python 3.11 or newer"
    yield Finding("machine", "rdvfi", "ok", importlib.metadata.version("rdvfi"))
    yield Finding("machine", "python", "ok" if is_supported else "broken", f"{version}, {sys.executable}", cost)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = f", {_total_memory() / 2**30:.0f} GiB of memory" if _total_memory() else ""
    yield Finding("machine", "system", "ok", f"{platform.platform()}, {cores} cores{memory}")


def _total_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


_TORCH_PROGRAM = """
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


def _check_torch() -> Iterator[Finding]:
    result = run_isolated(_TORCH_PROGRAM)
    if "error" in result:
        cost = "nothing but this report works; install it again: pip install --force-reinstall torch"
        yield Finding("torch", "torch", "broken", result["error"], cost)
        return
    yield Finding("torch", "torch", "ok", f"{result['version']}, {result['threads']} threads")
    for index, device in enumerate(result["devices"]):
        yield Finding("torch", f"cuda:{index}", "ok", device)
    if not result["devices"]:
        built = result["built"]
        reason = f"built for CUDA {built}, and there is no GPU or driver" if built else "built without CUDA"
        cost = "the processor computes, in float32; docs/guides/performance.md has times"
        yield Finding("torch", "cuda", "missing", reason, cost)
    if result["mps"]:
        yield Finding("torch", "mps", "ok", "Apple's GPU, with --device mps")
    triton = _installed_version("triton")
    if triton:
        yield Finding("torch", "triton", "ok", triton)
    else:
        slower = "kernels of plain torch draw on a GPU, several times slower"
        cost = slower if result["devices"] else "nothing, without CUDA"
        yield Finding("torch", "triton", "missing", "not installed", cost)


def _check_packages() -> Iterator[Finding]:
    unmet = [line for line in _requirements(None) if _is_unmet(line)]
    for line in unmet:
        name = _requirement_name(line)
        version = _installed_version(name)
        detail = f"{version} is installed, {line} is needed" if version else f"not installed, {line} is needed"
        yield Finding("packages", name, "broken", detail, f"pip install '{line}'")
    if not unmet:
        yield Finding("packages", "requirements", "ok", "all are installed, in versions that rdvfi allows")


def _check_extras() -> Iterator[Finding]:
    for extra in sorted(importlib.metadata.metadata("rdvfi").get_all("Provides-Extra") or []):
        lines = list(_requirements(extra))
        missing = sorted({_requirement_name(line) for line in lines if _is_unmet(line)})
        if not lines:
            yield Finding("extras", extra, "missing", "not for this version of Python", EXTRA_COSTS.get(extra, ""))
        elif missing:
            cost = f"{EXTRA_COSTS.get(extra, 'what needs it')}; pip install 'rdvfi[{extra}]'"
            yield Finding("extras", extra, "missing", f"without {', '.join(missing)}", cost)
        else:
            yield Finding("extras", extra, "ok", ", ".join(sorted({_requirement_name(line) for line in lines})))


def _requirements(extra: str | None) -> Iterator[str]:
    """Requirements that apply to this machine: those of an extra, or those without one."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # a broken environment: packaging comes with huggingface_hub
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


def _is_unmet(line: str) -> bool:
    version = _installed_version(_requirement_name(line))
    if version is None:
        return True
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return False
    return not Requirement(line).specifier.contains(version, prereleases=True)


def _requirement_name(line: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", line)
    return match[0] if match else line


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_MEDIA_PROGRAM = """
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


def _check_media() -> Iterator[Finding]:
    result = run_isolated(_MEDIA_PROGRAM.replace("NAMES", repr([*ENCODERS, *HARDWARE_ENCODERS])))
    if "error" in result:
        yield Finding("video", "av", "broken", result["error"], "no video can be read or written: pip install av")
        return
    codec = result["libraries"].get("libavcodec", "?")
    yield Finding("video", "av", "ok", f"PyAV {result['av']} with FFmpeg's libavcodec {codec} inside")
    for name, cost in ENCODERS.items():
        problem = result["encoders"][name]
        yield Finding("video", name, "missing" if problem else "ok", problem or "encodes", cost if problem else "")
    yield from _check_hardware(result)
    ffmpeg = shutil.which(os.environ.get("RDVFI_FFMPEG", "ffmpeg"))
    cost = "" if ffmpeg else "rdvfi evaluate has no VMAF and no minterpolate; nothing else needs it"
    yield Finding("video", "ffmpeg program", "ok" if ffmpeg else "missing", ffmpeg or "not found", cost)


def _check_hardware(result: dict[str, Any]) -> Iterator[Finding]:
    working = [name for name in HARDWARE_ENCODERS if not result["encoders"][name]]
    if working:
        yield Finding("video", "hardware encoders", "ok", ", ".join(working))
    else:
        cost = "the processor encodes, which may limit the speed of a GPU"
        yield Finding("video", "hardware encoders", "missing", f"none of {', '.join(HARDWARE_ENCODERS)} opens", cost)
    problem = result["decoding"]
    cost = "the processor decodes, which may limit the speed of a GPU" if problem else ""
    detail = problem or "decodes on the GPU (--hwaccel auto)"
    yield Finding("video", "hardware decoding", "missing" if problem else "ok", detail, cost)


def _check_models() -> Iterator[Finding]:
    spec = importlib.util.find_spec("rdvfi")  # finds it without importing it
    folder = Path(spec.origin).parent / "weights" if spec and spec.origin else Path()
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        size = file.stat().st_size
        complete = file.with_suffix(".json").exists() and size > 1000
        cost = "" if complete else "install rdvfi again"
        yield Finding("models", file.stem, "ok" if complete else "broken", f"{size / 1e6:.1f} MB, installed", cost)
    if not files:
        yield Finding(
            "models", "weights", "broken", f"none in {folder}", "install rdvfi again; the wheel contains them"
        )


_PLUGINS_PROGRAM = """
import json, warnings
warnings.simplefilter("ignore")
from rdvfi._plugins import load_plugins
from rdvfi.registry import REGISTRIES
found = load_plugins(REGISTRIES)
print(json.dumps({"plugins": [[p.name, p.package, list(p.registered), p.failure] for p in found]}))
"""


def _check_plugins() -> Iterator[Finding]:
    if not importlib.metadata.entry_points(group="rdvfi.plugins"):
        yield Finding("plug-ins", "plug-ins", "ok", "none are installed")
        return
    result = run_isolated(_PLUGINS_PROGRAM)
    if "error" in result:
        yield Finding("plug-ins", "plug-ins", "broken", result["error"], "rdvfi itself cannot be imported")
        return
    for name, package, registered, failure in result["plugins"]:
        detail = failure or f"{package} registers {', '.join(registered) or 'nothing'}"
        cost = "it is left out; rdvfi plugins says more" if failure else ""
        yield Finding("plug-ins", name, "broken" if failure else "ok", detail, cost)


def _check_files() -> Iterator[Finding]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    count = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    state = "HF_HUB_OFFLINE is set: no downloads" if offline else "missing models are downloaded when they are used"
    yield Finding("files", "hub cache", "ok", f"{cache}, {count} models; {state}")
    torch_home = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch")
    names = sorted(path.name for path in (torch_home / "hub" / "checkpoints").glob("*.pth"))
    cost = "" if names else "LPIPS and FID need their networks there; see docs/guides/evaluate.md"
    yield Finding("files", "networks of metrics", "ok" if names else "missing", ", ".join(names) or "none", cost)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    cost = "" if free > _MIN_FREE_BYTES else "long jobs may run out of space; set TMPDIR to another folder"
    detail = f"{folder}, {free / 2**30:.0f} GiB free"
    yield Finding("files", "temporary files", "missing" if cost else "ok", detail, cost)
