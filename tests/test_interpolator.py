"""The data flow: what goes in, what comes out, and what is refused at the door."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

import toy
from rdvfi import _inputs
from rdvfi.interfaces import FlowGrid, Keyframes, Motion, Reads
from rdvfi.interpolator import Interpolator
from rdvfi.testing import assert_close

TIMES = [0.25, 0.5, 0.75]


@pytest.fixture(autouse=True)
def _register_toys():
    with toy.registered():
        yield


@pytest.fixture
def model() -> Interpolator:
    return toy.toy_model(tint=0.3)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    first = toy.textured(2, 72, 100)
    return first, first.roll(2, dims=-1)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (72, 100), (100, 72), (16, 300), (129, 67)])
def test_any_size_comes_back_as_it_went_in(model: Interpolator, size: tuple[int, int]) -> None:
    first, last = toy.textured(1, *size), toy.textured(1, *size, seed=1)
    frames = model(first, last, TIMES)
    assert frames.shape == (1, 3, 3, *size)
    assert frames.dtype == torch.float32
    assert 0 <= frames.min() <= frames.max() <= 1


def test_times_zero_and_one_return_the_inputs_through_the_renderer(
    model: Interpolator, pair: tuple[Tensor, Tensor]
) -> None:
    frames = model(*pair, [0.0, 1.0, 0.001, 0.999])
    assert_close(frames[:, 0], pair[0])
    assert_close(frames[:, 1], pair[1])
    assert torch.equal(model(*pair, [0, 1]), frames[:, :2])
    assert (frames[:, 2] - pair[0]).abs().max() < 0.01
    assert (frames[:, 3] - pair[1]).abs().max() < 0.01


def test_call_is_estimate_then_render(model: Interpolator, pair: tuple[Tensor, Tensor]) -> None:
    motion = model.estimate(*pair, seed=3)
    assert isinstance(motion, Motion)
    assert torch.equal(model.render(*pair, motion, TIMES), model(*pair, TIMES, seed=3))
    one_by_one = torch.cat([model.render(*pair, motion, [time]) for time in TIMES], dim=1)
    assert_close(one_by_one, model.render(*pair, motion, torch.tensor(TIMES)))


def test_no_times_give_no_frames(model: Interpolator, pair: tuple[Tensor, Tensor]) -> None:
    assert model(*pair, []).shape == (2, 0, 3, 72, 100)
    assert model(*pair, torch.empty(0)).shape == (2, 0, 3, 72, 100)


def test_a_pair_gives_the_same_alone_and_in_a_batch(model: Interpolator, pair: tuple[Tensor, Tensor]) -> None:
    together = model.estimate(*pair, seed=5).keyframes.latents
    for i in range(2):
        alone = model.estimate(pair[0][i : i + 1], pair[1][i : i + 1], seed=5).keyframes.latents
        assert_close(together[i : i + 1], alone)


def test_seeds_repeat_and_differ(model: Interpolator, pair: tuple[Tensor, Tensor]) -> None:
    def latents(**options) -> Tensor:
        return model.estimate(*pair, **options).keyframes.latents

    assert torch.equal(latents(), latents(seed=0))
    assert not torch.equal(latents(seed=1), latents(seed=2))
    drawn = latents(generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, latents(generator=torch.Generator().manual_seed(1)))
    noise = torch.zeros(model.noise_shape(pair[0]))
    assert not torch.equal(latents(noise=noise), latents())


def test_a_generator_is_advanced_sample_by_sample() -> None:
    shape = (3, 2, 4, 5, 5)
    together = _inputs.draw_noise(shape, generator=torch.Generator().manual_seed(7))
    one = torch.Generator().manual_seed(7)
    apart = [_inputs.draw_noise((1, *shape[1:]), generator=one) for _ in range(3)]
    assert torch.equal(together, torch.cat(apart))


def test_the_callers_random_state_is_left_alone(model: Interpolator, pair: tuple[Tensor, Tensor]) -> None:
    before = torch.random.get_rng_state()
    model(*pair, TIMES, seed=11)
    assert torch.equal(before, torch.random.get_rng_state())


def test_pixel_readers_get_the_real_ends_and_decoded_frames_between(
    pair: tuple[Tensor, Tensor],
) -> None:
    model = toy.toy_model(reads=Reads.PIXELS)
    motion = model.estimate(*pair)
    images = motion.keyframes.images
    assert images is not None
    assert images.shape[:2] == motion.keyframes.latents.shape[:2]
    assert_close(images[:, 2], model.generator.decode(motion.keyframes.latents[:, 2]))
    swapped = model.estimate(pair[1], pair[0])
    assert swapped.keyframes.images is not None
    assert torch.equal(images[:, 0], swapped.keyframes.images[:, -1])
    assert model(*pair, TIMES).shape == (2, 3, 3, 72, 100)


def test_ends_alone_need_no_decoder(pair: tuple[Tensor, Tensor]) -> None:
    model = toy.toy_model(inner=0, reads=Reads.PIXELS)
    images = model.estimate(*pair).keyframes.images
    assert images is not None
    assert images.shape[1] == 2


def test_small_frames_are_padded_and_large_ones_shrunk() -> None:
    model = toy.toy_model(motion_area=64 * 48)
    assert model.noise_shape(torch.zeros(1, 3, 16, 20)) == (1, 3, 4, 4, 4)  # 32x32
    assert model.noise_shape(torch.zeros(5, 3, 480, 640)) == (5, 3, 4, 6, 8)  # 48x64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_computed_in_float32_on_the_cpu(
    model: Interpolator, pair: tuple[Tensor, Tensor], dtype: torch.dtype
) -> None:
    typed = pair[0].to(dtype), pair[1].to(dtype)
    frames = model(*typed, TIMES)
    assert frames.dtype == dtype
    expected = model(typed[0].float(), typed[1].float(), TIMES)
    assert torch.equal(frames, expected.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_networks_stay_float32_on_the_cpu(
    model: Interpolator, pair: tuple[Tensor, Tensor], dtype: torch.dtype
) -> None:
    before = model(*pair, TIMES)
    half = model.to(dtype)
    assert half.dtype == torch.float32
    assert (half(*pair, TIMES) - before).abs().max() < 0.02


def test_gradients_follow_the_callers_mode(pair: tuple[Tensor, Tensor]) -> None:
    model = toy.toy_model(tint=0.1)
    assert not model(*pair, TIMES).requires_grad
    model.train().requires_grad_(True)
    frames = model(*pair, TIMES)
    frames.mean().backward()
    assert model.renderer.tint.grad.abs().sum() > 0  # pyright: ignore
    assert model.trajectory.flow.gain.grad is not None  # pyright: ignore
    with torch.no_grad():
        assert not model(*pair, TIMES).requires_grad


def test_learned_parts_are_untrained_until_marked(model: Interpolator) -> None:
    assert model.untrained_parts() == ["backbone", "trajectory", "renderer"]
    model.mark_trained("backbone", "renderer")
    assert model.untrained_parts() == ["trajectory"]
    with pytest.raises(ValueError, match="backbone, trajectory, renderer; got 'encoder'"):
        model.mark_trained("encoder")


_OK = torch.full((1, 3, 32, 32), 0.5)


@pytest.mark.parametrize(
    ("img0", "img1", "message"),
    [
        (_OK[0], _OK, r"img0 must have shape \(B, 3, H, W\); got \(3, 32, 32\)"),
        (_OK, _OK[:, :1], r"img1 must have shape \(B, 3, H, W\); got \(1, 1, 32, 32\)"),
        (_OK[:0], _OK[:0], r"img0 must have shape"),
        (_OK, (_OK * 255).byte(), r"img1 must hold floats in \[0, 1\]; got torch.uint8.* / 255"),
        (_OK * 255, _OK, r"img0 must hold values in \[0, 1\]; got 127.5 to 127.5"),
        (_OK, _OK - 1, r"img1 must hold values in \[0, 1\]; got -0.5"),
        (_OK, _OK * float("nan"), r"img1 must hold values in \[0, 1\]; got nan"),
        (_OK[..., :15], _OK[..., :15], "img0 must be at least 16 pixels .* 32 high and 15 wide"),
        (_OK, _OK[..., :30], r"same shape; got \(1, 3, 32, 32\) and \(1, 3, 32, 30\)"),
        (_OK, _OK.half(), "same type; got torch.float32 and torch.float16"),
        (_OK, _OK.to("meta"), "img1 is on meta but the model is on cpu"),
        (_OK.to(torch.float8_e4m3fn), _OK, "img0 must hold floats .*; got torch.float8_e4m3fn"),
        (_OK + 0j, _OK, "img0 must hold floats .*; got torch.complex64"),
        (_OK.to_sparse(), _OK, "img0 must hold floats .*; got torch.sparse_coo"),
        (_OK.numpy(), _OK, "img0 must be a tensor of shape .*; got a ndarray"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_frames_are_refused(model: Interpolator, img0: Tensor, img1: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(img0, img1, TIMES)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.5], "got 1.5"),
        ([0.5, -0.1], "got -0.1"),
        ([float("nan")], "got nan"),
        (torch.tensor([[0.5]]), r"got shape \(1, 1\)"),
        (np.full((2, 2), 0.5), r"got shape \(2, 2\)"),
        (torch.tensor([True]), r"got tensor\(\[True\]\)"),
        (torch.rand(2, device="meta"), "got a tensor on meta"),
        (torch.tensor([0.5, 0]).to_sparse(), r"got a tensor of torch\.float32, torch\.sparse_coo"),
        (torch.full((2,), 1e30), r"got 1\.0"),
        ((time for time in TIMES), "got <generator"),
        (np.array([0.5, "x"], object), "got array"),
        (["0.5"], r"got \['0\.5'\]"),
        ([True], r"got \[True\]"),
        (b"0.5", "got b'0"),
        (None, "got None"),
        ([1 + 1e-9], r"got 1\.000000001"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_times_are_refused(model: Interpolator, times, message: str) -> None:
    with pytest.raises(ValueError, match=rf"timesteps must be .* in \[0, 1\].*{message}"):
        model(_OK, _OK, times)


_HALVES = [0.5, np.float64(0.5), np.array([0.5]), np.array(0.5, np.float32), torch.tensor(0.5), [Fraction(1, 2)]]
_HALVES += [np.array([0.5], object), torch.tensor([0.5]).to(torch.float8_e4m3fn), torch.tensor(0.5, requires_grad=True)]


@pytest.mark.parametrize("times", _HALVES)
@pytest.mark.usefixtures("unchecked")
def test_one_time_may_be_a_number_of_any_kind(model: Interpolator, times) -> None:
    assert torch.equal(model(_OK, _OK, times), model(_OK, _OK, [0.5]))


def test_everything_is_checked_once_per_call(model: Interpolator, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("check_pair", "read_times"):
        kept = getattr(_inputs, name)
        monkeypatch.setattr(_inputs, name, lambda *a, name=name, kept=kept: calls.append(name) or kept(*a))
    model(_OK, _OK, [0.5])
    assert sorted(calls) == ["check_pair", "read_times"]


def test_values_and_models_are_shown_in_one_short_line(model: Interpolator) -> None:
    motion = model.estimate(_OK, _OK)
    for value in (model, motion, motion.keyframes, motion.scene):
        assert len(repr(value)) < 500
        assert "\n" not in repr(value)
    assert "latents=float32[1, 5, 4, 4, 4]" in repr(motion)
    assert repr(model).startswith("Interpolator(backbone=")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": True}, "seed must be an integer"),
        ({"seed": 2**64}, "seed must be an integer from .*; got 18446744073709551616"),
        ({"noise": torch.full((1, 3, 4, 4, 4), float("nan"))}, "finite floats, .*; got values that are not finite"),
        ({"noise": torch.ones(1, 3, 4, 4, 4, dtype=torch.int)}, "finite floats, .*; got torch.int32"),
        ({"seed": torch.tensor([3, 4])}, "seed must be an integer"),
        ({"seed": 1.5}, "seed must be an integer"),
        ({"generator": np.random.default_rng(0)}, "generator must be a torch.Generator; got a Generator"),
        ({"noise": torch.zeros(1, 3, 4, 4, 4).to_sparse()}, "finite floats, .*; got torch.float32, torch.sparse_coo"),
        ({"noise": torch.zeros(1, 3, 4, 4, 4).to(torch.float8_e5m2)}, "finite floats, .*; got torch.float8_e5m2"),
        ({"noise": torch.zeros(1, 3, 4, 4, 4, device="meta")}, "noise is on meta"),
        ({"static": [True]}, "static must be a boolean tensor of shape .*; got a list"),
        ({"after": 3}, "motion must be the result of estimate; got a int"),
        ({"noise": torch.zeros(1, 2)}, r"noise must be a tensor of shape \(1, 3, 4, 4, 4\)"),
        (
            {"noise": torch.zeros(1, 3, 4, 4, 4), "generator": torch.Generator()},
            "generator or noise, not both",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_noise_is_refused(model: Interpolator, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.estimate(_OK, _OK, **options)


@pytest.mark.usefixtures("unchecked")
def test_a_motion_of_other_frames_is_refused(model: Interpolator) -> None:
    motion = model.estimate(_OK, _OK)
    with pytest.raises(ValueError, match=r"estimated for 1 pairs .* these 2 pairs"):
        model.render(*(_OK.expand(2, 3, 32, 32),) * 2, motion, TIMES)
    large = torch.full((1, 3, 64, 32), 0.5)
    with pytest.raises(ValueError, match=r"grid of \(4, 4\)"):
        model.render(large, large, motion, TIMES)
    for other in (None, motion.keyframes):
        with pytest.raises(ValueError, match="motion must be the result of estimate"):
            model.render(_OK, _OK, other, TIMES)  # pyright: ignore[reportArgumentType]
    for at_most in (0, 1.5, "2"):
        with pytest.raises(ValueError, match=r"at_most is .*; it must be a whole number, at least 1"):
            model.render_parts(_OK, _OK, motion, TIMES, at_most=at_most)  # pyright: ignore[reportArgumentType]


def test_a_renderer_refuses_a_grid_that_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match=r"draws trajectories on the TARGET grid.*SOURCE"):
        toy.toy_model(grid=FlowGrid.SOURCE)
    model = toy.toy_model()
    motion = model.estimate(_OK, _OK)
    pushed = replace(motion.trajectory, grid=FlowGrid.SOURCE)  # pyright: ignore
    with pytest.raises(ValueError, match=r"draws trajectories on the TARGET grid.*SOURCE"):
        model.render(_OK, _OK, replace(motion, trajectory=pushed), TIMES)


def test_a_generator_without_decoder_says_so() -> None:
    with pytest.raises(TypeError, match=r"ToyGenerator has no decoder.*reads latents"):
        super(toy.ToyGenerator, toy.toy_model().generator).decode(torch.zeros(1, 4, 4, 4))


def test_flipped_keyframes_are_the_same_played_backwards() -> None:
    frames = Keyframes(torch.rand(1, 3, 4, 2, 2), torch.tensor([0.0, 0.25, 1.0]))
    twice = frames.flipped().flipped()
    assert torch.equal(twice.latents, frames.latents)
    assert_close(twice.times, frames.times)
    assert_close(frames.flipped().times, torch.tensor([0.0, 0.75, 1.0]))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_agrees_with_the_cpu(model: Interpolator, pair: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    expected = model(*pair, TIMES)
    moved = model.to("cuda", dtype)
    frames = moved(pair[0].cuda(), pair[1].cuda(), TIMES)
    assert frames.dtype == torch.float32
    assert (frames.cpu() - expected).abs().mean() < (1e-4 if dtype == torch.float32 else 1e-2)
