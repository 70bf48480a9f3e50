"""The kernels of the patch search against its reference, where textures leave no choice to rounding."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from rdvfi.motion.flow.patch_search import _common_reference, _scale_reference
from rdvfi.ops.inference import KERNELS

module = kernels.load("patch_search")
states = kernels.load("patch_states")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _pictures(h: int, w: int, seed: int) -> Tensor:
    """A texture and the same moved by (1.5, -0.75), in grey levels, one after the other."""
    own = torch.Generator().manual_seed(seed)
    coarse = 255.0 * torch.rand(1, 1, h // 5 + 4, w // 5 + 4, generator=own)
    wide = F.interpolate(coarse, (h + 16, w + 16), mode="bicubic", align_corners=False)
    y, x = torch.meshgrid(torch.arange(h) + 8.0, torch.arange(w) + 8.0, indexing="ij")
    both = []
    for dx, dy in ((0.0, 0.0), (-1.5, 0.75)):
        grid = torch.stack(((2.0 * (x + dx) + 1.0) / (w + 16) - 1.0, (2.0 * (y + dy) + 1.0) / (h + 16) - 1.0), dim=-1)
        both.append(F.grid_sample(wide, grid[None], align_corners=False))
    return torch.cat(both)


def _inputs(h: int, w: int, guesses: int, seed: int) -> tuple[Tensor, list[Tensor], Tensor]:
    own = torch.Generator().manual_seed(seed + 1)
    found = [
        F.interpolate(2.0 * torch.randn(2, 2, 3, 4, generator=own), (h, w), mode="bilinear") for _ in range(guesses)
    ]
    common = torch.zeros(2, 2, 7)
    common[:, 0, :2] = torch.tensor([[1.4, -0.7], [-1.4, 0.7]])
    common[:, 1, :6] = torch.tensor([9.0, -3.0, 0.02, 0.01, -0.03, 0.04])  # leads out of the picture
    return _pictures(h, w, seed), found, common


@pytest.mark.parametrize(
    ("h", "w", "guesses", "rounds", "contrast", "penalty"), [(37, 50, 2, 2, 1.0, 2.0), (8, 21, 1, 3, 0.1, -8.0)]
)
def test_the_kernels_agree_with_the_reference(
    h: int, w: int, guesses: int, rounds: int, contrast: float, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faint pictures prefer a wrong motion no further than their contrast allows."""
    monkeypatch.setattr(module, "_BLOCK_SIZE", 128)
    luma, found, common = _inputs(h, w, guesses, seed=h)
    luma, common[:, 1, 6] = contrast * luma, penalty
    common[:, 1, :6] *= contrast
    # Any strides are taken.
    found = [flow.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2) for flow in found]
    arguments = [luma.to(kernels.DEVICE), [x.to(kernels.DEVICE) for x in found], common.to(kernels.DEVICE), rounds]
    got = module.searched_scale(*arguments, **KERNELS["searched_scale"].settings).cpu()
    expected = _scale_reference(luma, found, common, rounds)
    apart = (got - expected).norm(dim=1)
    assert apart.median() < 1e-4
    shift, transforms = torch.rand(2, 3), torch.rand(2, 3, 5)
    for scale in (4, 2):
        given = [x.to(kernels.DEVICE) for x in (shift, transforms)]
        got = states.common_motions(*given, scale, **KERNELS["common_motions"].settings).cpu()
        torch.testing.assert_close(got, _common_reference(shift, transforms, scale), rtol=0, atol=1e-4)
    assert (apart > 0.01).float().mean() < 0.03  # a patch in doubt goes the other way
