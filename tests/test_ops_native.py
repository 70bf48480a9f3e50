"""Drawing frames by compiled code: the same frames, only for those who ask, clear errors."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import drawn
import toy
from rdvfi.ops import compile_render, native, render
from rdvfi.testing import smooth_noise


@pytest.fixture(scope="module")
def built() -> Callable[..., None]:
    try:
        compiler = native._compiler()
    except RuntimeError as error:
        pytest.skip(str(error))
    return native._built(compiler)


@pytest.fixture
def compiled(built: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code draws in this test alone."""
    monkeypatch.setattr(native, "_draw", built)


@pytest.fixture(scope="module")
def compiled_for_all(built: Callable[..., None]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_draw", built)
        yield


def _smooth(size: tuple[int, int], small: tuple[int, int], t: int = 3) -> tuple[Tensor, ...]:
    images = [0.2 + 0.6 * smooth_noise(2, 3, *size, seed=seed).sigmoid() for seed in (0, 1)]
    maps = smooth_noise(2 * t, 8, *small, seed=2).unflatten(0, (2, t))
    flows = (3 * maps[:, :, :2], 3 * maps[:, :, 2:4])
    return (*images, *flows, maps[:, :, 4:5].sigmoid(), 0.02 * maps[:, :, 5:])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (40, 600)])
def test_smooth_pictures_are_those_of_the_definition(size: tuple[int, int]) -> None:
    arguments = _smooth(size, (20, 30))
    got = render(*arguments)
    torch.testing.assert_close(got, drawn.exact(*arguments), rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    b=st.integers(1, 2),
    t=st.integers(0, 3),
    size=st.tuples(st.integers(1, 40), st.integers(1, 300)),
    small=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    reach=st.sampled_from([0.0, 0.1, 3.0]),
    threads=st.integers(1, 3),
)
@pytest.mark.usefixtures("compiled_for_all")
def test_noise_is_drawn_at_any_size_and_by_any_number_of_threads(
    seed: int,
    b: int,
    t: int,
    size: tuple[int, int],
    small: tuple[int, int],
    reach: float,
    threads: int,
) -> None:
    arguments = drawn.noise(seed, b, t, size, small, reach)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.get_num_threads", lambda: threads)
        got = render(*arguments)
    expected, limit = drawn.exact(*arguments), drawn.rounding(*arguments)
    torch.testing.assert_close(got, expected, rtol=0, atol=limit)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_without_motion_an_image_comes_back_bit_by_bit(dtype: torch.dtype) -> None:
    first, last = torch.rand(1, 3, 37, 53).to(dtype), torch.full((1, 3, 37, 53), 0.5, dtype=dtype)
    still, residual = torch.zeros(1, 2, 2, 9, 11), torch.zeros(1, 2, 3, 9, 11)
    share = torch.tensor([1.0, 0.0])[None, :, None, None, None].expand(1, 2, 1, 9, 11)
    frames = render(first, last, still, still, share, residual)
    assert frames.dtype == dtype
    assert torch.equal(frames, torch.stack((first, last), dim=1))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("value", [float("nan"), -float("inf"), -1e30, 1e30])
def test_no_motion_is_too_wild(value: float) -> None:
    """Every look-up stays in the picture; what is not a number goes to its first row or column."""
    first = torch.rand(1, 3, 20, 30)
    flow, residual = torch.zeros(1, 1, 2, 10, 15), torch.zeros(1, 1, 3, 10, 15)
    flow[:, :, 0] = value
    share = torch.ones(1, 1, 1, 10, 15)
    frame = render(first, first, flow, flow, share, residual)[:, 0]
    column = first[..., -1:] if value > 0 else first[..., :1]
    assert torch.equal(frame, column.expand_as(first))


@pytest.mark.usefixtures("compiled")
def test_any_strides_are_taken() -> None:
    arguments = _smooth((40, 56), (16, 24))
    strided = [x.flip(-1).contiguous().flip(-1).transpose(-1, -2).contiguous() for x in arguments]
    got = render(*(x.transpose(-1, -2) for x in strided))
    assert torch.equal(got, render(*arguments))


def test_colours_mixed_by_agreement_and_gradients_do_not_change(
    built: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = _smooth((24, 36), (12, 18))
    wanted = arguments[0].clone().requires_grad_()

    def outcome() -> list[Tensor]:
        frames = render(wanted, *arguments[1:])
        (gradient,) = torch.autograd.grad(frames.sum(), wanted)
        return [frames.detach(), gradient, render(*arguments, upsample="consistent")]

    before = outcome()
    monkeypatch.setattr(native, "_draw", built)
    for got, expected in zip(outcome(), before, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.usefixtures("built")
def test_compiling_a_model_for_the_cpu_compiles_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_draw", None)
    with toy.registered():
        model = toy.toy_model().compile(backend="eager")
    assert not native.is_compiled()
    model.compile()
    assert native.is_compiled()
    native.forget()
    assert not native.is_compiled()


def _python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if key not in environment}
    known.pop("CXX", None)
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**known, **environment},
    )


DRAW = """
import torch
from rdvfi.ops import native, render
image = torch.rand(1, 3, 16, 16)
maps = [torch.zeros(1, 1, c, 8, 8) for c in (2, 2, 1, 3)]
assert torch.allclose(render(image, image, *maps), image)
assert not native.is_compiled()
"""


def test_nothing_is_compiled_unasked_and_no_compiler_is_a_clear_error() -> None:
    done = _python(DRAW + "native.compile_render()", PATH="")
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("RuntimeError: rdvfi.ops.render can only be compiled by a C++ compiler")
    assert "none of c++, g++, clang++ was found" in error


def test_the_compiler_that_is_named_is_the_one_that_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "_draw", None)
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    with pytest.raises(RuntimeError, match="CXX=no-such-compiler -m64 was not found"):
        compile_render()
    monkeypatch.setenv("CXX", f"{sys.executable} -c 'raise SystemExit(\"too old\")'")
    with pytest.raises(RuntimeError, match=r"draw\.cpp.* ended with 1\ntoo old"):
        compile_render()
    assert not native.is_compiled()


def test_drawing_by_what_was_not_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_draw", None)
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(RuntimeError, match="compile_render"):
        native.draw_compiled(image, image, torch.zeros(1, 1, 8, 8, 8))
