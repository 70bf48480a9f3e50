"""The kernels of `rdvfi.ops.video_colour` give what its reference gives."""

import pytest
import torch

import kernels
from rdvfi.ops import video_colour

colour_kernels = kernels.load("video_colour")


def _meaning(bits: int, left: float, top: float) -> list[float]:
    unit = 2.0 ** (bits - 8)
    return [0.2126, 0.0722, 16 * unit, 128 * unit, 219 * unit, 224 * unit, left, top]


CASES = [
    ((35, 41), (2, 2), False, 8, 0, 0.0, 0.5, torch.float16),
    ((34, 40), (2, 2), True, 10, 6, 0.5, 0.0, torch.float32),
    ((17, 71), (1, 2), False, 12, 0, 0.0, 0.5, torch.float32),
    ((18, 39), (1, 1), False, 8, 0, 0.5, 0.5, torch.float16),
]


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, each takes milliseconds; the first case has several on both axes."""
    if kernels.DEVICE == "cpu":
        monkeypatch.setattr(colour_kernels, "BLOCK_Y", 32)
        monkeypatch.setattr(colour_kernels, "BLOCK_X", 32)


@pytest.mark.parametrize(("size", "sub", "packed", "bits", "shift", "left", "top", "dtype"), CASES)
def test_kernels_equal_the_reference(size, sub, packed, bits, shift, left, top, dtype) -> None:
    own = torch.Generator().manual_seed(bits)
    frame = (1.2 * torch.rand(size[1] - 3, size[0] + 1, 3, generator=own) - 0.1).to(dtype).permute(2, 1, 0)
    frame, meaning = frame.to(kernels.DEVICE), _meaning(bits, left, top)
    given = (list(size), list(sub), packed, bits, shift, meaning)
    expected = video_colour._rgb_to_video_reference(frame, *given)
    got = colour_kernels.rgb_to_video(frame, *given)
    assert got.dtype == expected.dtype
    apart = (got.to(torch.int32) - expected.to(torch.int32)) >> shift
    assert apart.abs().max() <= 1  # where a sum lies between two numbers
    assert (apart != 0).float().mean() < 0.002

    stored = [
        part.to(torch.int32) for part in expected.split((size[0] * size[1], expected.numel() - size[0] * size[1]))
    ]
    luma, rest = (part.to(expected.dtype) for part in stored)
    small = (-(-size[0] // sub[0]), -(-size[1] // sub[1]))
    u, v = rest.view(*small, 2).unbind(-1) if packed else rest.view(2, *small)
    planes = (luma.view(size), u, v, _meaning(bits + shift, left, top), dtype)
    kernels.assert_close(
        colour_kernels.video_to_rgb(*planes),
        video_colour._video_to_rgb_reference(*planes).cpu().double(),
        tolerance=kernels.ROUNDING[dtype],
    )
