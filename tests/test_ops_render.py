"""The full-size pass against its definition: upsample, warp both frames, blend."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.geometry import resize_flow
from rdvfi.ops import backward_warp, render
from rdvfi.testing import smooth_noise

SIZES = [((64, 96), (32, 48)), ((61, 83), (16, 24)), ((48, 32), (48, 32)), ((33, 250), (20, 20))]


def _up(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _naive(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor
) -> Tensor:
    """The definition, one frame at a time."""
    size = (img0.shape[-2], img0.shape[-1])
    frames = []
    for i in range(flow0.shape[1]):
        first = backward_warp(img0, resize_flow(flow0[:, i], size))
        last = backward_warp(img1, resize_flow(flow1[:, i], size))
        share = _up(mask[:, i], size)
        frames.append(share * first + (1 - share) * last + _up(residual[:, i], size))
    return torch.stack(frames, dim=1)


def _arguments(size: tuple[int, int], small: tuple[int, int], t: int = 3) -> tuple[Tensor, ...]:
    """Images well inside [0, 1], so that nothing is clamped."""
    b, (h, w) = 2, small
    images = [0.2 + 0.6 * smooth_noise(b, 3, *size, seed=seed).sigmoid() for seed in (0, 1)]
    maps = smooth_noise(b * t, 8, h, w, seed=2).unflatten(0, (b, t))
    flows = 3 * maps[:, :, :4]
    return (
        *images,
        flows[:, :, :2],
        flows[:, :, 2:],
        maps[:, :, 4:5].sigmoid(),
        0.02 * maps[:, :, 5:],
    )


@pytest.mark.parametrize(("size", "small"), SIZES)
def test_it_is_its_definition(size: tuple[int, int], small: tuple[int, int]) -> None:
    arguments = _arguments(size, small)
    expected = _naive(*arguments)
    torch.testing.assert_close(render(*arguments), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("argument", range(6))
def test_its_gradients_are_those_of_the_definition(argument: int) -> None:
    arguments = list(_arguments((40, 56), (16, 24)))
    wanted = arguments[argument] = arguments[argument].clone().requires_grad_()
    weights = torch.randn(2, 3, 3, 40, 56)
    (expected,) = torch.autograd.grad((_naive(*arguments) * weights).sum(), wanted)
    (got,) = torch.autograd.grad((render(*arguments) * weights).sum(), wanted)
    scale = float(expected.abs().max())
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("argument", range(6))
def test_recording_gradients_leaves_values_unclamped(argument: int) -> None:
    """A clamp has no gradient beyond [0, 1], so training on bright pixels would stop."""
    arguments = list(_arguments((40, 56), (16, 24)))
    arguments[5] = arguments[5] + 2.0
    arguments[argument] = arguments[argument].clone().requires_grad_()
    assert render(*arguments).min() > 1.0


def test_without_gradients_values_are_colours() -> None:
    arguments = list(_arguments((40, 56), (16, 24)))
    for offset in (2.0, -2.0):
        arguments[5] = torch.full_like(arguments[5], offset)
        assert set(render(*arguments).unique().tolist()) == {max(0.0, offset / 2)}


def test_working_on_a_few_frames_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = _arguments((40, 56), (16, 24), t=5)
    whole = render(*arguments)
    module = sys.modules["rdvfi.ops.render"]  # the name in the package is the function
    monkeypatch.setattr(module, "_PIXELS_AT_ONCE", 2 * 40 * 56)
    assert torch.equal(render(*arguments), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_keep_exact_coordinates(dtype: torch.dtype) -> None:
    size = (16, 4096)
    images = [torch.rand(1, 3, *size).to(dtype) for _ in range(2)]
    flow = torch.zeros(1, 1, 2, 8, 2048)
    flow[:, :, 0] = -1.0  # two full-size pixels
    mask, residual = torch.ones(1, 1, 1, 8, 2048), torch.zeros(1, 1, 3, 8, 2048)
    frame = render(images[0], images[1], flow, flow, mask, residual)[:, 0]
    assert frame.dtype == dtype
    torch.testing.assert_close(frame[..., 2:], images[0][..., :-2], rtol=0, atol=4e-3)


def test_no_times_give_no_frames() -> None:
    arguments = [
        value[:, :0] if value.dim() == 5 else value for value in _arguments((40, 56), (16, 24))
    ]
    assert render(*arguments).shape == (2, 0, 3, 40, 56)
