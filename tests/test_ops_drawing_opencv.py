"""Drawing frames by OpenCV: the same frames, only where OpenCV is exact."""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import drawn
from rdvfi.ops import render
from rdvfi.ops.drawing import opencv, reference

exact = pytest.mark.skipif(
    not opencv.is_exact(), reason=f"OpenCV {cv2.__version__} rounds coordinates to 1/32 of a pixel"
)


@pytest.fixture(autouse=True)
def _asked_again() -> Iterator[None]:
    """What a test finds out of another OpenCV is forgotten."""
    yield
    opencv.is_exact.cache_clear()


def _arguments(
    size: tuple[int, int] = (45, 67), small: tuple[int, int] = (16, 24), t: int = 3, b: int = 2
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = [0.2 + 0.6 * torch.rand(b, 3, *size, generator=generator) for _ in range(2)]
    flows = [2 * torch.randn(b, t, 2, *small, generator=generator) for _ in range(2)]
    mask = torch.rand(b, t, 1, *small, generator=generator)
    return [*images, *flows, mask, 0.05 * torch.randn(b, t, 3, *small, generator=generator)]


def _noting(used: list[str], module: ModuleType) -> Callable[..., Tensor]:
    draw = module.draw_in_bands

    def noting(*arguments: Tensor) -> Tensor:
        used.append(module.__name__.rpartition(".")[2])
        return draw(*arguments)

    return noting


def _used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the modules that draw from now on."""
    used: list[str] = []
    for module in (opencv, reference):
        monkeypatch.setattr(module, "draw_in_bands", _noting(used, module))
    return used


@exact
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    b=st.integers(1, 2),
    t=st.integers(0, 3),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    small=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    reach=st.sampled_from([0.0, 0.1, 0.3, 2.0]),
    band=st.sampled_from([1, 300, 32_768]),
    threads=st.integers(1, 3),
)
def test_bands_are_the_reference_at_any_size(
    seed: int,
    b: int,
    t: int,
    size: tuple[int, int],
    small: tuple[int, int],
    reach: float,
    band: int,
    threads: int,
) -> None:
    arguments = drawn.noise(seed, b, t, size, small, reach)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opencv, "_BAND_PIXELS", band)
        patch.setattr("torch.get_num_threads", lambda: threads)
        used = _used(patch)
        got = render(*arguments)
    assert used == ["opencv"]
    expected, limit = drawn.exact(*arguments), drawn.rounding(*arguments)
    torch.testing.assert_close(got, expected, rtol=0, atol=limit)


@exact
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, before = _arguments((230, 400)), cv2.getNumThreads()
    monkeypatch.setattr(opencv, "_BAND_PIXELS", 20_000)
    results = []
    try:
        for ours, theirs in ((1, 1), (2, 1), (3, 2)):
            monkeypatch.setattr("torch.get_num_threads", lambda ours=ours: ours)
            cv2.setNumThreads(theirs)
            results.append(render(*arguments))
    finally:
        cv2.setNumThreads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@exact
@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -3e9, 1e6])
def test_any_position_is_looked_up_at_the_border(image: int, axis: int, value: float) -> None:
    arguments = _arguments()
    arguments[2 + image][:, :, axis] = value
    got = render(*arguments)
    if value == float("inf"):  # of which the definition, by a weight of zero, makes no number
        arguments[2 + image][:, :, axis] = 1e6
    torch.testing.assert_close(got, drawn.exact(*arguments), rtol=0, atol=3e-5)


@exact
def test_strides_types_and_gradients_that_nobody_records_are_taken() -> None:
    arguments = [x.half().float() for x in _arguments()]
    expected = render(*arguments)
    last = [x.contiguous(memory_format=torch.channels_last) for x in arguments[:2]]
    mixed = [*last, *(x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in arguments[2:])]
    assert torch.equal(render(*mixed), expected)
    halves = [x.half() for x in arguments]
    torch.testing.assert_close(render(*halves).float(), expected, rtol=0, atol=1e-3)
    with torch.no_grad():
        assert torch.equal(render(*(x.clone().requires_grad_() for x in arguments)), expected)


@exact
def test_a_frame_is_memory_of_its_own() -> None:
    arguments = _arguments(b=1, t=1)
    first = render(*arguments)
    kept = first.clone()
    assert first.is_contiguous()
    render(*_arguments((45, 67), (20, 30), t=1, b=1))
    assert torch.equal(first, kept)


def _rounded(places: np.ndarray) -> np.ndarray:
    return np.round(places * 32) / np.float32(32)


def test_an_opencv_that_rounds_coordinates_does_not_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    remap = cv2.remap

    def coarse(image: Any, x: Any, y: Any, *rest: Any, **options: Any) -> Any:
        return remap(image, _rounded(x), _rounded(y), *rest, **options)

    monkeypatch.setattr(cv2, "remap", coarse)
    opencv.is_exact.cache_clear()
    used, arguments = _used(monkeypatch), _arguments()
    got = render(*arguments)
    assert used == ["opencv", "reference"]  # the small picture that tells, then the frames
    torch.testing.assert_close(got, drawn.exact(*arguments), rtol=0, atol=3e-5)


def test_without_opencv_the_reference_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.is_exact.cache_clear()
    used, arguments = _used(monkeypatch), _arguments()
    got = render(*arguments)
    assert used == ["reference"]
    torch.testing.assert_close(got, drawn.exact(*arguments), rtol=0, atol=3e-5)


def test_images_whose_copies_would_be_too_large_are_not_for_opencv() -> None:
    assert opencv.fits(2160, 3840)
    assert opencv.fits(1, 32_766)
    assert not opencv.fits(4320, 7680)
    assert not opencv.fits(1, 32_767)
