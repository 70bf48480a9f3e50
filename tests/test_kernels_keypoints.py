"""The kernels of keypoints, and of the transforms that they vote for, against their references."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from rdvfi.motion.flow import keypoints, similarity_votes
from rdvfi.ops.inference import KERNELS

points = kernels.load("keypoints")
votes = kernels.load("similarity_votes")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _texture(h: int, w: int) -> Tensor:
    draw = torch.Generator().manual_seed(h)
    layers = [F.interpolate(torch.rand(2, 1, h // k, w // k, generator=draw), (h, w), mode="bicubic") for k in (4, 9)]
    return 120.0 * sum(layers, torch.zeros(2, 1, h, w)).clamp(0.0, 2.0)


@pytest.mark.parametrize(("h", "w"), [(31, 45), pytest.param(48, 70, marks=pytest.mark.slow)])
def test_points_agree_with_the_reference(h: int, w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = ((1, 1.6, 8), (2, 1.3, 4), (2, 2.1, 3))
    monkeypatch.setattr(keypoints, "_SCALES", scales)
    luma = _texture(h, w)
    settings = {**KERNELS["keypoints"].settings, "scales": scales}
    places, descriptors = (x.cpu() for x in points.keypoints(luma.to(kernels.DEVICE), **settings))
    expected, expected_descriptors = keypoints._reference(luma)
    torch.testing.assert_close(places, expected, rtol=0, atol=1e-3)
    # An orientation that two directions are as good for may fall either way.
    apart = (descriptors - expected_descriptors).norm(dim=-1)
    assert apart.median() < 1e-4
    assert (apart > 1e-3).float().mean() < 0.06


def test_votes_agree_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_votes, "_MATCHES", 40)
    draw = torch.Generator().manual_seed(3)
    first = 8.0 + torch.rand(2, 45, 2, generator=draw) * torch.tensor([110.0, 80.0])
    z = torch.view_as_complex(first)
    turned = torch.stack((z[0] * complex(0.8, 0.6) + complex(20.0, -15.0), z[1] * complex(1.2, -0.1) - 9.0))
    turned[:, 30:] = z[:, 30:] + complex(9.0, 4.0)  # a second motion
    turned[:, 42:] = z[:, 42:]  # what the flow explains
    second = torch.view_as_real(turned) + 0.2 * torch.randn(2, 45, 2, generator=draw)
    descriptors = F.normalize(torch.rand(2, 45, 128, generator=draw) ** 4, dim=-1)
    noisy = F.normalize(descriptors + 0.01 * torch.rand(2, 45, 128, generator=draw), dim=-1)
    order = torch.randperm(45, generator=draw)
    both = torch.cat((first, second[:, order])), torch.cat((descriptors, noisy[:, order]))
    flow = torch.zeros(4, 2, 100, 131).transpose(2, 3).contiguous().transpose(2, 3)
    settings = {**KERNELS["similarity_votes"].settings, "matches": 40}
    got = votes.similarity_votes(*(x.to(kernels.DEVICE) for x in (*both, flow)), **settings).cpu()
    expected = similarity_votes._reference(*both, flow)
    assert expected[:, :2, 4].all()
    assert not expected[:, 2, 4].any()
    torch.testing.assert_close(got[:, :2], expected[:, :2], rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(got[..., 4], expected[..., 4])
    torch.testing.assert_close(got[0, 0, :2], torch.tensor([0.8, 0.6]), rtol=0, atol=0.01)
