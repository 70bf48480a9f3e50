"""Backward warping: by hand, against SciPy, OpenCV, kornia and `grid_sample`; following points."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.geometry.transform import remap
from scipy.ndimage import map_coordinates
from torch import Tensor

import toy
from rdvfi.ops import backward_warp, follow, kernels


def _constant(dx: float, dy: float, n: int, h: int, w: int) -> Float[Tensor, "n 2 h w"]:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(n, 2, h, w)


IMAGE = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0]])


def test_a_warp_worked_out_by_hand() -> None:
    right = backward_warp(IMAGE[None, None], _constant(1.0, 0.0, 1, 3, 4))[0, 0]
    expected = [[1.0, 2.0, 3.0, 3.0], [5.0, 6.0, 7.0, 7.0], [9.0, 10.0, 11.0, 11.0]]
    torch.testing.assert_close(right, torch.tensor(expected))
    between = backward_warp(IMAGE[None, None], _constant(-0.5, 0.5, 1, 3, 4))[0, 0]
    expected = [[2.0, 2.5, 3.5, 4.5], [6.0, 6.5, 7.5, 8.5], [8.0, 8.5, 9.5, 10.5]]
    torch.testing.assert_close(between, torch.tensor(expected))


def test_no_flow_changes_nothing() -> None:
    image = torch.rand(2, 3, 37, 53)
    torch.testing.assert_close(backward_warp(image, torch.zeros(2, 2, 37, 53)), image, rtol=0, atol=1e-5)


def test_it_agrees_with_scipy_on_random_flows() -> None:
    """Also far outside the image, where both repeat the border."""
    rng = np.random.default_rng(0)
    image, flow = rng.random((2, 31, 44)), rng.normal(0.0, 12.0, (2, 31, 44))
    ys, xs = np.mgrid[:31, :44]
    where = (ys + flow[1], xs + flow[0])
    expected = [map_coordinates(channel, where, order=1, mode="nearest") for channel in image]
    got = backward_warp(torch.from_numpy(image)[None].float(), torch.from_numpy(flow)[None].float())
    np.testing.assert_allclose(got[0].numpy(), np.stack(expected), rtol=0, atol=2e-5)


def _places(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and rows that each pixel looks up."""
    h, w = flow.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return xs + flow[:, 0], ys + flow[:, 1]


def test_it_agrees_with_opencv_and_kornia() -> None:
    """OpenCV rounds coordinates to 1/32 pixel, so its flows are whole multiples of that."""
    image, flow = torch.rand(2, 3, 31, 44), 4 * torch.randn(2, 2, 31, 44)
    flow = (32 * flow).round() / 32
    got, (xs, ys) = backward_warp(image, flow), _places(flow)
    # kornia's pixels are numbered from corner to corner; in pixels that is the same place.
    by_kornia = remap(image, xs, ys, padding_mode="border", align_corners=True)
    torch.testing.assert_close(got, by_kornia, rtol=0, atol=2e-5)
    for i in range(2):
        expected = cv2.remap(
            image[i].permute(1, 2, 0).numpy(),
            xs[i].numpy(),
            ys[i].numpy(),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.testing.assert_allclose(got[i].permute(1, 2, 0).numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_it_is_grid_sample_at_the_flows_places(dtype: torch.dtype) -> None:
    image, flow = torch.rand(2, 5, 13, 17).to(dtype), 4 * torch.randn(2, 2, 13, 17)
    xs, ys = _places(flow.double())
    grid = torch.stack(((2 * xs + 1) / 17 - 1, (2 * ys + 1) / 13 - 1), dim=-1)
    expected = F.grid_sample(image.double(), grid, padding_mode="border", align_corners=False)
    got = backward_warp(image, flow)
    assert got.dtype == dtype
    rounding = {torch.float16: 5e-4, torch.bfloat16: 4e-3}.get(dtype, 2e-6)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=rounding)


def test_its_gradients_are_right_to_the_last_digits() -> None:
    image = torch.rand(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    flow = (1.5 * torch.randn(2, 2, 4, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(backward_warp, (image, flow))
    assert torch.autograd.gradcheck(lambda f: backward_warp(image.detach(), f), (flow,))
    assert torch.autograd.gradcheck(lambda i: backward_warp(i, flow.detach()), (image,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_operator_keeps_torchs_rules(dtype: torch.dtype) -> None:
    image = torch.rand(2, 3, 6, 7).to(dtype)
    flow = torch.randn(2, 2, 6, 7)
    for needs in ((False, False), (True, False), (False, True), (True, True)):
        args = [x.clone().requires_grad_(y) for x, y in zip((image, flow), needs, strict=True)]
        torch.library.opcheck(torch.ops.rdvfi.backward_warp.default, args)


def test_strided_expanded_and_empty_arguments() -> None:
    image, flow = torch.rand(2, 3, 6, 7), torch.randn(2, 2, 6, 7)
    expected = backward_warp(image, flow)
    turned = flow.mT.contiguous().mT
    for wide in (image.to(memory_format=torch.channels_last), image.mT.contiguous().mT):
        torch.testing.assert_close(backward_warp(wide, turned), expected)
    args = image[:1].requires_grad_(), flow[:1].requires_grad_()
    spread = backward_warp(args[0].expand(4, 3, 6, 7), args[1].expand(4, 2, 6, 7))
    torch.testing.assert_close(spread, expected[:1].expand(4, 3, 6, 7))
    got = torch.autograd.grad(spread.sum(), args)
    alone = torch.autograd.grad(4 * backward_warp(*args).sum(), args)
    torch.testing.assert_close(got, alone, rtol=1e-4, atol=1e-5)
    none = backward_warp(image[:0].requires_grad_(), flow[:0])
    assert none.shape == (0, 3, 6, 7)
    none.sum().backward()


def test_it_compiles_whole_and_autocast_leaves_coordinates_alone() -> None:
    image, flow = torch.rand(1, 2, 8, 9), torch.randn(1, 2, 8, 9).requires_grad_()
    expected = backward_warp(image, flow)
    compiled = torch.compile(backward_warp, fullgraph=True, backend="aot_eager")
    found = compiled(image, flow)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), flow), torch.autograd.grad(expected.sum(), flow))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(backward_warp(image, flow), expected)


def test_kernels_are_for_what_they_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for float64, and not without Triton, of which users are told once."""
    single, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    for found in (True, False):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=found: found or None)
        kernels._has_triton.cache_clear()
        if found:
            assert kernels.can_use_kernels(single, single.half())
            assert not kernels.can_use_kernels(single, double)
        else:
            with pytest.warns(UserWarning, match="Triton is not installed"):
                assert not kernels.can_use_kernels(single)
            assert not kernels.can_use_kernels(single)
    kernels._has_triton.cache_clear()


@pytest.mark.parametrize("shape", [(1, 2, 8, 9), (2, 2, 8, 8), (1, 3, 8, 8)])
def test_a_flow_of_another_grid_is_refused(shape: tuple[int, ...]) -> None:
    unchecked = getattr(backward_warp, "__wrapped__", backward_warp)
    with pytest.raises(ValueError, match=r"flow must be of shape \(1, 2, 8, 8\)"):
        unchecked(torch.zeros(1, 3, 8, 8), torch.zeros(shape))


def _bilinear(image: Tensor, flow: Tensor) -> Tensor:
    """The definition in float64, one gather per corner; differentiable."""
    h, w = image.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    x, y = (xs + flow[0]).clamp(0, w - 1), (ys + flow[1]).clamp(0, h - 1)
    left, top = x.detach().floor().clamp(max=w - 2), y.detach().floor().clamp(max=h - 2)
    fx, fy, i, j = x - left, y - top, top.long(), left.long()
    upper = (1 - fx) * image[:, i, j] + fx * image[:, i, j + 1]
    lower = (1 - fx) * image[:, i + 1, j] + fx * image[:, i + 1, j + 1]
    return (1 - fy) * upper + fy * lower


def test_its_gradients_are_those_of_the_definition() -> None:
    image = torch.rand(3, 9, 11, dtype=torch.float64, requires_grad=True)
    flow = (3 * torch.randn(2, 9, 11, dtype=torch.float64)).requires_grad_()
    weights = torch.randn(3, 9, 11, dtype=torch.float64)
    expected = torch.autograd.grad((_bilinear(image, flow) * weights).sum(), (image, flow))
    single = backward_warp(image.float()[None], flow.float()[None])[0]
    got = torch.autograd.grad((single * weights).sum(), (image, flow))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_coordinates_of_a_wide_half_precision_image_are_exact() -> None:
    """In half precision itself coordinates beyond 2048 would be whole even numbers."""
    image = torch.rand(1, 1, 16, 4096).half()
    moved = backward_warp(image, _constant(1.0, 0.0, 1, 16, 4096))
    assert moved.dtype == torch.float16
    torch.testing.assert_close(moved[..., :-1], image[..., 1:], rtol=0, atol=2e-3)


def _linear(speed: Tensor, times: Tensor, h: int = 16, w: int = 24) -> tuple[Tensor, Tensor]:
    """Flows to both ends, at each time, of a picture that is shifted as a whole."""
    t = times.view(1, -1, 1, 1, 1)
    shift = speed.view(1, 1, 2, 1, 1).expand(1, len(times), 2, h, w)
    return -t * shift, (1 - t) * shift


def test_following_a_shift_is_exact() -> None:
    speed, start, end = (
        torch.tensor([40.0, -25.0]),
        torch.tensor([0.25, 1.0]),
        torch.tensor([0.75, 0.0]),
    )
    found = follow(_linear(speed, start), _linear(speed, end), start, end)
    expected = (end - start).view(1, 2, 1, 1, 1) * speed.view(1, 1, 2, 1, 1)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=1e-4)


def test_following_for_no_time_leads_nowhere() -> None:
    times = torch.tensor([0.3, 0.8])
    flows = tuple(3 * toy.textured(1, 16, 24, seed=i)[:, None, :2].repeat(1, 2, 1, 1, 1) for i in (0, 1))
    found = follow((flows[0], flows[1]), (flows[0], flows[1]), times, times)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-5)
