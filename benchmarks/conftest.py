"""Fixtures and options of all benchmarks: sizes, data types, and timing with a record of the environment."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import counting
import machine
from work import Work

SIZES = ("576x320", "1024x576", "1280x720", "1920x1080", "3840x2160")
_SMOKE_SIZE = "192x128"
"""The size for runs without timing."""
_START_TIME = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rdvfi benchmarks")
    group.addoption("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    group.addoption("--threads", type=int, help="CPU threads; all cores if unset")
    group.addoption("--peak-tflops", type=float, help="peak of the roofline; measured if unset")
    group.addoption("--bandwidth-gbs", type=float, help="bandwidth of the roofline; measured if unset")
    group.addoption("--sizes", help="1024x576,1920x1080; a few if unset")
    group.addoption("--all", action="store_true", help=f"all of {', '.join(SIZES)}")
    group.addoption("--dtypes", help="float32,float16,bfloat16; those that suit the device if unset")
    group.addoption("--times", type=int, help="interpolated frames per pair; 24 on CUDA, else 7")
    group.addoption("--compiled", action="store_true", help="compiled variants on a CPU too")
    group.addoption("--source-commit", default="", help="commit, if the source has no .git")
    group.addoption("--note", default="", help="remark for readers of the results")
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
    run_slow = "slow" in (config.option.markexpr or "")
    on_cuda = config.getoption("--device").startswith("cuda") and torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("slow") and not run_slow:
            item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))
        if item.get_closest_marker("gpu") and not on_cuda:
            if os.environ.get("RDVFI_REQUIRE_CUDA") == "1":
                raise pytest.UsageError("RDVFI_REQUIRE_CUDA=1 but not --device=cuda on a CUDA device")
            item.add_marker(pytest.mark.skip(reason="needs --device=cuda and a CUDA device"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    own_parameters = {name for mark in metafunc.definition.iter_markers("parametrize") for name in mark.args[:1]}
    if "size" in metafunc.fixturenames and "size" not in own_parameters:
        # Modules may define their own default sizes.
        names = _selected_sizes(config, getattr(metafunc.module, "DEFAULT_SIZES", None))
        metafunc.parametrize("size", [_parse_size(name) for name in names], ids=names)
    if "dtype" in metafunc.fixturenames:
        names = _selected_dtypes(config)
        metafunc.parametrize("dtype", [getattr(torch, name) for name in names], ids=names)


def _selected_sizes(config: pytest.Config, default: dict[str, tuple[str, ...]] | None) -> Sequence[str]:
    sizes = config.getoption("--sizes")
    if sizes:
        return sizes.split(",")
    if config.getoption("--all"):
        return SIZES
    if config.getoption("benchmark_disable"):
        return (_SMOKE_SIZE,)
    kind = "cuda" if _is_cuda(config) else "cpu"
    return (default or {"cpu": ("1024x576",), "cuda": SIZES})[kind]


def _parse_size(name: str) -> tuple[int, int]:
    width, separator, height = name.partition("x")
    if not separator or not (width.isdigit() and height.isdigit()):
        raise pytest.UsageError(f"--sizes takes WIDTHxHEIGHT, separated by commas; got {name!r}")
    return int(height), int(width)


def _selected_dtypes(config: pytest.Config) -> Sequence[str]:
    dtypes = config.getoption("--dtypes")
    names = dtypes.split(",") if dtypes else ("float32", "float16")[: 2 if _is_cuda(config) else 1]
    for name in names:
        if name not in ("float32", "float16", "bfloat16"):
            raise pytest.UsageError(f"--dtypes takes float32, float16, bfloat16; got {name!r}")
    return names


def _is_cuda(config: pytest.Config) -> bool:
    return config.getoption("--device").startswith("cuda")


@pytest.fixture(autouse=True)
def _check_deadline(pytestconfig: pytest.Config) -> None:
    deadline = pytestconfig.getoption("--deadline")
    if deadline is not None and time.monotonic() - _START_TIME > deadline:
        pytest.skip(f"no time left: the deadline of {deadline:g} s has passed")


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    device = torch.device(pytestconfig.getoption("--device"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device=cuda, but torch finds no CUDA device")
    return device


@pytest.fixture(scope="session")
def new_frames(pytestconfig: pytest.Config) -> int:
    """Number of interpolated frames."""
    untimed = pytestconfig.getoption("benchmark_disable")
    return pytestconfig.getoption("--times") or (24 if _is_cuda(pytestconfig) else 2 if untimed else 7)


@pytest.fixture
def require_compilation(pytestconfig: pytest.Config) -> Callable[[], None]:
    """A function that skips a benchmark of a compiled variant unless requested; it takes minutes and a C++ compiler."""

    def check() -> None:
        if not (pytestconfig.getoption("--compiled") or _is_cuda(pytestconfig)):
            pytest.skip("compiled variants run on CUDA, and with --compiled")

    return check


@pytest.fixture
def time_call(benchmark: BenchmarkFixture, device: torch.device, pytestconfig: pytest.Config) -> Callable[..., Any]:
    """A function that times a call, synchronised with the device, and records the environment.

    It returns the result of the call.
    """

    def run(group: str, call: Callable[[], Any], *, differentiable: bool = False) -> Any:
        def call_synchronised() -> Any:
            result = call()
            machine.synchronise(device)
            return result

        benchmark.group = group
        with torch.inference_mode(not differentiable):
            if benchmark.enabled:
                call()  # compilation in the first call must not count in the peak
                benchmark.extra_info.update(
                    peak_memory_bytes=machine.peak_memory(call_synchronised, device),
                    **_provenance(device, pytestconfig),
                )
            return benchmark(call_synchronised)

    return run


@pytest.fixture
def compare(benchmark: BenchmarkFixture, time_call: Callable[..., Any]) -> Callable[..., Any]:
    """A function that times ``call(*tensors)`` on rotating copies, with a record that implementations are compared by.

    It returns the result of the call. ``ours`` is the implementation that the report compares the others
    of the same work with; ``differentiable`` enables gradients.
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
        inputs = machine.RotatingInputs(tensors, count=1 if benchmark.disabled else None)
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
        return time_call(
            f"{operation}, {name}, {dtype}",
            lambda: call(*next(inputs)),
            differentiable=differentiable,
        )

    return run


def _provenance(device: torch.device, config: pytest.Config) -> dict[str, Any]:
    return {
        "device": machine.device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "versions": machine.package_versions(),
        "commit": config.getoption("--source-commit") or machine.source_commit() or "unknown",
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
    headings = ("benchmark", "GFLOP", "outside GB", "unfused GB", "roofline ms", "median ms")
    terminalreporter.write_line("{:<70}{:>12}{:>12}{:>12}{:>14}{:>12}".format(*headings))
    for row in rows:
        info, median_ms = row.extra_info, "-" if row.stats is None else f"{1e3 * row['median']:.2f}"
        terminalreporter.write_line(
            f"{row.name:<70}{info['flops'] / 1e9:>12.2f}{info['outside_bytes'] / 1e9:>12.3f}"
            f"{info['moved_bytes'] / 1e9:>12.3f}{info['roofline_ms']:>14.3f}{median_ms:>12}"
        )


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Reduce the information about the machine to the kind of processor."""
    cpu = output_json["machine_info"].get("cpu", {})
    output_json["machine_info"] = {"cpu": cpu.get("brand_raw", ""), "cores": cpu.get("count")}
    info = output_json["commit_info"]
    output_json["commit_info"] = {key: info.get(key) for key in ("id", "dirty", "time")}
    for entry in output_json["benchmarks"]:
        entry["stats"].pop("data", None)
