"""Laws of every operator of the package: torch's own checks, on a CPU."""

from typing import Any

import pytest
import torch

from operator_samples import registered, samples

SAMPLES = samples()
LEARNED = ("backward_warp", "correlation", "splat_sum")
"""Operators with gradients of their own."""

# Sizes are symbols in these checks, which are no ints.
pytestmark = pytest.mark.usefixtures("unchecked")


def _check(name: str, *checks: str) -> None:
    arguments: tuple[Any, ...] = SAMPLES[name]
    if name in LEARNED:
        arguments = tuple(x.clone().requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments)
    torch.library.opcheck(getattr(torch.ops.rdvfi, name).default, arguments, test_utils=checks)


@pytest.mark.parametrize("name", registered())
def test_operators_keep_torchs_rules(name: str) -> None:
    """A new operator fails here until it has a sample."""
    _check(name, "test_schema", "test_autograd_registration", "test_faketensor")


# Without gradients there is little that a graph could do otherwise.
IN_GRAPHS = [name if name in LEARNED else pytest.param(name, marks=pytest.mark.slow) for name in registered()]


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_operators_are_the_same_in_a_graph_of_any_size(name: str) -> None:
    _check(name, "test_aot_dispatch_dynamic")
