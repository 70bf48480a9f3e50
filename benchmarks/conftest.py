"""What every benchmark shares: the device, and where its figures come from."""

import os
import platform
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import rdvfi


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.addoption("--threads", type=int, default=None, help="CPU threads; all cores if unset")
    given = "of the roofline, instead of measuring it"
    parser.addoption("--peak-tflops", type=float, default=None, help=f"peak {given}")
    parser.addoption("--bandwidth-gbs", type=float, default=None, help=f"bandwidth {given}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow_wanted = "slow" in (config.option.markexpr or "")
    on_cuda = config.getoption("--device").startswith("cuda") and torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("slow") and not slow_wanted:
            item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))
        if item.get_closest_marker("gpu") and not on_cuda:
            if os.environ.get("RDVFI_REQUIRE_CUDA") == "1":
                raise pytest.UsageError(
                    "RDVFI_REQUIRE_CUDA=1 but not --device=cuda on a CUDA device"
                )
            item.add_marker(pytest.mark.skip(reason="needs --device=cuda and a CUDA device"))


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Results are published: the host's name and kernel are nobody's business."""
    for name in ("node", "release"):
        machine_info.pop(name, None)


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, Any]) -> None:
    """Nor are the names of a working copy."""
    for name in ("branch", "project"):
        commit_info.pop(name, None)


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


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    threads = pytestconfig.getoption("--threads")
    if threads is not None:
        import cv2

        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    return torch.device(pytestconfig.getoption("--device"))


@pytest.fixture
def timed(
    benchmark: BenchmarkFixture, device: torch.device
) -> Callable[[str, Callable[[], Any]], None]:
    """Time a call, waiting for the device inside the timed region; note what ran and where."""
    on_cuda = device.type == "cuda"

    def run(group: str, call: Callable[[], Any]) -> None:
        def once() -> None:
            call()
            if on_cuda:
                torch.cuda.synchronize(device)

        benchmark.group = group
        benchmark.extra_info.update(
            device=torch.cuda.get_device_name(device) if on_cuda else platform.processor() or "cpu",
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            rdvfi=rdvfi.__version__,
        )
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode():
            benchmark(once)
        if on_cuda:
            peak = torch.cuda.max_memory_allocated(device)
            benchmark.extra_info["peak_memory_gib"] = round(peak / 2**30, 2)

    return run
