"""The kernels of the dominant shift against their reference."""

import pytest
import torch
import torch.nn.functional as F

import kernels
from rdvfi.motion.flow import dominant_shift
from rdvfi.ops.inference import KERNELS

module = kernels.load("dominant_shift")


@pytest.mark.parametrize(("h", "w", "cell"), [(19, 34, 3), (24, 30, 1)])
def test_the_kernels_agree_with_the_reference(h: int, w: int, cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)
    draw = torch.Generator().manual_seed(h)
    coarse = 255.0 * torch.rand(2, 1, h // cell + 3, w // cell + 3, generator=draw)
    if cell == 1:
        coarse = coarse[..., :6].repeat(1, 1, 1, 6)  # a texture that repeats itself
    wide = F.interpolate(coarse, (h + 6, w + 6), mode="bilinear") if cell > 1 else coarse[..., : h + 3, : w + 5]
    luma = torch.cat((wide[..., :h, :w], wide[..., 2 : h + 2, 3 : w + 3]))
    got = module.dominant_shift(luma.to(kernels.DEVICE), **KERNELS["dominant_shift"].settings).cpu()
    expected = dominant_shift._reference(luma)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-2)
    assert (expected[:, 2] < 0.0).all() if cell == 1 else (expected[:, 2] > 0.0).all()
