"""Following points: the operators are well formed, have gradients, and know exact motions."""

import pytest
import torch
from torch import Tensor

from rdvfi.ops import paths, straight_flows
from rdvfi.testing import smooth_noise


def _flows(t: int, c: int, seed: int) -> Tensor:
    return smooth_noise(t, c, 6, 7, seed=seed)[None]


TIMES = torch.tensor([0.25, 0.5])


@pytest.mark.parametrize("argument", range(4))
def test_recording_gradients_changes_no_value(argument: int) -> None:
    first, last, onward, back = fields = [_flows(2, 2, s) for s in range(2)] + [_flows(1, 2, s)[:, 0] for s in (2, 3)]
    plain = paths.confidence(first, last, onward, back)
    fields[argument] = fields[argument].clone().requires_grad_()
    recorded = paths.confidence(*fields)
    assert torch.equal(plain, recorded.detach())
    (gradient,) = torch.autograd.grad(recorded.sum(), fields[argument])
    assert gradient.abs().sum() > 0


def test_uniform_motion_is_followed_exactly_and_trusted() -> None:
    speed = torch.tensor([0.5, -0.25]).view(1, 1, 2, 1, 1)
    at = [(-t * speed).expand(1, 1, 2, 9, 9) for t in (0.25, 0.75)]
    to_last = [((1 - t) * speed).expand(1, 1, 2, 9, 9) for t in (0.25, 0.75)]
    start, end = torch.tensor([0.25]), torch.tensor([0.75])
    shift = paths.follow((at[0], to_last[0]), (at[1], to_last[1]), start, end)
    torch.testing.assert_close(shift, (0.5 * speed).expand_as(shift))
    whole = speed[:, 0].expand(1, 2, 9, 9)
    trust = paths.confidence(at[0], to_last[0], whole, -whole)
    torch.testing.assert_close(trust[..., 2:-2, 2:-2], torch.ones(1, 1, 2, 5, 5))


def test_straight_flows_lead_to_both_ends_of_one_line() -> None:
    forward = smooth_noise(1, 2, 12, 12, seed=0) * 0.2
    (to_first,), (to_last,) = (x[:, 0] for x in straight_flows(forward, -forward, torch.tensor([0.0])))
    torch.testing.assert_close(to_first, torch.zeros_like(to_first))
    torch.testing.assert_close(to_last, forward[0])
