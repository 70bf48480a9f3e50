"""A stream of frames of any kind: lazily, in bounded memory, and the same frames as pair by pair."""

import gc
import itertools
import weakref
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest
import torch

import clips
import rdvfi
import toy
from rdvfi.media.pixels import to_pixels, to_tensor
from rdvfi.testing import BATCH_TOLERANCE, assert_close


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    """Real motion and real warping; its learned encoder is not used for either."""
    parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    return rdvfi.build("rdvfi_s", *parts).eval().requires_grad_(False)


def _run(frames, model, **options):
    return rdvfi.interpolate_frames(frames, model=model, allow_untrained=True, **options)


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    return [np.round(picture * 255).astype(np.uint8) for picture in clips.moving(3, 48, 64)]


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).permute(2, 0, 1) / 255


def test_frames_are_those_of_the_model_and_the_ends_are_passed_on(model, arrays) -> None:
    tensors = [_tensor(array) for array in arrays]
    out = list(_run(tensors, model, multiplier=3))
    assert len(out) == 7
    assert all(out[3 * k] is tensors[k] for k in range(3))
    for k in range(2):
        expected = model(tensors[k][None], tensors[k + 1][None], [1 / 3, 2 / 3])[0]
        assert_close(torch.stack(out[3 * k + 1 : 3 * k + 3]), expected, tolerance=BATCH_TOLERANCE)


def test_the_same_kind_comes_out(model, arrays) -> None:
    expected = [to_pixels(frame, deep=False) for frame in _run([_tensor(a) for a in arrays], model, multiplier=2)]
    views = np.stack(arrays)[:, ::1]
    views.flags.writeable = False
    for made, truth in zip(_run(iter(views), model, multiplier=2), expected, strict=True):
        assert made.dtype == np.uint8
        assert np.abs(made.astype(int) - truth).max() <= 1
    for made in _run([PIL.Image.fromarray(array) for array in arrays], model, multiplier=2):
        assert (made.mode, made.size) == ("RGB", (64, 48))
    greys = [PIL.Image.fromarray(array).convert("L") for array in arrays]
    assert [made.mode for made in _run(greys, model, multiplier=2)] == ["L"] * 5
    for made in _run([_tensor(array)[None].double() for array in arrays], model, multiplier=2):
        assert (made.dtype, made.shape) == (torch.float64, (1, 3, 48, 64))
        assert not made.is_inference()
    bytes_ = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    for made, truth in zip(_run(bytes_, model, multiplier=2), expected, strict=True):
        assert made.dtype == torch.uint8
        assert (made.permute(1, 2, 0).numpy().astype(int) - truth).max() <= 1
    deep = [array.astype(np.uint16) * 257 for array in arrays]
    made = list(_run(deep, model, multiplier=2))[1]
    assert made.dtype == np.uint16
    assert len(np.unique(made % 257)) > 200  # more than 8 bits of information


def test_multipliers_and_timesteps_of_any_number_type(model, arrays) -> None:
    for multiplier in (2.0, np.int64(2), np.float32(2)):
        assert len(list(_run(arrays, model, multiplier=multiplier))) == 5
    assert len(list(_run(arrays, model))) == 17
    assert len(list(_run(arrays, model, multiplier=1))) == 3
    expected = list(_run(arrays, model, multiplier=4))
    for timesteps in ([0.25, 0.5, 0.75], torch.tensor([0.25, 0.5, 0.75])):
        assert all(map(np.array_equal, expected, _run(arrays, model, timesteps=timesteps)))


def test_frames_are_taken_when_they_are_needed(model, arrays) -> None:
    taken = []

    def endless() -> Iterator[np.ndarray]:
        for k in itertools.count():
            taken.append(k)
            yield arrays[k % 3]

    out = _run(endless(), model, multiplier=3)
    assert taken == []
    for k in range(9):
        next(out)
        assert len(taken) <= k // 3 + 2
    out.close()


def test_memory_does_not_grow_with_the_length(model) -> None:
    alive: list[weakref.ref] = []
    picture = torch.from_numpy(clips.texture(48, 64)).permute(2, 0, 1).float()

    def stream() -> Iterator[torch.Tensor]:
        for _ in range(12):
            frame = picture.clone()
            alive.append(weakref.ref(frame))
            yield frame

    most = 0
    gc.collect()
    gc.freeze()  # what is there already need not be searched again and again
    for _ in _run(stream(), model, multiplier=2):
        gc.collect()
        most = max(most, sum(each() is not None for each in alive))
    assert len(alive) == 12
    assert most <= 4


def test_a_frame_that_two_pairs_share_is_encoded_once(monkeypatch) -> None:
    sizes = ("flow.width=8", "trajectory.width=8", "renderer.width=8")
    model = rdvfi.build("rdvfi_d", "backbone.size=toy", *sizes).eval().requires_grad_(False)
    encoded = []
    encode = model.generator.encode
    grey = torch.full((1, 3, 48, 64), 0.5)

    def counting(frames: torch.Tensor) -> torch.Tensor:
        encoded.extend(not torch.equal(frame[None], grey) for frame in frames)
        return encode(frames)

    monkeypatch.setattr(model.generator, "encode", counting)
    frames = [_tensor(np.round(picture * 255).astype(np.uint8)) for picture in clips.moving(4, 48, 64)]
    list(_run(frames, model, multiplier=2))
    assert sum(encoded) == 4


def test_scene_changes_are_shown_as_asked(model) -> None:
    pictures = [np.round(255 * picture).astype(np.uint8) for picture in clips.two_scenes(each=1)]
    with torch.no_grad():
        ends = [_tensor(picture)[None] for picture in pictures]
        assert not model.estimate(*ends).scene.same_scene.item()
    _, held, _ = _run(pictures, model, multiplier=2, on_scene_change="hold_previous")
    assert np.array_equal(held, pictures[0])
    _, forced, _ = _run(pictures, model, multiplier=2, on_scene_change="hold_previous", scene_threshold=0.0)
    assert not np.array_equal(forced, pictures[0])


@pytest.mark.usefixtures("unchecked")
def test_wrong_options_are_refused_at_once(model, arrays) -> None:
    for options, message in (
        ({"multiplier": 2, "timesteps": [0.5]}, "either multiplier or timesteps"),
        ({"multiplier": 1.5}, "multiplier is 1.5; it must be a whole number"),
        ({"multiplier": 0}, "multiplier is 0"),
        ({"multiplier": 10**30}, "multiplier is 10*; at most 1000000 frames"),
        ({"seed": "x", "multiplier": 2}, "seed must be an integer"),
        ({"chunk": 1.5}, "chunk is 1.5; it must be a whole number"),
        ({"timesteps": [0.0, 0.5]}, "0 does not"),
        ({"timesteps": [0.5, 0.25]}, "must rise.*0.25 does not"),
        ({"chunk": 0}, "chunk is 0"),
        ({"on_scene_change": "stop"}, "'stop'; expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            _run(arrays, model, **options)
    with pytest.raises(TypeError, match="frames is of type NoneType; an iterable"):
        _run(None, model)
    with pytest.raises(ValueError, match="untrained parts: backbone"):
        rdvfi.interpolate_frames(arrays, model=model)


def test_wrong_frames_are_named(model, arrays) -> None:
    with pytest.raises(ValueError, match="frames holds no frame; at least two"):
        list(_run([], model))
    with pytest.raises(ValueError, match="frames holds a single frame"):
        list(_run(arrays[:1], model))
    with pytest.raises(TypeError, match=r"frame 0 is a float64 array \(48, 64, 3\); expected a NumPy array"):
        list(_run([array / 255 for array in arrays], model))
    with pytest.raises(TypeError, match="frame 0 is of type str; expected"):
        list(_run("ab", model))
    with pytest.raises(TypeError, match="a PIL image of mode RGBA"):
        list(_run([PIL.Image.new("RGBA", (64, 48))] * 2, model))
    for odd in (_tensor(arrays[0]).to("meta"), _tensor(arrays[0]).to_sparse()):
        with pytest.raises(TypeError, match=r"frame 0 is a torch\.float32 tensor"):
            list(_run([odd, odd], model))
    with pytest.raises(ValueError, match="frame 0 is 64x8 pixels; both sides"):
        list(_run([arrays[0][:8]] * 2, model))
    out = _run([*arrays, arrays[0][:40]], model, multiplier=2)
    with pytest.raises(ValueError, match=r"frame 3 is a uint8 array \(40, 64, 3\), the first one is .*\(48, 64, 3\)"):
        list(out)
    with pytest.raises(ValueError, match=r"frame 1 is a torch\.float32 tensor .*, the first one is a uint8 array"):
        list(_run([arrays[0], _tensor(arrays[1])], model))


def test_a_learned_model_repeats_with_its_seed(arrays) -> None:
    with toy.registered():
        learned = toy.toy_model(tint=0.1)
        first, second, other = (list(_run(arrays, learned, multiplier=2, seed=seed)) for seed in (5, 5, 6))
    assert all(map(np.array_equal, first, second))
    assert len(other) == 5


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pixels_are_the_same_by_way_of_a_gpu(kind: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (37, 53, 3)).astype(kind)
    there = to_tensor(pixels, device=torch.device("cuda"), dtype=torch.float32)
    assert np.array_equal(to_pixels(there[0], deep=kind is np.uint16), pixels)
