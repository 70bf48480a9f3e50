"""The full-size pass against its definition: upsample, warp both frames, blend."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import drawn
from rdvfi.geometry import resize_flow
from rdvfi.ops import backward_warp, render
from rdvfi.ops.drawing import reference
from rdvfi.ops.drawing.reference import composition
from rdvfi.testing import smooth_noise

SIZES = [((64, 96), (32, 48)), ((61, 83), (16, 24)), ((48, 32), (48, 32)), ((33, 250), (20, 20))]


def _up(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _naive(img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor) -> Tensor:
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


def test_a_frame_worked_out_by_hand() -> None:
    """One small-grid pixel is two full-size ones, so the first frame is seen two to the right."""
    img0 = torch.arange(16.0).view(1, 1, 1, 16).expand(1, 3, 16, 16) / 20
    img1 = torch.full((1, 3, 16, 16), 0.5)
    flow0 = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 8, 8)
    mask, residual = torch.full((1, 1, 1, 8, 8), 0.75), torch.full((1, 1, 3, 8, 8), 0.125)
    got = render(img0, img1, flow0, torch.zeros_like(flow0), mask, residual)
    row = 0.75 * torch.tensor([*range(2, 16), 15, 15]) / 20 + 0.25 * 0.5 + 0.125
    torch.testing.assert_close(got, row.clamp(max=1).expand(1, 1, 3, 16, 16), rtol=0, atol=1e-6)


def test_it_agrees_with_opencv() -> None:
    """OpenCV looks up at whole multiples of 1/32 pixel: flows that need no more are exact."""
    size, small = (48, 64), (24, 32)
    images = [0.2 + 0.6 * torch.rand(1, 3, *size) for _ in range(2)]
    flows = [torch.randint(-40, 40, (1, 1, 2, 1, 1)).expand(1, 1, 2, *small) / 8 for _ in range(2)]
    mask, residual = torch.full((1, 1, 1, *small), 0.25), torch.zeros(1, 1, 3, *small)
    got = render(images[0], images[1], flows[0], flows[1], mask, residual)[0, 0]
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    seen = []
    for image, flow in zip(images, flows, strict=True):
        dx, dy = (2 * flow[0, 0, :, 0, 0]).tolist()
        pixels = image[0].permute(1, 2, 0).numpy()
        border = cv2.BORDER_REPLICATE
        seen.append(cv2.remap(pixels, xs + dx, ys + dy, cv2.INTER_LINEAR, borderMode=border))
    expected = torch.from_numpy(0.25 * seen[0] + 0.75 * seen[1]).permute(2, 0, 1)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    b=st.integers(1, 2),
    t=st.integers(0, 4),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    small=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    reach=st.sampled_from([0.0, 0.1, 0.3]),
    pixels=st.sampled_from([1, 300, 2_000, 1_000_000]),
    threads=st.integers(1, 3),
)
def test_bands_of_rows_are_the_definition_at_any_size(
    seed: int,
    b: int,
    t: int,
    size: tuple[int, int],
    small: tuple[int, int],
    reach: float,
    pixels: int,
    threads: int,
) -> None:
    arguments = drawn.noise(seed, b, t, size, small, reach)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rdvfi.ops.drawing.opencv.is_exact", lambda: False)
        patch.setattr(reference, "_BAND_PIXELS", pixels)
        patch.setattr("torch.get_num_threads", lambda: threads)
        got = render(*arguments)
    expected, limit = drawn.exact(*arguments), drawn.rounding(*arguments)
    torch.testing.assert_close(got, expected, rtol=0, atol=limit)


def test_gradients_pass_the_numerical_check() -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = [(1, 3, 5, 6)] * 2 + [(1, 2, c, 3, 4) for c in (2, 2, 1, 3)]
    arguments = [torch.rand(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    for argument in arguments:
        argument.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: composition(*x), arguments)


def test_whole_numbers_are_those_of_eight_or_ten_bits() -> None:
    arguments = _arguments((24, 32), (16, 16))
    exact = render(*arguments)
    for dtype, most in ((torch.uint8, 255), (torch.int16, 1023)):
        assert torch.equal(render(*arguments, dtype=dtype), (most * exact).round().to(dtype))
    with pytest.raises(ValueError, match="frames are floats"):
        render(*arguments, dtype=torch.int32)


def test_values_do_not_depend_on_recording_gradients() -> None:
    arguments = _arguments((45, 67), (16, 24))
    plain = render(*arguments)
    recorded = render(arguments[0].clone().requires_grad_(), *arguments[1:])
    torch.testing.assert_close(plain, recorded.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("end", [0, 1])
def test_no_flow_and_a_whole_share_give_the_end_frame(end: int) -> None:
    arguments = list(_arguments((45, 67), (16, 24)))
    arguments[2 + end] = torch.zeros_like(arguments[2])
    arguments[4] = torch.full_like(arguments[4], 1.0 - end)
    arguments[5] = torch.zeros_like(arguments[5])
    expected = arguments[end][:, None].expand(-1, 3, -1, -1, -1)
    got = render(*arguments)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_any_strides_are_taken() -> None:
    arguments = _arguments((40, 56), (16, 24))
    strided = [x.flip(-1).contiguous().flip(-1).transpose(-1, -2).contiguous() for x in arguments]
    got = render(*(x.transpose(-1, -2) for x in strided))
    torch.testing.assert_close(got, render(*arguments), rtol=0, atol=1e-6)


@pytest.mark.parametrize("argument", range(1, 6))
def test_a_shape_that_does_not_fit_is_named(argument: int) -> None:
    arguments = list(_arguments((40, 56), (16, 24)))
    arguments[argument] = arguments[argument][..., :-1]
    name = ("img0", "img1", "flow0", "flow1", "mask", "residual")[argument]
    unchecked = getattr(render, "__wrapped__", render)
    with pytest.raises(Exception, match=name):
        unchecked(*arguments)


@pytest.mark.slow
def test_the_memory_of_a_large_frame_is_bounded() -> None:
    """In a process of its own: beyond images and frames it may take 300 MB at 7680x4320."""
    program = (
        "import resource, torch\n"
        "from rdvfi.ops import render\n"
        "torch.set_num_threads(1)\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "def draw(h, w):\n"
        "    image = torch.zeros(1, 3, h, w)\n"
        "    maps = [torch.zeros(1, 1, c, 128, 224) for c in (2, 2, 1, 3)]\n"
        "    return image, render(image, image, *maps)\n"
        "draw(64, 64)\n"
        "before = peak()\n"
        "kept = draw(4320, 7680)\n"
        "print(peak() - before - sum(x.nbytes for x in kept))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300e6


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
    arguments = [value[:, :0] if value.dim() == 5 else value for value in _arguments((40, 56), (16, 24))]
    assert render(*arguments).shape == (2, 0, 3, 40, 56)
