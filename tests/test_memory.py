"""Drawing within bounded memory: the same frames in any division, none lost when it runs out."""

from collections.abc import Iterator

import pytest
import torch

import toy
from rdvfi import _memory
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator
from rdvfi.testing import BATCH_TOLERANCE, assert_close
from rdvfi.types import Image, Times, Video

TIMES = torch.arange(1, 8) / 8


@pytest.fixture(autouse=True)
def _register_toys() -> Iterator[None]:
    with toy.registered():
        yield


class LimitedMemoryRenderer(toy.ToyRenderer):
    """Has room for ``most`` frames at once, and notes how many it was asked for."""

    most = 100
    message = "CUDA out of memory"

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        self.asked.append(len(timesteps))
        if len(timesteps) > self.most:
            raise torch.OutOfMemoryError(self.message)
        return super().forward(img0, img1, motion, timesteps)


def _limited_model(most: int = 100) -> tuple[Interpolator, LimitedMemoryRenderer]:
    model, renderer = toy.toy_model(), LimitedMemoryRenderer(0.3).requires_grad_(False)
    renderer.most, renderer.asked = most, []  # pyright: ignore
    model.renderer = renderer
    return model, renderer


_PAIR = toy.textured(2, 40, 56), toy.textured(2, 40, 56, seed=1)


def test_the_frames_are_the_same_in_any_division(monkeypatch: pytest.MonkeyPatch) -> None:
    model, renderer = _limited_model()
    whole = model(*_PAIR, TIMES)
    assert renderer.asked == [7]
    each = 2 * (_memory.WORK_BYTES * 48 * 64 + 3 * 48 * 64 * 4)
    for at_once, asked in ((3, [3, 3, 1]), (0.5, [1] * 7)):
        renderer.asked.clear()
        monkeypatch.setattr(_memory, "CPU_BYTES", int(at_once * each) + 1)
        assert_close(model(*_PAIR, TIMES), whole, tolerance=BATCH_TOLERANCE)
        assert renderer.asked == asked


def test_gradients_pass_through_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy.toy_model().requires_grad_(True)
    monkeypatch.setattr(_memory, "CPU_BYTES", 1)
    model(*_PAIR, TIMES).mean().backward()
    assert isinstance(model.renderer, toy.ToyRenderer)
    assert model.renderer.tint.grad is not None


def test_out_of_memory_halves_what_is_drawn_at_once_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    model, renderer = _limited_model()
    expected = model(*_PAIR, TIMES)
    assert model.drawn_at_once is None
    renderer.most, renderer.asked = 2, []
    frames = model(*_PAIR, TIMES)
    assert caplog.messages == ["memory ran out on cpu: drawing 3 frames at once from here on"]
    assert renderer.asked == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert model.drawn_at_once == 1
    assert_close(frames, expected, tolerance=BATCH_TOLERANCE)
    renderer.asked.clear()
    assert torch.equal(model(*_PAIR, TIMES), frames)
    assert renderer.asked == [1] * 7, "what was too much is remembered"
    assert len(caplog.messages) == 1


def test_frames_come_part_by_part_where_asked() -> None:
    model, renderer = _limited_model()
    motion = model.estimate(*_PAIR)
    whole = model.render(*_PAIR, motion, TIMES)
    renderer.asked.clear()
    parts = model.render_parts(*_PAIR, motion, TIMES, at_most=3)
    assert renderer.asked == []  # nothing is drawn before it is wanted
    assert next(parts).shape[1] == 3
    assert renderer.asked == [3]
    frames = torch.cat(list(model.render_parts(*_PAIR, motion, TIMES, at_most=3)), dim=1)
    assert_close(frames, whole, tolerance=BATCH_TOLERANCE)
    with pytest.raises(ValueError, match="at_most is 0"):
        model.render_parts(*_PAIR, motion, TIMES, at_most=0)


def test_a_frame_that_does_not_fit_alone_is_an_error() -> None:
    model, renderer = _limited_model(most=0)
    with pytest.raises(torch.OutOfMemoryError):
        model(*_PAIR, TIMES)
    assert renderer.asked == [7, 3, 1]


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(toy.ToyRenderer):
        def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
            raise RuntimeError("sizes do not match")

    model = toy.toy_model()
    model.renderer = Broken(0.0)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        model(*_PAIR, TIMES)
    assert _memory.is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
