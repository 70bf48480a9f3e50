"""Laws of every operator of the package: torch's own checks, on a CPU."""

import pytest
import torch

from operator_samples import registered, samples

SAMPLES = samples()
LEARNED = ("backward_warp", "correlation", "splat_sum")
"""Operators with gradients of their own."""


@pytest.mark.usefixtures("unchecked")  # sizes are symbols there, which are no ints
@pytest.mark.parametrize("name", registered())
def test_operators_keep_torchs_rules(name: str) -> None:
    """A new operator fails here until it has a sample."""
    arguments = SAMPLES[name]
    if name in LEARNED:
        arguments = tuple(x.clone().requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments)
    torch.library.opcheck(getattr(torch.ops.rdvfi, name).default, arguments)
