"""The kernels of backward warping against the reference in float64."""

import mmap
import sys

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.ops import backward_warp

warp = kernels.load("warp")

SHAPES = [(2, 3, 19, 45), (1, 1, 1, 1), (1, 2, 9, 130), (3, 1, 1, 7)]


def _gradients(image: Tensor, flow: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    image, flow = image.cpu().double().requires_grad_(), flow.cpu().double().requires_grad_()
    found = torch.autograd.grad(backward_warp(image, flow), (image, flow), grad.cpu().double())
    return found[0], found[1]


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_agrees_with_the_reference(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    image, flow = kernels.random_case(0, *shape)
    image = image.to(dtype)
    got = warp.backward_warp(image, flow)
    assert got.dtype == dtype
    expected = backward_warp(image.cpu().double(), flow.cpu().double())
    kernels.assert_close(got, expected, tolerance=kernels.ROUNDING[dtype])


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_its_gradients_agree_with_the_reference(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    image, flow = kernels.random_case(1, *shape)
    image, grad = image.to(dtype), torch.randn(shape, device=flow.device).to(dtype)
    by_image, by_flow = warp.backward_warp_backward(grad, image, flow, True, True)
    assert (by_image.dtype, by_flow.dtype) == (dtype, flow.dtype)
    expected = _gradients(image, flow, grad)
    kernels.assert_close(by_image, expected[0], tolerance=kernels.ROUNDING[dtype])
    kernels.assert_close(by_flow, expected[1], tolerance=1e-5)


@pytest.mark.parametrize(("need_image", "need_flow"), [(True, False), (False, True)])
def test_what_is_not_needed_is_left_out(need_image: bool, need_flow: bool) -> None:
    image, flow = kernels.random_case(2, 1, 2, 8, 16)
    grad = torch.randn_like(image)
    by_image, by_flow = warp.backward_warp_backward(grad, image, flow, need_image, need_flow)
    expected = _gradients(image, flow, grad)
    if need_image:
        kernels.assert_close(by_image, expected[0], tolerance=1e-5)
    else:
        kernels.assert_close(by_flow, expected[1], tolerance=1e-5)
    assert (by_image.numel() > 0, by_flow.numel() > 0) == (need_image, need_flow)


def test_strided_arguments() -> None:
    image, flow = kernels.random_case(3, 2, 3, 17, 33)
    channels_last = image.to(memory_format=torch.channels_last)
    turned, shared = flow.mT.contiguous().mT, flow[:1].expand_as(flow)
    assert torch.equal(warp.backward_warp(channels_last, turned), warp.backward_warp(image, flow))
    assert torch.equal(
        warp.backward_warp(image[:1].expand_as(image), shared)[1],
        warp.backward_warp(image[:1], flow[:1])[0],
    )
    grad = torch.ones_like(image[:, :, :1, :1]).expand_as(image)
    got = warp.backward_warp_backward(grad, channels_last, turned, True, True)
    expected = _gradients(image, flow, grad)
    kernels.assert_close(got[0], expected[0], tolerance=1e-5)
    kernels.assert_close(got[1], expected[1], tolerance=1e-5)


def test_without_flow_the_image_comes_back_bit_by_bit() -> None:
    image, flow = kernels.random_case(4, 1, 3, 20, 70)
    assert torch.equal(warp.backward_warp(image, 0 * flow), image)


def test_far_and_undefined_places_stay_in_the_picture() -> None:
    image, flow = kernels.random_case(5, 1, 1, 4, 4)
    flow[0, :, 0] = torch.tensor([[torch.inf, -torch.inf, 1e30, -1e30]], device=flow.device)
    flow[0, :, 1] = torch.nan
    seen = warp.backward_warp(image, flow)[0, 0]
    corners = [image[0, 0, y, y] for y in (-1, 0, -1, 0)]
    assert torch.equal(seen[0], torch.stack(corners))
    assert torch.equal(seen[1], image[0, 0, 0, 0].expand(4))
    by_image, by_flow = warp.backward_warp_backward(torch.ones_like(image), image, flow, True, True)
    assert by_image.isfinite().all()
    assert not by_flow[0, :, :2].any()


def test_an_empty_batch() -> None:
    image, flow = kernels.random_case(6, 0, 3, 5, 6)
    assert warp.backward_warp(image, flow).shape == (0, 3, 5, 6)
    by_image, by_flow = warp.backward_warp_backward(image, image, flow, True, True)
    assert (by_image.shape, by_flow.shape) == (image.shape, flow.shape)


@pytest.mark.skipif(kernels.DEVICE != "cpu" or sys.platform != "linux", reason="Linux lets memory be reserved only")
def test_offsets_beyond_32_bits() -> None:
    """Rows of the image lie 2^30 elements apart, in memory that is reserved and never filled."""
    apart, h, w = 2**30, 4, 8
    no_reserve = 0x4000  # mmap.MAP_NORESERVE, which Python names from 3.13 on
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    with mmap.mmap(-1, 2 * (h * apart), flags=kind) as memory:
        image = torch.frombuffer(memory, dtype=torch.float16).as_strided((1, 1, h, w), (0, 0, apart, 1))
        content, flow = kernels.random_case(7, 1, 1, h, w, reach=2.0)
        image.copy_(content)
        near = image.contiguous()
        got, expected = (warp.backward_warp(x, flow) for x in (image, near))
        del image
    assert torch.equal(got, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_the_device_picks_the_kernel(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    image, flow = kernels.random_case(8, 2, 3, 64, 96)
    image = image.to(dtype).requires_grad_()
    calls = kernels.spy(monkeypatch, warp, "backward_warp", "backward_warp_backward")
    warped = backward_warp(image, flow.requires_grad_())
    warped.sum().backward()
    assert calls == ["backward_warp", "backward_warp_backward"]
    torch.library.opcheck(torch.ops.rdvfi.backward_warp.default, (image, flow))
    compiled = torch.compile(backward_warp, fullgraph=True)(image, flow)
    torch.testing.assert_close(compiled, warped)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("size", [(1080, 1920), (2161, 3841), (4320, 7680)])
def test_large_frames(size: tuple[int, int], dtype: torch.dtype) -> None:
    image, flow = kernels.random_case(9, 1, 3, *size, reach=30.0)
    image = image.to(dtype)
    expected = backward_warp(image.cpu().double(), flow.cpu().double())
    # Coordinates of 4 digits before the point, in float32: 2^-11 of a pixel.
    kernels.assert_close(warp.backward_warp(image, flow), expected, tolerance=1 / 255)


@pytest.mark.gpu
def test_a_batch_of_more_than_two_to_the_31_elements() -> None:
    image, flow = kernels.random_case(10, 1, 3, 4320, 7680, reach=30.0)
    image = image.half()
    alone = warp.backward_warp(image, flow)
    batch = warp.backward_warp(image.repeat(24, 1, 1, 1), flow.expand(24, 2, 4320, 7680))
    assert torch.equal(batch[-1], alone[0])
