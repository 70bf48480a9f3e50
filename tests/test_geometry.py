"""Grids and sizes: half-pixel centres, flows that keep their meaning when resized."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rdvfi.geometry import (
    choose_motion_size,
    pixel_grid,
    replicate_pad,
    resize_flow,
    resize_image,
)
from rdvfi.ops import backward_warp
from rdvfi.testing import assert_close, smooth_noise

SIDES = st.integers(16, 3000)


def test_pixel_grid_holds_x_then_y() -> None:
    grid = pixel_grid(2, 3)
    assert grid.tolist() == [[[0, 1, 2], [0, 1, 2]], [[0, 0, 0], [1, 1, 1]]]
    assert grid.dtype == torch.float32


def test_the_design_sizes() -> None:
    for size in ((576, 1024), (1080, 1920), (2160, 3840)):
        assert choose_motion_size(*size).motion == (256, 448)
    assert choose_motion_size(1920, 1080).motion == (448, 256)
    assert choose_motion_size(1080, 1920, multiple=64).motion == (256, 448)
    small = choose_motion_size(100, 130)
    assert small.motion == small.padded == (112, 144)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SIDES, SIDES, st.sampled_from([8, 16, 64]))
def test_motion_sizes_are_multiples_within_the_padding(h: int, w: int, multiple: int) -> None:
    size = choose_motion_size(h, w, multiple=multiple, minimum=64)
    for side, padded, motion in zip((h, w), size.padded, size.motion, strict=True):
        assert motion % multiple == 0
        assert motion >= 64
        assert padded >= max(side, motion)
        assert padded - side < max(multiple, 64)
    if h * w > 448 * 256 and max(h, w) / min(h, w) < 4:
        shape = (size.motion[0] / size.motion[1]) / (h / w)
        assert 0.6 < shape < 1.6
        assert 0.6 < size.motion[0] * size.motion[1] / (448 * 256) < 1.6
    flipped = choose_motion_size(w, h, multiple=multiple, minimum=64)
    assert flipped.motion == size.motion[::-1]


@pytest.mark.parametrize("size", [(15, 100), (100, 8), (0, 16)])
def test_tiny_frames_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="both sides must be at least 16"):
        choose_motion_size(*size)


def test_resizing_a_flow_rescales_its_vectors() -> None:
    flow = torch.stack((torch.full((8, 10), 3.0), torch.full((8, 10), -2.0)))[None]
    doubled = resize_flow(flow, (16, 40))
    assert_close(doubled[:, 0], torch.full((1, 16, 40), 12.0))
    assert_close(doubled[:, 1], torch.full((1, 16, 40), -4.0))
    assert resize_flow(flow, (8, 10)) is flow


def test_a_resized_flow_moves_the_same_picture() -> None:
    image = smooth_noise(1, 3, 64, 96, seed=0)
    flow = torch.stack((torch.full((64, 96), 8.0), torch.full((64, 96), 4.0)))[None]
    small = backward_warp(resize_image(image, (32, 48)), resize_flow(flow, (32, 48)))
    shrunk = resize_image(backward_warp(image, flow), (32, 48))
    inside = (slice(None), slice(None), slice(2, -4), slice(2, -6))
    assert_close(small[inside], shrunk[inside], tolerance=1e-4)


def test_resizing_is_half_pixel_and_averages_when_it_shrinks() -> None:
    image = torch.rand(2, 3, 12, 16)
    larger = F.interpolate(image, (24, 20), mode="bilinear", align_corners=False)
    assert torch.equal(resize_image(image, (24, 20)), larger)
    assert_close(resize_image(image, (6, 8)).mean(), image.mean(), tolerance=0.02)
    assert resize_image(image, (12, 16)) is image
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    grey = resize_image(checks.float()[None, None], (4, 4))
    assert (grey - 0.5).abs().max() < 0.1  # no aliasing


def test_padding_repeats_the_border_and_crops_away() -> None:
    image = torch.rand(2, 3, 5, 7)
    padded = replicate_pad(image, (9, 8))
    assert torch.equal(padded[..., :5, :7], image)
    assert torch.equal(padded[..., 8, :7], image[..., 4, :])
    assert torch.equal(padded[..., 7], padded[..., 6])
    assert replicate_pad(image, (5, 7)) is image
