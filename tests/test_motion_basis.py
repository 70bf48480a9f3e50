"""Laws of interpolation in time, on any knots, and the formulas of Keys (1981) on uniform ones."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from rdvfi.registry import bases

DEGREE = {
    "linear": 1,
    "quadratic": 2,
    "cubic": 2,
    "constant-velocity": 1,
    "constant-acceleration": 2,
}
INTERPOLATING = ("linear", "quadratic", "cubic")

every_basis = pytest.mark.parametrize("name", sorted(DEGREE))
few = settings(max_examples=25, deadline=None, derandomize=True)


@st.composite
def knot_times(draw: st.DrawFn, least: int = 3) -> Tensor:
    """Increasing times from 0 to 1 whose gaps differ by up to a factor of ten."""
    gaps = draw(st.lists(st.floats(0.1, 1.0), min_size=least - 1, max_size=11))
    inner = torch.tensor(gaps, dtype=torch.float64).cumsum(0)
    return torch.cat((torch.zeros(1, dtype=torch.float64), inner / inner[-1]))


def _times(count: int = 41) -> Float[Tensor, " t"]:
    return torch.linspace(0, 1, count, dtype=torch.float64)


@every_basis
@few
@given(knots=knot_times())
def test_rows_sum_to_one(name: str, knots: Tensor) -> None:
    rows = bases.create(name).weights(knots, _times()).sum(1)
    torch.testing.assert_close(rows, torch.ones_like(rows), rtol=0, atol=1e-9)


@every_basis
@few
@given(knots=knot_times())
def test_polynomials_up_to_its_degree_are_exact(name: str, knots: Tensor) -> None:
    weights = bases.create(name).weights(knots, _times())
    for degree in range(DEGREE[name] + 1):
        torch.testing.assert_close(weights @ knots**degree, _times() ** degree, rtol=0, atol=1e-8)


@every_basis
def test_the_next_degree_is_not_exact(name: str) -> None:
    knots, degree = torch.linspace(0, 1, 9, dtype=torch.float64), DEGREE[name] + 1
    off = (bases.create(name).weights(knots, _times()) @ knots**degree - _times() ** degree).abs()
    assert off.max() > 1e-4


@pytest.mark.parametrize("name", INTERPOLATING)
@few
@given(knots=knot_times(least=2))
def test_a_knots_own_time_returns_its_value(name: str, knots: Tensor) -> None:
    weights = bases.create(name).weights(knots, knots)
    torch.testing.assert_close(weights, torch.eye(len(knots)).double(), rtol=0, atol=1e-9)


@every_basis
def test_float32_knots_are_met_exactly(name: str) -> None:
    """In float32 too, knots at i / 8 have weights of exactly zero and one."""
    knots = torch.arange(9) / 8
    at = knots if name in INTERPOLATING else knots[[0, -1]]
    weights = bases.create(name).weights(knots, at)
    assert torch.equal(weights, torch.eye(9)[torch.isin(knots, at)])


@every_basis
def test_two_knots_leave_nothing_but_the_straight_line(name: str) -> None:
    knots = torch.tensor([0.0, 1.0], dtype=torch.float64)
    weights = bases.create(name).weights(knots, _times())
    torch.testing.assert_close(weights, torch.stack((1 - _times(), _times()), dim=1))


@few
@given(knots=knot_times(), seed=st.integers(0, 99))
def test_cubic_is_hermite_with_the_slopes_of_parabolas(knots: Tensor, seed: int) -> None:
    """NumPy's second-order gradient is the slope of the parabola through three neighbours."""
    values = np.random.default_rng(seed).normal(size=len(knots))
    slopes = np.gradient(values, knots.numpy(), edge_order=2)
    expected = CubicHermiteSpline(knots.numpy(), values, slopes)(_times().numpy())
    got = bases.create("cubic").weights(knots, _times()) @ torch.from_numpy(values)
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-8)


def _keys(values: np.ndarray, time: float) -> float:
    """Cubic convolution with a = -1/2 and Keys' rule for the value beyond each end."""
    first = 3 * values[0] - 3 * values[1] + values[2]
    last = 3 * values[-1] - 3 * values[-2] + values[-3]
    padded = np.concatenate(([first], values, [last]))
    position = time * (len(values) - 1)
    left = min(int(position), len(values) - 2)
    s = position - left
    weights = (
        (-s + 2 * s**2 - s**3) / 2,
        (2 - 5 * s**2 + 3 * s**3) / 2,
        (s + 4 * s**2 - 3 * s**3) / 2,
        (-(s**2) + s**3) / 2,
    )
    return float(np.dot(weights, padded[left : left + 4]))


@pytest.mark.parametrize("count", [3, 4, 9])
def test_cubic_is_the_kernel_of_keys_on_uniform_knots(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    knots = torch.linspace(0, 1, count, dtype=torch.float64)
    got = bases.create("cubic").weights(knots, _times()) @ torch.from_numpy(values)
    expected = [_keys(values, time) for time in _times().tolist()]
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "order"), [("linear", 2), ("quadratic", 3), ("cubic", 3)])
def test_doubling_the_knots_divides_the_error(name: str, order: int) -> None:
    errors = []
    for count in (17, 33, 65):
        knots = torch.linspace(0, 1, count, dtype=torch.float64)
        times = _times(1001)
        got = bases.create(name).weights(knots, times) @ torch.sin(6 * knots)
        errors.append(float((got - torch.sin(6 * times)).abs().max()))
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.2)


@every_basis
def test_unused_knots_may_hold_anything(name: str) -> None:
    basis, knots = bases.create(name), torch.linspace(0, 1, 9, dtype=torch.float64)
    used = basis.used(9)
    alone = basis.weights(knots[used], _times())
    torch.testing.assert_close(basis.weights(knots, _times())[:, used], alone)
