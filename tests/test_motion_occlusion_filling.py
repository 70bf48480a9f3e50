"""Occlusion filling: what is consistent stays, and what is not follows its own surface."""

import torch

from rdvfi.motion.flow.occlusion_filling import TOLERANCE, consistency, extrapolate_inconsistent

SPACING = 4


def test_opposite_flows_are_consistent_and_stay_as_they_are() -> None:
    flow = torch.tensor([6.0, -3.0])[None, :, None, None].expand(1, 2, 9, 12)
    both = torch.cat((flow, -flow))
    consistent = consistency(both, SPACING)
    assert torch.equal(consistent, torch.ones(2, 1, 9, 12))
    filled, share = extrapolate_inconsistent(both, consistent, torch.zeros(2, 1, 9, 12))
    assert torch.equal(filled, both)
    assert not share.any()


def test_consistency_is_one_half_at_the_tolerance() -> None:
    """Two static images, one of which has a flow of e: the residual is e, the tolerance tau_0 + tau_1 e."""
    residual = TOLERANCE[0] / (1.0 - TOLERANCE[1])
    flow = torch.zeros(2, 2, 5, 7)
    flow[0, 0] = residual
    torch.testing.assert_close(consistency(flow, SPACING)[0], torch.full((1, 5, 7), 0.5))
    assert (consistency(4.0 * flow, SPACING)[0] < 0.01).all()


def test_the_partner_is_read_where_the_flow_leads() -> None:
    """A flow of two cells to the right, and the opposite only there."""
    flow = torch.zeros(2, 2, 8, 10)
    flow[0, 0, 3, 4] = 2.0 * SPACING
    flow[1, 0, 3, 6] = -2.0 * SPACING
    consistent = consistency(flow, SPACING)
    assert consistent[0, 0, 3, 4] == 1.0
    assert consistent[1, 0, 3, 6] == 1.0
    flow[1, 0, 3, 6], flow[1, 0, 6, 3] = 0.0, -2.0 * SPACING
    assert consistency(flow, SPACING)[0, 0, 3, 4] < 0.01


def test_an_occluded_region_takes_the_motion_of_its_own_surface() -> None:
    """A band between a dark object and a bright background is hidden: it is bright, so it moves as the background."""
    brightness = torch.full((1, 1, 12, 24), 200.0)
    brightness[..., :10] = 40.0
    flow = torch.zeros(1, 2, 12, 24)
    flow[:, 0], flow[:, 0, :, :10] = 1.0, 9.0
    truth, hidden = flow.clone(), (..., slice(None), slice(10, 13))
    flow[hidden] = 30.0 * torch.randn(1, 2, 12, 3, generator=torch.Generator().manual_seed(0))
    consistent = torch.ones(1, 1, 12, 24)
    consistent[hidden] = 1e-4
    filled, share = extrapolate_inconsistent(flow, consistent, brightness)
    assert (share[hidden] > 0.8).all()
    error = (filled - truth)[hidden].norm(dim=1)
    assert error.mean() < 0.2 * (flow - truth)[hidden].norm(dim=1).mean()
    mean_of_both = extrapolate_inconsistent(flow, consistent, torch.zeros_like(brightness))[0]
    assert error.mean() < 0.7 * (mean_of_both - truth)[hidden].norm(dim=1).mean()


def test_motion_without_consistent_neighbours_stays() -> None:
    flow = torch.randn(1, 2, 6, 8)
    filled, share = extrapolate_inconsistent(flow, torch.full((1, 1, 6, 8), 1e-8), torch.zeros(1, 1, 6, 8))
    assert share.max() < 1e-4
    torch.testing.assert_close(filled, flow, rtol=0, atol=1e-3)
