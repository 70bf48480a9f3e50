"""Local correlation against its definition, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops import correlation


def _naive(source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], radius: int) -> Float[Tensor, "n o h w"]:
    """Scalar products pixel by pixel, borders replicated."""
    n, c, h, w = source.shape
    rows = []
    for y in range(h):
        for x in range(w):
            cell = []
            for dy in range(-radius, radius + 1):
                for dx in range(-radius, radius + 1):
                    ty, tx = min(max(y + dy, 0), h - 1), min(max(x + dx, 0), w - 1)
                    cell.append((source[:, :, y, x] * target[:, :, ty, tx]).sum(1))
            rows.append(torch.stack(cell, dim=1))
    return torch.stack(rows, dim=2).view(n, -1, h, w) / c**0.5


def _pair(c: int = 3) -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(2, c, 4, 5, dtype=torch.float64, requires_grad=True) for _ in "ab")


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_it_is_its_definition_forward_and_backward(radius: int) -> None:
    source, target = _pair()
    got, expected = correlation(source, target, radius), _naive(source, target, radius)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    ours = torch.autograd.grad((got * weights).sum(), (source, target))
    theirs = torch.autograd.grad((expected * weights).sum(), (source, target))
    torch.testing.assert_close(ours, theirs)


def test_the_gradient_written_out_is_the_gradient() -> None:
    source, target = _pair(2)
    assert torch.autograd.gradcheck(lambda a, b: correlation(a, b, 1), (source, target))


def test_it_peaks_where_a_moved_feature_went() -> None:
    features = F.normalize(torch.randn(1, 32, 12, 12), dim=1)
    moved = features.roll((1, -2), (2, 3))  # one down, two to the left
    best = correlation(features, moved, 3).argmax(1)[0, 4:8, 4:8]
    assert (best == (3 + 1) * 7 + (3 - 2)).all()


def test_one_side_may_need_no_gradient() -> None:
    source, target = _pair()
    (grad,) = torch.autograd.grad(correlation(source.detach(), target, 1).sum(), target)
    assert grad.abs().sum() > 0
