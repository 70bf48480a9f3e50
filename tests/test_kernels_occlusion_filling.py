"""The kernels of occlusion filling against their reference, on motion of which half is inconsistent."""

import pytest
import torch

import kernels
from rdvfi.motion.flow import occlusion_filling
from rdvfi.motion.flow.gauss_newton import swap_halves
from rdvfi.motion.flow.patch_search import Patches

module = kernels.load("occlusion_filling")


@pytest.mark.parametrize(("h", "w"), [(45, 62), (8, 23)])
def test_the_kernels_agree_with_the_reference(h: int, w: int) -> None:
    own = torch.Generator().manual_seed(h)
    luma = 40.0 * torch.rand(2, 1, h, w, generator=own)
    luma[..., w // 2 :] += 25.0  # two surfaces
    patches = Patches.of(luma)
    states = (
        torch.randn(2, 7, len(patches.centre[0]), generator=own)
        * torch.tensor([6.0, 6, 0.1, 0.1, 0.1, 0.1, 1])[:, None]
    )
    columns = patches.counts[1]
    calm = states.unflatten(2, patches.counts)
    calm[:, :2, :, : columns // 2] = torch.tensor([1.5, -1.0])[:, None, None]
    calm[1, :2] *= -1.0
    brightness = patches.template.mean(-1)
    got, weights, consistent = module.fill_states(
        *(x.to(kernels.DEVICE) for x in (luma, states, brightness)),
        patches.counts,
        tolerance=occlusion_filling.TOLERANCE,
        sigma=occlusion_filling.BRIGHTNESS_SIGMA,
        distances=occlusion_filling.DISTANCES,
        half_weight=occlusion_filling.HALF_WEIGHT,
        stride=4,
        side=8,
        patches=16,
    )
    expected = patches.fill_inconsistent(states)
    assert (expected - states).abs().amax(1).gt(0.5).float().mean() > 0.1  # something was to be filled
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=2e-4)
    cost = patches.cost(patches.warp(swap_halves(luma), expected[:, None])[:, 0])
    torch.testing.assert_close(weights.cpu(), cost.clamp(min=1.0).pow(-2), rtol=2e-3, atol=0)
    after = occlusion_filling.consistency(expected[:, :2].unflatten(2, patches.counts), 4).flatten(1)
    torch.testing.assert_close(consistent.cpu(), after, rtol=2e-3, atol=1e-4)
