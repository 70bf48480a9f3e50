"""The kernels of forward warping against the reference in float64."""

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.ops import splat_sum

splat = kernels.load("splat")

SHAPES = [(2, 3, 19, 45), (1, 1, 1, 1), (1, 2, 9, 130)]


def _case(seed: int, n: int, c: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    values, flow = kernels.random_case(seed, n, c, h, w)
    return values, flow, torch.rand(n, 1, h, w).to(values) + 0.1


def _doubled(*tensors: Tensor) -> list[Tensor]:
    return [x.detach().cpu().double().requires_grad_() for x in tensors]


def _units(values: Tensor, weights: Tensor) -> Tensor:
    from rdvfi.ops.splatting import integer_units, weighted_values

    return integer_units(weighted_values(values.float(), weights.float()))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_agrees_with_the_reference(
    shape: tuple[int, int, int, int], dtype: torch.dtype, whole: bool
) -> None:
    values, flow, weights = _case(0, *shape)
    values = values.to(dtype)
    sums = splat.splat_with_units(values, flow, weights, _units(values, weights) if whole else None)
    assert sums.dtype == torch.float32
    expected = torch.cat(splat_sum(*_doubled(values, flow, weights)), dim=1)
    kernels.assert_close(sums, expected.detach(), tolerance=1e-5)


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_its_gradients_agree_with_the_reference(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    n, c, h, w = shape
    values, flow, weights = _case(1, *shape)
    values, grad = values.to(dtype), torch.randn(n, c + 1, h, w).to(flow)
    got = splat.splat_sum_backward(grad, values, flow, weights)
    args = _doubled(values, flow, weights)
    cotangent = grad.cpu().double()
    expected = torch.autograd.grad(splat_sum(*args), args, (cotangent[:, :-1], cotangent[:, -1:]))
    assert [x.dtype for x in got] == [dtype, torch.float32, torch.float32]
    for mine, theirs, rounding in zip(got, expected, (kernels.ROUNDING[dtype], 1e-5, 1e-5), strict=True):
        kernels.assert_close(mine, theirs, tolerance=rounding)


def test_whole_numbers_add_up_to_the_same_bits_in_any_order() -> None:
    values, flow, weights = _case(2, 2, 3, 19, 45)
    flow = (4 * flow).round() / 4  # so that moving the start of a flow rounds nothing
    units = _units(values, weights)
    expected = splat.splat_with_units(values, flow, weights, units)
    order = torch.randperm(19 * 45, device=flow.device)
    ys, xs = torch.meshgrid(torch.arange(19), torch.arange(45), indexing="ij")
    place = torch.stack((xs, ys)).to(flow)
    shuffled = [x.flatten(2)[:, :, order].view_as(x) for x in (values, place + flow, weights)]
    got = splat.splat_with_units(shuffled[0], shuffled[1] - place, shuffled[2], units)
    assert torch.equal(got, expected)
    # The kernel and the reference round alike; only fused multiplication may tell them apart.
    reference = splat_sum(values.cpu(), flow.cpu(), weights.cpu(), deterministic=True)
    kernels.assert_close(got, torch.cat(reference, dim=1).double(), tolerance=1e-6)


def test_strided_arguments() -> None:
    values, flow, weights = _case(3, 2, 3, 17, 33)
    wide, turned = values.to(memory_format=torch.channels_last), flow.mT.contiguous().mT
    shared = weights[:, :, :1, :1].expand_as(weights)
    args = (wide, turned, shared)
    expected = torch.cat(splat_sum(*_doubled(*args)), dim=1)
    kernels.assert_close(splat.splat_with_units(*args, None), expected.detach(), tolerance=1e-5)
    grad = torch.randn(2, 17, 33, 4).to(flow).permute(0, 3, 1, 2)
    got = splat.splat_sum_backward(grad, *args)
    plain = splat.splat_sum_backward(grad.contiguous(), *(x.contiguous() for x in args))
    assert all(torch.equal(a, b) for a, b in zip(got, plain, strict=True))


def test_pixels_without_a_place_are_lost() -> None:
    values, flow, weights = _case(4, 1, 1, 4, 4)
    flow[0, :, 0] = torch.tensor([[torch.inf, -torch.inf, 1e30, -1e30]]).to(flow)
    flow[0, :, 1] = torch.nan
    left = weights.clone()
    left[:, :, :2] = 0
    expected = splat_sum(*_doubled(values, 0 * values.expand_as(flow), left))
    flow[:, :, 2:] = 0
    got = splat.splat_with_units(values, flow, weights, None)
    kernels.assert_close(got, torch.cat(expected, dim=1).detach(), tolerance=1e-6)
    grads = splat.splat_sum_backward(torch.ones_like(got), values, flow, weights)
    assert not any(x[:, :, :2].any() for x in grads)


def test_an_empty_batch() -> None:
    values, flow, weights = _case(5, 0, 3, 5, 6)
    assert splat.splat_with_units(values, flow, weights, None).shape == (0, 4, 5, 6)
    grads = splat.splat_sum_backward(torch.zeros(0, 4, 5, 6).to(flow), values, flow, weights)
    assert [x.shape for x in grads] == [x.shape for x in (values, flow, weights)]


@pytest.mark.gpu
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_the_device_picks_the_kernel(dtype: torch.dtype, deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = kernels.spy(monkeypatch, splat, "splat_sum", "splat_sum_backward")
    values, flow, weights = _case(6, 2, 3, 64, 96)
    args = values.to(dtype).requires_grad_(), flow.requires_grad_(), weights.requires_grad_()
    moved, total = splat_sum(*args, deterministic=deterministic)
    (moved.sum() + total.sum()).backward()
    assert calls == ["splat_sum", "splat_sum_backward"]
    torch.library.opcheck(torch.ops.rdvfi.splat_sum.default, (*args, deterministic))
    compiled = torch.compile(splat_sum, fullgraph=True)(*args, deterministic=deterministic)
    torch.testing.assert_close(compiled, (moved, total))


@pytest.mark.gpu
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("size", [(1080, 1920), (2161, 3841), (4320, 7680)])
def test_large_frames(size: tuple[int, int], deterministic: bool) -> None:
    values, flow, weights = _case(7, 1, 3, *size)
    args = values.half(), flow, weights
    got = splat_sum(*args, deterministic=deterministic)
    with torch.no_grad():
        expected = splat_sum(*_doubled(*args))
    for mine, theirs in zip(got, expected, strict=True):
        # Coordinates of 4 digits before the point, in float32: 2^-11 of a pixel.
        kernels.assert_close(mine, theirs, tolerance=1 / 255)
    if deterministic:
        again = splat_sum(*args, deterministic=True)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))
