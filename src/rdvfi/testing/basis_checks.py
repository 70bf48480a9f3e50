"""The contract of a basis."""

import torch
from torch import Tensor

from rdvfi.interfaces import Basis
from rdvfi.testing.assertions import Account, assert_close, unchanged


def check_basis(basis: Basis, *, interpolates: bool = True) -> None:
    """Rows of the weight matrix sum to one; interpolating bases return the knots' own values.

    Args:
        basis: What is checked.
        interpolates: Whether it passes through every knot; if not, through both ends at least.
    """
    times = torch.linspace(0, 1, 23, dtype=torch.float64)
    uneven = torch.tensor([0.0, 0.1, 0.35, 0.5, 0.6, 0.9, 1.0], dtype=torch.float64)
    for knots in (torch.linspace(0, 1, 9, dtype=torch.float64), uneven, uneven[[0, -1]]):
        count = len(knots)
        weights = unchanged(basis.weights, knots, times)
        assert torch.equal(weights, basis.weights(knots, times)), "weights must repeat bit for bit"
        assert weights.dtype == times.dtype, f"weights must have the type of the times, got {weights.dtype}"
        assert {0, count - 1} <= set(basis.used(count)), "`used` must include both ends"
        assert set(basis.used(count)) <= set(range(count)), "`used` must be indices of knots"
        assert weights.shape == (len(times), count), "weights must have shape (T, K)"
        assert_close(weights.sum(1), torch.ones_like(times), law="rows must sum to one")
        unused = sorted(set(range(count)) - set(basis.used(count)))
        assert not weights[:, unused].any(), "knots outside `used` must have no weight"
        _check_reach(basis, weights, knots, times)
        kept = torch.arange(count) if interpolates else torch.tensor([0, count - 1])
        at_knots = basis.weights(knots, knots[kept])
        identity = torch.eye(count, dtype=knots.dtype)[kept]
        assert_close(at_knots, identity, law="a knot's time must return its value")
        # Played backwards; at generic times, since at a tie either neighbour may be taken.
        generic = torch.tensor([0.013, 0.21, 0.47, 0.66, 0.98], dtype=torch.float64)
        mirrored = basis.weights(1 - knots.flip(0), 1 - generic).flip(1)
        assert_close(mirrored, basis.weights(knots, generic), law="must be time-symmetric")
    said = Account("check_basis", basis)
    ends = "every knot's time returns its value" if interpolates else "both ends' times return their values"
    said.holds("rows sum to one", ends, "`used` and `reach` are kept to", "time-symmetric", "repeats")
    said.tell()


def _check_reach(basis: Basis, weights: Tensor, knots: Tensor, times: Tensor) -> None:
    """Among the knots that it uses, those further away than `reach` have no weight."""
    if basis.reach is None:
        return
    used = basis.used(len(knots))
    ahead = (knots[used] > times[:, None]).cumsum(1)
    behind = (knots[used] <= times[:, None]).flip(1).cumsum(1).flip(1)
    far = (ahead > basis.reach) | (behind > basis.reach)
    assert not (weights[:, used] * far).any(), f"knots beyond `reach` ({basis.reach}) have weight"
