"""The kernel that draws frames, against the reference in float64."""

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.ops.drawing.reference import composition

render = kernels.load("render")

CASES = [
    (2, 2, (9, 45), (5, 12), torch.float32),
    (1, 1, (5, 40), (3, 7), torch.float16),
    (1, 1, (5, 40), (3, 7), torch.bfloat16),
    (1, 1, (1, 1), (1, 1), torch.float32),
    (1, 1, (4, 70), (4, 70), torch.float32),
    (1, 1, (5, 7), (12, 3), torch.float32),
]
"""Batch, times, size, small size, type of the images."""


def _arguments(b: int, t: int, size: tuple[int, int], small: tuple[int, int], *, reach: float = 0.1) -> list[Tensor]:
    """Noise; a part of the flows leaves the picture, and a part of the colours [0, 1]."""
    own = torch.Generator().manual_seed(0)
    shapes = [(b, 3, *size)] * 2 + [(b, t, c, *small) for c in (2, 2, 1, 3)]
    images = [torch.rand(shape, generator=own) for shape in shapes[:2]]
    flows = [reach * max(small) * torch.randn(shape, generator=own) for shape in shapes[2:4]]
    mask = torch.rand(shapes[4], generator=own)
    residual = 0.3 * torch.randn(shapes[5], generator=own)
    return [x.to(kernels.DEVICE) for x in (*images, *flows, mask, residual)]


def _expected(arguments: list[Tensor]) -> Tensor:
    return composition(*(x.cpu().double() for x in arguments)).clamp(0, 1)


def _in(dtype: torch.dtype, arguments: list[Tensor]) -> list[Tensor]:
    return [*(image.to(dtype) for image in arguments[:2]), *arguments[2:]]


@pytest.mark.parametrize(("b", "t", "size", "small", "dtype"), CASES)
def test_the_kernel_agrees_with_the_composition(
    b: int,
    t: int,
    size: tuple[int, int],
    small: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    arguments = _in(dtype, _arguments(b, t, size, small))
    got = render.render(*arguments)
    assert got.dtype == dtype
    kernels.assert_close(got, _expected(arguments), tolerance=2 * kernels.ROUNDING[dtype])


def test_strided_arguments() -> None:
    arguments = _arguments(2, 1, (5, 9), (4, 6))
    whole = render.render(*arguments)
    turned = [x.mT.contiguous().mT for x in arguments]
    assert torch.equal(render.render(*turned), whole)
    channels_last = [x.to(memory_format=torch.channels_last) for x in arguments[:2]]
    assert torch.equal(render.render(*channels_last, *arguments[2:]), whole)
    shared = [x[:1].expand_as(x) for x in arguments]
    single = render.render(*(x[:1] for x in arguments))
    assert torch.equal(render.render(*shared)[1:], single)


def test_flows_far_beyond_the_picture_show_its_border() -> None:
    arguments = _arguments(1, 1, (9, 11), (4, 5))
    arguments[2][:, :, 0], arguments[2][:, :, 1] = 1e6, 0.0
    arguments[4], arguments[5] = torch.ones_like(arguments[4]), torch.zeros_like(arguments[5])
    got = render.render(*arguments)[0, 0]
    kernels.assert_close(got, arguments[0][0, :, :, -1:].expand_as(got).cpu().double(), tolerance=1e-5)


def test_positions_in_a_wide_half_precision_image_are_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In half precision itself positions beyond 2048 would be whole even numbers."""
    monkeypatch.setattr(render, "BLOCK_X", 4096)  # the interpreter pays per instance
    arguments = _in(torch.float16, _arguments(1, 1, (2, 4096), (1, 2048)))
    arguments[2][:, :, 0], arguments[2][:, :, 1] = -1.0, 0.0  # two pixels of the image
    arguments[4], arguments[5] = torch.ones_like(arguments[4]), torch.zeros_like(arguments[5])
    got = render.render(*arguments)[0, 0]
    assert torch.equal(got[..., 2:], arguments[0][0, :, :, :-2])


def test_no_times_give_no_frames() -> None:
    arguments = _arguments(2, 0, (8, 8), (4, 4))
    assert render.render(*arguments).shape == (2, 0, 3, 8, 8)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840), (4320, 7680)])
def test_large_frames_on_a_gpu(size: tuple[int, int], dtype: torch.dtype) -> None:
    """Through the operator; in the largest size, more elements than 32 bits count."""
    times = 24 if size[1] == 7680 else 2
    arguments = _in(dtype, _arguments(1, times, size, (128, 224), reach=0.02))
    got = torch.ops.rdvfi.render(*arguments)
    for time in (0, times - 1):
        part = [*arguments[:2], *(x[:, time : time + 1] for x in arguments[2:])]
        error = (got[:, time : time + 1].cpu().double() - _expected(part)).abs().max()
        assert error < 1 / 255
