"""The kernel that draws frames, against the reference in float64."""

import pytest
import torch
from torch import Tensor

import kernels
from rdvfi.ops.drawing.reference import composition, draw_band, join_maps

render = kernels.load("render")

CASES = [
    (2, 2, (9, 45), (5, 12), torch.float32),
    (1, 1, (5, 40), (3, 7), torch.float16),
    (1, 1, (5, 40), (3, 7), torch.bfloat16),
    (1, 1, (1, 1), (1, 1), torch.float32),
    (1, 1, (4, 70), (4, 70), torch.float32),
    (1, 1, (5, 7), (12, 3), torch.float32),
    (1, 1, (37, 20), (4, 5), torch.float32),
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


def _drawn(arguments: list[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    return render.render(*arguments, dtype or arguments[0].dtype)


def _expected(arguments: list[Tensor]) -> Tensor:
    return composition(*(x.cpu().double() for x in arguments)).clamp(0, 1)


def _in(dtype: torch.dtype, arguments: list[Tensor]) -> list[Tensor]:
    return [*(image.to(dtype) for image in arguments[:2]), *arguments[2:]]


@pytest.mark.parametrize(("b", "t", "size", "small", "dtype"), CASES)
def test_the_kernel_agrees_with_the_definition(
    b: int,
    t: int,
    size: tuple[int, int],
    small: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    arguments = _in(dtype, _arguments(b, t, size, small))
    got = _drawn(arguments)
    assert got.dtype == dtype
    kernels.assert_close(got, _expected(arguments), tolerance=2 * kernels.ROUNDING[dtype])


def test_strided_arguments() -> None:
    arguments = _arguments(2, 1, (5, 9), (4, 6))
    whole = _drawn(arguments)
    turned = [x.mT.contiguous().mT for x in arguments]
    assert torch.equal(_drawn(turned), whole)
    channels_last = [x.to(memory_format=torch.channels_last) for x in arguments[:2]]
    assert torch.equal(_drawn([*channels_last, *arguments[2:]]), whole)
    shared = [x[:1].expand_as(x) for x in arguments]
    single = _drawn([x[:1] for x in arguments])
    assert torch.equal(_drawn(shared)[1:], single)


def test_flows_far_beyond_the_picture_show_its_border() -> None:
    arguments = _arguments(1, 1, (9, 11), (4, 5))
    arguments[2][:, :, 0], arguments[2][:, :, 1] = 1e6, 0.0
    arguments[4], arguments[5] = torch.ones_like(arguments[4]), torch.zeros_like(arguments[5])
    got = _drawn(arguments)[0, 0]
    kernels.assert_close(got, arguments[0][0, :, :, -1:].expand_as(got).cpu().double(), tolerance=1e-5)


def test_positions_in_a_wide_half_precision_image_are_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In half precision itself positions beyond 2048 would be whole even numbers."""
    monkeypatch.setattr(render, "BLOCK_X", 4096)  # the interpreter pays per instance
    arguments = _in(torch.float16, _arguments(1, 1, (2, 4096), (1, 2048)))
    arguments[2][:, :, 0], arguments[2][:, :, 1] = -1.0, 0.0  # two pixels of the image
    arguments[4], arguments[5] = torch.ones_like(arguments[4]), torch.zeros_like(arguments[5])
    got = _drawn(arguments)[0, 0]
    assert torch.equal(got[..., 2:], arguments[0][0, :, :, :-2])


@pytest.mark.parametrize("size", [(1, 3840), (97, 1)])
def test_places_on_the_small_grid_are_exact(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    """At an edge between motions 200 pixels apart a place must be right to 1e-7 of a small pixel."""
    monkeypatch.setattr(render, "BLOCK_X", 4096)
    monkeypatch.setattr(render, "ROWS", 4096)
    small = tuple(min(side, 223) for side in size)
    arguments = _arguments(1, 1, size, small, reach=0.0)
    arguments[2][:, :, :, ::2, ::2] = 12.0  # small pixels, on every other one
    kernels.assert_close(_drawn(arguments), _expected(arguments), tolerance=1e-3)


def test_eight_bit_frames_are_the_rounded_ones() -> None:
    arguments = _arguments(1, 2, (9, 45), (5, 12))
    got = _drawn(arguments, torch.uint8)
    assert got.dtype == torch.uint8
    difference = got.cpu().double() - 255.0 * _expected(arguments)
    assert difference.abs().max() < 0.5 + 1e-2


def test_ten_bit_frames_are_rounded() -> None:
    arguments = _arguments(1, 1, (9, 14), (4, 6))
    got = _drawn(arguments, torch.int16)
    assert got.dtype == torch.int16
    assert (got.cpu().double() - 1023.0 * _expected(arguments)).abs().max() < 0.5 + 4e-2


def test_eight_bit_halves_round_to_even_as_in_torch() -> None:
    arguments = _arguments(1, 1, (4, 4), (2, 2), reach=0.0)
    levels = (torch.arange(4.0) + 0.5) / 255
    arguments[0][:] = arguments[1][:] = levels.to(arguments[0])
    arguments[5].zero_()
    arguments[4].fill_(1.0)
    assert torch.equal(_drawn(arguments, torch.uint8)[0, 0, 0, 0].cpu(), (255 * levels).round().to(torch.uint8))


def test_without_motion_an_image_comes_back_bit_by_bit() -> None:
    arguments = _arguments(1, 1, (19, 133), (7, 11), reach=0.0)
    arguments[4].fill_(1.0)
    arguments[5].zero_()
    assert torch.equal(_drawn(arguments)[:, 0], arguments[0])


@pytest.mark.parametrize("value", [float("nan"), -1e30, 1e30])
def test_no_motion_is_too_wild(value: float) -> None:
    """Every look-up stays in the picture; what is not a number goes to its first column."""
    arguments = _arguments(1, 1, (6, 8), (3, 4), reach=0.0)
    arguments[2][:, :, 0] = arguments[3][:, :, 0] = value
    arguments[4].fill_(1.0)
    arguments[5].zero_()
    column = arguments[0][..., -1:] if value > 0 else arguments[0][..., :1]
    assert torch.equal(_drawn(arguments)[:, 0], column.expand_as(arguments[0]))


def test_wide_offsets_give_the_same_frames() -> None:
    """What frames of more than 2^29 pixels take; no such frame is needed to run it."""
    arguments = _arguments(1, 2, (9, 45), (5, 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "_INT32_LIMIT", 1)
        wide = _drawn(arguments)
    assert torch.equal(wide, _drawn(arguments))


def test_no_times_give_no_frames() -> None:
    arguments = _arguments(2, 0, (8, 8), (4, 4))
    assert _drawn(arguments).shape == (2, 0, 3, 8, 8)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840), (4320, 7680)])
def test_large_frames_on_a_gpu(size: tuple[int, int], dtype: torch.dtype) -> None:
    """Through the operator; in the largest size, more elements than 32 bits count.

    The reference draws two bands of rows, the last one among them, in float64 on the same device.
    """
    times = 24 if size[1] == 7680 else 2
    arguments = _in(dtype, _arguments(1, times, size, (128, 224), reach=0.02))
    got = torch.ops.rdvfi.render(*arguments, dtype)
    first, last, *maps = (x.double() for x in arguments)
    for time in (0, times - 1):
        joined = join_maps(*(x[:, time : time + 1] for x in maps))[0]
        for top in (size[0] // 2, size[0] - 64):
            expected = draw_band(first, last, joined, top, top + 64).clamp(0, 1)
            error = (got[:, time, :, top : top + 64].double() - expected).abs().max()
            # bfloat16 rounds by 2^-9 itself, which is half of 1 / 255.
            assert error < 1 / 255 + (2**-9 if dtype == torch.bfloat16 else 0.0)
