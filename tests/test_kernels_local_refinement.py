"""The kernels of what a refinement reads, against their references."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from rdvfi.motion.flow import gauss_newton, local_refinement, patch_search
from rdvfi.ops.inference import KERNELS

module = kernels.load("local_refinement")
surface = kernels.load("surface")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _images(h: int, w: int) -> Tensor:
    draw = torch.Generator().manual_seed(h)
    return F.interpolate(torch.rand(2, 3, h // 3, w // 3, generator=draw), (h, w), mode="bilinear")


@pytest.mark.parametrize(("h", "w"), [(36, 76)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_surfaces_agree_with_the_reference(h: int, w: int, channels_last: bool) -> None:
    images = _images(h, w).contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    got = surface.surface(images.to(kernels.DEVICE), **KERNELS["surface"].settings).cpu()
    torch.testing.assert_close(got, gauss_newton._surface_reference(images), rtol=0, atol=1e-4)
    got = surface.grey_levels(images.to(kernels.DEVICE), **KERNELS["grey_levels"].settings).cpu()
    torch.testing.assert_close(got, patch_search._grey_reference(images), rtol=0, atol=1e-3)


@pytest.mark.parametrize("stride", [4, 2])
def test_what_is_read_agrees_with_the_reference(stride: int) -> None:
    h, w = 12, 20
    maps = gauss_newton._surface_reference(_images(h, w))
    matrices, fixed = local_refinement._windows_reference(maps, stride)
    got = module.refinement_windows(maps.to(kernels.DEVICE), stride, **KERNELS["refinement_windows"].settings)
    for ours, theirs in zip(got, (matrices, fixed), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-4)
    draw = torch.Generator().manual_seed(1)
    flow = 2.0 * torch.randn(2, h // stride, w // stride, 2, generator=draw).permute(0, 3, 1, 2)  # leaves the picture
    arguments = [x.to(kernels.DEVICE) for x in (maps, matrices, flow)]
    got = module.refinement_inputs(*arguments, stride, torch.float32, **KERNELS["refinement_inputs"].settings)
    for ours, theirs in zip(
        got, local_refinement._inputs_reference(maps, matrices, flow, stride, torch.float32), strict=True
    ):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-3)
