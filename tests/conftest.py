"""What every test gets: one thread, its own random state, and rules for slow and GPU tests."""

import gc
import os
from collections.abc import Iterator

import hypothesis
import jaxtyping
import pytest
import torch

from array_checks import next_test

torch.set_num_threads(1)
# A busy machine is no fault of an example.
hypothesis.settings.register_profile("rdvfi", deadline=None)
hypothesis.settings.load_profile("rdvfi")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow_wanted = "slow" in (config.option.markexpr or "")
    cuda = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("slow") and not slow_wanted:
            item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))
        if item.get_closest_marker("gpu") and not cuda:
            if os.environ.get("RDVFI_REQUIRE_CUDA") == "1":
                raise pytest.UsageError("RDVFI_REQUIRE_CUDA=1 but there is no CUDA device")
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish() -> None:
    """What was imported stays, so no search for garbage need go through it."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    next_test()


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    """No test sees or moves another test's random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked, as for users: what the library itself says of wrong types is tried."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
