"""Annotations are checked in tests, in the first calls of each function."""

import jaxtyping
import pytest
import torch

import array_checks
from rdvfi.ops import backward_warp

WRONG = torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 9)


@pytest.mark.parametrize("again", range(2))
def test_the_first_calls_of_every_test_are_checked(again) -> None:
    for _ in range(array_checks.CALLS):
        with pytest.raises(jaxtyping.TypeCheckError):
            backward_warp(*WRONG)
    with pytest.raises(ValueError, match="for an image of shape"):  # what the function itself says
        backward_warp(*WRONG)
