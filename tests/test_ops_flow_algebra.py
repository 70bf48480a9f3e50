"""Straight motion between two frames, and composition of flows."""

import pytest
import torch
from torch import Tensor

from rdvfi.evaluation.baselines import intermediate_flows
from rdvfi.geometry import pixel_grid
from rdvfi.ops import backward_warp, chain, straight_flows
from rdvfi.testing import smooth_noise

TIMES = torch.tensor([0.0, 0.1, 0.5, 0.83, 1.0])


def _flows(size: tuple[int, int] = (24, 40)) -> tuple[Tensor, Tensor]:
    return smooth_noise(2, 2, *size, seed=1) * 3, smooth_noise(2, 2, *size, seed=2) * 3


def test_flow_to_an_end_is_zero_at_that_end() -> None:
    to_first, to_last = straight_flows(*_flows(), TIMES)
    assert not to_first[:, 0].any()
    assert not to_last[:, -1].any()


def test_at_an_end_the_other_end_is_where_the_flow_says() -> None:
    forward, backward = _flows()
    to_first, to_last = straight_flows(forward, backward, TIMES)
    torch.testing.assert_close(to_last[:, 0], forward)
    torch.testing.assert_close(to_first[:, -1], backward)


def test_a_constant_shift_is_exact_everywhere() -> None:
    speed = torch.tensor([30.0, -7.5]).view(1, 2, 1, 1).expand(1, 2, 20, 33)
    to_first, to_last = straight_flows(speed, -speed, TIMES)
    t = TIMES.view(1, -1, 1, 1, 1)
    torch.testing.assert_close(to_first, -t * speed[:, None], rtol=0, atol=2e-5)
    torch.testing.assert_close(to_last, (1 - t) * speed[:, None], rtol=0, atol=2e-5)


def test_swapped_ends_give_swapped_flows() -> None:
    forward, backward = _flows()
    to_first, to_last = straight_flows(forward, backward, TIMES)
    swapped_first, swapped_last = straight_flows(backward, forward, 1 - TIMES.flip(0))
    torch.testing.assert_close(swapped_last.flip(1), to_first)
    torch.testing.assert_close(swapped_first.flip(1), to_last)


def test_without_iterations_it_is_super_slomo() -> None:
    forward, backward = _flows()
    got = straight_flows(forward, backward, TIMES, iterations=0)
    torch.testing.assert_close(got, intermediate_flows(forward, backward, TIMES))


def _zoom(factor: float, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Displacements, forward and backward, of a zoom about the centre; offsets from there."""
    h, w = size
    offset = pixel_grid(h, w) - torch.tensor([(w - 1) / 2, (h - 1) / 2])[:, None, None]
    return (factor - 1) * offset[None], (1 / factor - 1) * offset[None], offset[None]


def test_iterations_find_the_straight_paths_of_a_zoom() -> None:
    """Points of a zoom that move uniformly are at ``(1 + t (s - 1)) x``, so the flow is known."""
    size, factor = (48, 64), 0.8
    forward, backward, offset = _zoom(factor, size)
    stretch = 1 + TIMES.view(1, -1, 1, 1, 1) * (factor - 1)
    expected = offset[:, None] / stretch - offset[:, None]
    inner = (..., slice(12, -12), slice(16, -16))  # what never leaves the picture
    errors = []
    for iterations in (0, 1, 3, 8):
        to_first, _ = straight_flows(forward, backward, TIMES, iterations=iterations)
        errors.append(float((to_first - expected)[inner].abs().max()))
    assert errors[2] < 1e-3  # the default
    assert errors[0] > 20 * errors[2]  # Super SloMo's approximation
    assert errors[3] < 1e-5


@pytest.mark.parametrize("seed", [3, 4])
def test_a_chain_looks_up_what_two_warps_look_up(seed: int) -> None:
    """``warp(warp(image, flow), step) = warp(image, chain)``, exactly where the image is linear."""
    step, flow = smooth_noise(1, 2, 24, 40, seed=seed), smooth_noise(1, 2, 24, 40, seed=seed + 2)
    ramp = pixel_grid(24, 40)[None]
    twice = backward_warp(backward_warp(ramp, flow), step)
    once = backward_warp(ramp, chain(step, flow))
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(twice[inner], once[inner], rtol=0, atol=1e-4)
