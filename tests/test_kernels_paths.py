"""The kernels that follow points against their definitions in float64."""

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.motion.basis import Cubic
from rdvfi.ops import flow_algebra, paths
from rdvfi.testing import smooth_noise

module = kernels.load("paths")

SIZES = [(5, 9), (11, 70), (1, 1)]


def _flows(b: int, t: int, c: int, size: tuple[int, int], seed: int) -> Tensor:
    """Smooth motion of a few pixels, some of it out of the picture."""
    return (2.0 * smooth_noise(b * t, c, *size, seed=seed)).unflatten(0, (b, t)).to(kernels.DEVICE)


def _exact(*tensors: Tensor) -> list[Tensor]:
    return [x.cpu().double() for x in tensors]


@pytest.mark.parametrize("size", SIZES)
def test_followed_points_are_those_of_the_definition(size: tuple[int, int]) -> None:
    both = [_flows(2, 2, 4, size, seed) for seed in (0, 1)]
    fields = [part for x in both for part in (x[:, :, :2], x[:, :, 2:])]  # with gaps between samples
    start, end = (torch.tensor(x, device=kernels.DEVICE) for x in ([0.25, 0.5], [0.5, 0.1]))
    got = module.follow(*fields, start, end, 2)
    kernels.assert_close(got, paths._follow_reference(*_exact(*fields, start, end), 2), tolerance=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_straight_flows_are_those_of_the_definition(size: tuple[int, int]) -> None:
    forward, backward = (_flows(2, 1, 2, size, seed)[:, 0] for seed in (0, 1))
    times = torch.tensor([0.0, 0.3, 1.0], device=kernels.DEVICE)
    got = module.straight_flows(forward, backward, times, 3)
    expected = flow_algebra._straight_reference(*_exact(forward, backward, times), 3)
    kernels.assert_close(got, expected, tolerance=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_confidence_is_that_of_the_definition(size: tuple[int, int]) -> None:
    first, last = (_flows(2, 2, 4, size, seed)[:, :, :2] for seed in (0, 1))
    onward, back = (_flows(2, 1, 2, size, seed)[:, 0] for seed in (2, 3))
    got = module.confidence(first, last, onward, back)
    kernels.assert_close(got, paths._confidence_reference(*_exact(first, last, onward, back)), tolerance=1e-4)


@pytest.mark.parametrize(("count", "b", "size"), [(5, 1, (6, 9)), (3, 2, (4, 70)), (2, 1, (5, 5))])
def test_flows_between_knots_are_those_of_the_definition(count: int, b: int, size: tuple[int, int]) -> None:
    fields = _flows(b, count, 4, size, 0)
    steps = [_flows(b, count - 1, 2, size, seed) for seed in (1, 2)]
    errors = [_flows(b, count - 1, 1, size, seed).abs() for seed in (3, 4)]
    knots = torch.linspace(0, 1, count) ** 1.3
    times = torch.tensor([0.0, 0.13, float(knots[1]), 0.7, 1.0])
    weights = Cubic().weights(knots, times)
    arguments = [*(x.contiguous() for x in (fields, *steps, *errors)), *(x.to(fields) for x in (knots, times, weights))]
    got = module.flows_at(*arguments)
    kernels.assert_close(got, paths._flows_at_reference(*_exact(*arguments)), tolerance=1e-4)


def test_no_times_give_nothing() -> None:
    none = _flows(1, 1, 2, (4, 4), 0)[:, :0]
    still = torch.zeros(1, 2, 4, 4, device=kernels.DEVICE)
    assert module.confidence(none, none, still, still).shape == (1, 0, 2, 4, 4)
