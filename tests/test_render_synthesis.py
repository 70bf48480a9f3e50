"""What phi_s sees where the light changes: `one_light` of the renderer `synthesis`."""

import torch
import torch.nn.functional as F

from rdvfi.render.synthesis import log_gain


def _pictures() -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return 0.2 + 0.6 * F.interpolate(torch.rand(1, 3, 16, 24, generator=draw), (64, 96), mode="bilinear")


def test_a_gain_is_found_per_colour() -> None:
    first = _pictures()
    gain = torch.tensor([0.8, 0.9, 1.1])[:, None, None]
    found = log_gain(first, gain * first)
    assert (found - gain.log()).abs().max() < 0.02


def test_small_things_that_differ_are_no_change_of_light() -> None:
    first = _pictures()
    last = first.clone()
    last[..., 10:16, 20:28] = 1.0
    assert log_gain(first, last).abs().max() == 0.0
    assert log_gain(first, first).abs().max() == 0.0


def test_playing_backwards_turns_the_change_round() -> None:
    first = _pictures()
    there, back = log_gain(first, 0.7 * first), log_gain(0.7 * first, first)
    torch.testing.assert_close(there, -back)
