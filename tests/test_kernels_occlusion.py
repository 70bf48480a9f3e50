"""The kernels that continue maps where they do not hold, against their references."""

import pytest
import torch
import torch.nn.functional as F

import kernels
from rdvfi.ops import occlusion
from rdvfi.ops.inference import KERNELS

module = kernels.load("occlusion")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


@pytest.mark.parametrize(("c", "h", "w"), [(3, 25, 66), (1, 8, 7)])
def test_pull_push_agrees_with_the_reference(c: int, h: int, w: int) -> None:
    draw = torch.Generator().manual_seed(h)
    maps = torch.rand(2, c, w, h, generator=draw).transpose(2, 3)
    valid = (torch.rand(2, 1, h, w, generator=draw) < 0.15).float()
    valid[1] = 0.0
    got = module.pull_push(maps.to(kernels.DEVICE), valid.to(kernels.DEVICE), **KERNELS["pull_push"].settings)
    torch.testing.assert_close(got.cpu(), occlusion._pull_push_reference(maps, valid), rtol=0, atol=1e-5)


def test_occluded_flows_agree_with_the_reference() -> None:
    draw = torch.Generator().manual_seed(2)
    noise = F.interpolate(0.2 * torch.randn(2, 2, 4, 6, generator=draw), (21, 34), mode="bilinear")
    onward = torch.tensor([2.0, 1.0])[:, None, None] + noise
    back = -onward
    onward[0, :, 5:12, 8:18] = torch.tensor([12.0, 4.0])[:, None, None]  # contradicted there
    back[1] = onward[1] + 9.0  # of two scenes: nothing is filled
    missed = module.return_error(onward.to(kernels.DEVICE), onward.flip(0).to(kernels.DEVICE))
    torch.testing.assert_close(missed.cpu(), occlusion._return_reference(onward, onward.flip(0)), rtol=0, atol=1e-4)
    got = module.fill_occluded(onward.to(kernels.DEVICE), back.to(kernels.DEVICE), **KERNELS["fill_occluded"].settings)
    expected = occlusion._fill_reference(onward, back)
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=1e-4)
    assert not torch.equal(expected[0], onward[0])
    assert torch.equal(expected[1], onward[1])
