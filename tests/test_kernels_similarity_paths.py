"""The kernels of similarity paths against their reference."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from rdvfi.ops import similarity_paths
from rdvfi.ops.inference import KERNELS

module = kernels.load("similarity_paths")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _flows(h: int, w: int) -> tuple[Tensor, Tensor]:
    """A turn that grows before a ground that moves on, and back; noise beside it."""
    y, x = torch.meshgrid(torch.arange(h) - h / 2, torch.arange(w) - w / 2, indexing="ij")
    turned = torch.view_as_complex(torch.stack((x, y), dim=-1).float().contiguous()) * (1.1 * complex(0.5, 0.8) - 1.0)
    inside = x * x + y * y < (h / 3) ** 2
    forward = torch.where(inside, torch.view_as_real(turned).permute(2, 0, 1), torch.tensor([1.5, -0.5])[:, None, None])
    draw = torch.Generator().manual_seed(h)
    rough = 3.0 * F.interpolate(torch.randn(1, 2, h // 3, w // 3, generator=draw), (h, w), mode="bilinear")
    both = torch.stack((torch.cat((forward[None], rough)), torch.cat((-forward[None], 0.5 * rough.flip(2)))))
    return both[0], both[1]


@pytest.mark.parametrize(("h", "w"), [(18, 33), (5, 9)])
def test_the_kernels_agree_with_the_reference(h: int, w: int) -> None:
    forward, backward = _flows(h, w)
    times = torch.tensor([0.125, 1.0])
    arguments = [x.to(kernels.DEVICE) for x in (forward, backward.transpose(2, 3).contiguous().transpose(2, 3), times)]
    got = [x.cpu() for x in module.similarity_paths(*arguments, **KERNELS["similarity_paths"].settings)]
    expected = similarity_paths._reference(forward, backward, times)
    torch.testing.assert_close(got[1], expected[1], rtol=0, atol=1e-3)
    # A search that two solutions are near to may end at either.
    apart = (got[0] - expected[0]).abs().amax(3)
    assert apart.median() < 1e-3
    assert (apart > 0.02).float().mean() < 0.03
