"""What every benchmark shares: options, sizes, and a stop-watch that notes what ran and where."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import counting
import measure
from work import Work

SIZES = ("576x320", "1024x576", "1280x720", "1920x1080", "3840x2160")
_SMOKE = "192x128"
"""What runs when nothing is timed."""
_BEGAN = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rdvfi benchmarks")
    group.addoption("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    group.addoption("--threads", type=int, help="CPU threads; all cores if unset")
    given = "of the roofline, instead of measuring it"
    group.addoption("--peak-tflops", type=float, help=f"peak {given}")
    group.addoption("--bandwidth-gbs", type=float, help=f"bandwidth {given}")
    group.addoption("--sizes", help="1024x576,1920x1080; a few if unset")
    group.addoption("--all", action="store_true", help=f"all of {', '.join(SIZES)}")
    group.addoption("--dtypes", help="float32,float16,bfloat16; what fits the device if unset")
    group.addoption("--times", type=int, help="new frames per pair; 24 on CUDA, else 7")
    group.addoption("--compiled", action="store_true", help="compiled forms on a CPU too")
    group.addoption("--source-commit", default="", help="commit, where the source has no .git")
    group.addoption("--note", default="", help="what a reader of the figures must know")
    group.addoption("--deadline", type=float, help="seconds after which no benchmark is started")


def pytest_configure(config: pytest.Config) -> None:
    threads = config.getoption("--threads")
    if threads is None:
        return
    torch.set_num_threads(threads)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(threads)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow_wanted = "slow" in (config.option.markexpr or "")
    on_cuda = config.getoption("--device").startswith("cuda") and torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("slow") and not slow_wanted:
            item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))
        if item.get_closest_marker("gpu") and not on_cuda:
            if os.environ.get("RDVFI_REQUIRE_CUDA") == "1":
                raise pytest.UsageError("RDVFI_REQUIRE_CUDA=1 but not --device=cuda on a CUDA device")
            item.add_marker(pytest.mark.skip(reason="needs --device=cuda and a CUDA device"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    own = {name for mark in metafunc.definition.iter_markers("parametrize") for name in mark.args[:1]}
    if "size" in metafunc.fixturenames and "size" not in own:
        # A module may say what it times unless told otherwise.
        names = _sizes(config, getattr(metafunc.module, "DEFAULT_SIZES", None))
        metafunc.parametrize("size", [_pixels(name) for name in names], ids=names)
    if "dtype" in metafunc.fixturenames:
        names = _dtypes(config)
        metafunc.parametrize("dtype", [getattr(torch, name) for name in names], ids=names)


def _sizes(config: pytest.Config, default: dict[str, tuple[str, ...]] | None) -> Sequence[str]:
    given = config.getoption("--sizes")
    if given:
        return given.split(",")
    if config.getoption("--all"):
        return SIZES
    if config.getoption("benchmark_disable"):
        return (_SMOKE,)
    kind = "cuda" if _on_cuda(config) else "cpu"
    return (default or {"cpu": ("1024x576",), "cuda": SIZES})[kind]


def _pixels(name: str) -> tuple[int, int]:
    width, separator, height = name.partition("x")
    if not separator or not (width.isdigit() and height.isdigit()):
        raise pytest.UsageError(f"--sizes takes WIDTHxHEIGHT, by commas; got {name!r}")
    return int(height), int(width)


def _dtypes(config: pytest.Config) -> Sequence[str]:
    given = config.getoption("--dtypes")
    names = given.split(",") if given else ("float32", "float16")[: 2 if _on_cuda(config) else 1]
    for name in names:
        if name not in ("float32", "float16", "bfloat16"):
            raise pytest.UsageError(f"--dtypes takes float32, float16, bfloat16; got {name!r}")
    return names


def _on_cuda(config: pytest.Config) -> bool:
    return config.getoption("--device").startswith("cuda")


@pytest.fixture(autouse=True)
def _in_time(pytestconfig: pytest.Config) -> None:
    deadline = pytestconfig.getoption("--deadline")
    if deadline is not None and time.monotonic() - _BEGAN > deadline:
        pytest.skip(f"no time left: the {deadline:g} s of this part are over")


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    chosen = torch.device(pytestconfig.getoption("--device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device=cuda, but torch finds no CUDA device")
    return chosen


@pytest.fixture(scope="session")
def new_frames(pytestconfig: pytest.Config) -> int:
    """How many frames are drawn between two."""
    untimed = pytestconfig.getoption("benchmark_disable")
    return pytestconfig.getoption("--times") or (24 if _on_cuda(pytestconfig) else 2 if untimed else 7)


@pytest.fixture
def compiling(pytestconfig: pytest.Config) -> Callable[[], None]:
    """Skips, where compiled forms were not asked for: they take minutes, and a C++ compiler."""

    def check() -> None:
        if not (pytestconfig.getoption("--compiled") or _on_cuda(pytestconfig)):
            pytest.skip("compiled forms run on CUDA, and with --compiled")

    return check


@pytest.fixture
def timed(benchmark: BenchmarkFixture, device: torch.device, pytestconfig: pytest.Config) -> Callable[..., Any]:
    """Time a call, waiting for the device inside the timed region; note what ran and where.

    Returns what the call gives.
    """

    def run(group: str, call: Callable[[], Any], *, differentiable: bool = False) -> Any:
        def once() -> Any:
            result = call()
            measure.synchronise(device)
            return result

        benchmark.group = group
        with torch.inference_mode(not differentiable):
            if benchmark.enabled:
                call()  # what compiles at the first call is no part of the peak
                benchmark.extra_info.update(
                    peak_memory_bytes=measure.peak_memory(once, device),
                    **_provenance(device, pytestconfig),
                )
            return benchmark(once)

    return run


@pytest.fixture
def compared(benchmark: BenchmarkFixture, timed: Callable[..., Any]) -> Callable[..., Any]:
    """Time ``call(*tensors)`` on rotating copies, and note the work that others do as well.

    Returns what the call gives. ``ours`` is the implementation that the report compares all others
    of the same work with; ``differentiable`` keeps gradients on.
    """

    def run(
        call: Callable[..., Any],
        tensors: Sequence[Tensor],
        *,
        operation: str,
        implementation: str,
        size: tuple[int, int],
        ours: str = "rdvfi",
        work: Work | None = None,
        differentiable: bool = False,
    ) -> Any:
        inputs = measure.Rotation(tensors, count=1 if benchmark.disabled else None)
        work, dtype = work or Work(), str(tensors[0].dtype).removeprefix("torch.")
        name = f"{size[1]}x{size[0]}"
        benchmark.extra_info.update(
            operation=operation,
            implementation=implementation,
            ours=ours,
            size=name,
            dtype=dtype,
            **vars(work),
            rotated_bytes=inputs.bytes,
        )
        return timed(
            f"{operation}, {name}, {dtype}",
            lambda: call(*next(inputs)),
            differentiable=differentiable,
        )

    return run


def _provenance(device: torch.device, config: pytest.Config) -> dict[str, Any]:
    return {
        "device": measure.device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "versions": measure.versions(),
        "commit": config.getoption("--source-commit") or measure.commit() or "unknown",
        "note": config.getoption("--note"),
        "copy_bytes_per_second": counting.copy_bandwidth(device),
    }


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Operations, bytes and roofline, beside the times in the table above."""
    session = getattr(config, "_benchmarksession", None)
    rows = [] if session is None else [b for b in session.benchmarks if "flops" in b.extra_info]
    if not rows:
        return
    terminalreporter.section("roofline")
    head = ("benchmark", "GFLOP", "outside GB", "unfused GB", "roofline ms", "median ms")
    terminalreporter.write_line("{:<70}{:>12}{:>12}{:>12}{:>14}{:>12}".format(*head))
    for row in rows:
        told, timed = row.extra_info, "-" if row.stats is None else f"{1e3 * row['median']:.2f}"
        terminalreporter.write_line(
            f"{row.name:<70}{told['flops'] / 1e9:>12.2f}{told['outside_bytes'] / 1e9:>12.3f}"
            f"{told['moved_bytes'] / 1e9:>12.3f}{told['roofline_ms']:>14.3f}{timed:>12}"
        )


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """What is published says on what a figure was measured, not on whose machine."""
    cpu = output_json["machine_info"].get("cpu", {})
    output_json["machine_info"] = {"cpu": cpu.get("brand_raw", ""), "cores": cpu.get("count")}
    info = output_json["commit_info"]
    output_json["commit_info"] = {key: info.get(key) for key in ("id", "dirty", "time")}
    for entry in output_json["benchmarks"]:
        entry["stats"].pop("data", None)
