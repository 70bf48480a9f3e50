"""What every benchmark shares: the device, and where its figures come from."""

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
