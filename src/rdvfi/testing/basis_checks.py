"""The contract of a basis."""

import torch
from torch import Tensor

from rdvfi.interfaces import Basis
from rdvfi.testing.assertions import CheckReport, assert_close, call_unchanged


def check_basis(basis: Basis, *, interpolates: bool = True) -> None:
    """Check a basis: rows of its weight matrix sum to one, and it returns the values at the knots exactly.

    Args:
        basis: The basis to check.
        interpolates: Whether it passes through every knot; if not, at least through both ends.
    """
    times = torch.linspace(0, 1, 23, dtype=torch.float64)
    # Reversed knots are compared at generic times, since at a tie either knot may be chosen.
    generic = torch.tensor([0.013, 0.21, 0.47, 0.66, 0.98], dtype=torch.float64)
    uneven = torch.tensor([0.0, 0.1, 0.35, 0.5, 0.6, 0.9, 1.0], dtype=torch.float64)
    for knots in (torch.linspace(0, 1, 9, dtype=torch.float64), uneven, uneven[[0, -1]]):
        count = len(knots)
        weights = call_unchanged(basis.weights, knots, times)
        assert torch.equal(weights, basis.weights(knots, times)), "weights must repeat bit for bit"
        assert weights.dtype == times.dtype, f"weights must have the type of the times, got {weights.dtype}"
        assert {0, count - 1} <= set(basis.used(count)), "`used` must include both ends"
        assert set(basis.used(count)) <= set(range(count)), "`used` must be indices of knots"
        assert weights.shape == (len(times), count), "weights must have shape (T, K)"
        assert_close(weights.sum(1), torch.ones_like(times), law="rows must sum to one")
        unused = sorted(set(range(count)) - set(basis.used(count)))
        assert not weights[:, unused].any(), "knots outside `used` must have no weight"
        _check_reach(basis, weights, knots, times)
        indices = torch.arange(count) if interpolates else torch.tensor([0, count - 1])
        identity = torch.eye(count, dtype=knots.dtype)[indices]
        assert_close(basis.weights(knots, knots[indices]), identity, law="a knot's time must return its value")
        mirrored = basis.weights(1 - knots.flip(0), 1 - generic).flip(1)
        assert_close(mirrored, basis.weights(knots, generic), law="must be time-symmetric")
    report = CheckReport("check_basis", basis)
    ends = "every knot's time returns its value" if interpolates else "both ends' times return their values"
    report.passed("rows sum to one", ends, "`used` and `reach` are kept to", "time-symmetric", "repeats")
    report.print()


def _check_reach(basis: Basis, weights: Tensor, knots: Tensor, times: Tensor) -> None:
    """Assert that used knots further away than `reach` have no weight."""
    if basis.reach is None:
        return
    used = basis.used(len(knots))
    ahead = (knots[used] > times[:, None]).cumsum(1)
    behind = (knots[used] <= times[:, None]).flip(1).cumsum(1).flip(1)
    far = (ahead > basis.reach) | (behind > basis.reach)
    assert not (weights[:, used] * far).any(), f"knots beyond `reach` ({basis.reach}) have weight"
