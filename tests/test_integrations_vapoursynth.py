"""The filter in the real VapourSynth: timing, scene changes, formats, and frames asked for in any order."""

import importlib.util
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import rdvfi
from rdvfi.integrations.vapoursynth import interpolate

pytestmark = pytest.mark.skipif(importlib.util.find_spec("vapoursynth") is None, reason="needs the extra 'vapoursynth'")

WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="module")
def vs() -> Any:
    import vapoursynth

    vapoursynth.core.num_threads = 4
    return vapoursynth


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    return rdvfi.create_model("rdvfi-s")


def _pixels(frames: int) -> np.ndarray:
    """A smooth texture that moves by two pixels a frame: (n, 3, H, W) in [0, 1]."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    one = [0.5 + 0.4 * np.sin((x - 2 * n) / 5.0) * np.cos(y / 7.0) for n in range(frames)]
    return np.stack([np.stack([each, each[::-1], 1.0 - each]) for each in one]).astype(np.float32)


def _clip(
    vs: Any, pixels: np.ndarray, *, rate: Fraction = Fraction(24), half: bool = False, cut: int | None = None
) -> Any:
    """A clip of these frames; ``cut`` marks the frame before a change of scene."""
    kind = vs.RGBH if half else vs.RGBS
    blank = vs.core.std.BlankClip(
        None, WIDTH, HEIGHT, kind, len(pixels), rate.numerator, rate.denominator, color=[0.0] * 3
    )

    def fill(n: int, f: Any) -> Any:
        made = f.copy()
        for plane in range(3):
            target = np.asarray(made[plane])
            np.copyto(target, pixels[n, plane].astype(target.dtype))
        if cut is not None:
            made.props["_SceneChangeNext"], made.props["_SceneChangePrev"] = int(n == cut), int(n == cut + 1)
        return made

    return blank.std.ModifyFrame(blank, fill)


def _frames(clip: Any) -> list[Any]:
    """All frames, one after the other.

    ``clip.frames()`` waits in a loop that holds the GIL, which filters in Python need, and now and then never ends.
    """
    return [clip.get_frame(n) for n in range(clip.num_frames)]


def _planes(frame: Any) -> np.ndarray:
    return np.stack([np.asarray(frame[plane]) for plane in range(3)])


def test_frames_are_the_librarys_and_source_frames_pass_untouched(vs: Any, model: rdvfi.Interpolator) -> None:
    pixels = _pixels(3)
    pixels[0, 0, 0, 0] = 1.7  # beyond white
    made = interpolate(_clip(vs, pixels), 4, model=model)
    assert made.num_frames == 12
    assert made.fps == 96
    frames = [_planes(made.get_frame(n)) for n in range(12)]
    for n in range(3):
        np.testing.assert_array_equal(frames[4 * n], pixels[n])
    images = torch.from_numpy(pixels.clip(0, 1))
    expected = model(images[1:2], images[2:3], [0.25, 0.5, 0.75])[0].numpy()
    np.testing.assert_allclose(np.stack(frames[5:8]), expected, atol=1e-6)
    for n in (9, 10, 11):
        np.testing.assert_array_equal(frames[n], pixels[2])  # held: the clip lasts as long as before


def test_a_target_rate_shows_each_frame_at_its_time(vs: Any, model: rdvfi.Interpolator) -> None:
    pixels = _pixels(4)
    clip = _clip(vs, pixels, rate=Fraction(24000, 1001))
    made = interpolate(clip, fps_num=60, model=model)
    assert made.fps == 60
    assert made.num_frames == 11  # ceil(4 * 60 / 23.976)
    images = torch.from_numpy(pixels)
    place = 4 * Fraction(24000, 1001) / 60
    index = int(place)
    expected = model(images[index : index + 1], images[index + 1 : index + 2], [float(place - index)])[0, 0]
    np.testing.assert_allclose(_planes(made.get_frame(4)), expected.numpy(), atol=1e-6)
    total = sum(Fraction(f.props["_DurationNum"], f.props["_DurationDen"]) for f in _frames(made))
    assert total == Fraction(11, 60)


def test_durations_of_a_variable_rate_are_divided_and_times_go_on(vs: Any, model: rdvfi.Interpolator) -> None:
    lengths = [Fraction(1, 10), Fraction(3, 10), Fraction(1, 5)]

    def stamp(n: int, f: Any) -> Any:
        made = f.copy()
        made.props["_DurationNum"], made.props["_DurationDen"] = lengths[n].numerator, lengths[n].denominator
        made.props["_AbsoluteTime"] = float(sum(lengths[:n]))
        return made

    parts = [_clip(vs, _pixels(2), rate=Fraction(24)), _clip(vs, _pixels(1), rate=Fraction(30))]
    clip = vs.core.std.Splice(parts)
    assert clip.fps == 0
    clip = clip.std.ModifyFrame(clip, stamp)
    frames = _frames(interpolate(clip, 2, model=model))
    times = [frame.props["_AbsoluteTime"] for frame in frames]
    durations = [float(Fraction(frame.props["_DurationNum"], frame.props["_DurationDen"])) for frame in frames]
    np.testing.assert_allclose(times, [0.0, 0.05, 0.1, 0.25, 0.4, 0.5])
    np.testing.assert_allclose(durations, [0.05, 0.05, 0.15, 0.15, 0.1, 0.1])
    with pytest.raises(ValueError, match="no constant frame rate"):
        interpolate(clip, fps_num=60, model=model)


def test_marked_scene_changes_are_not_crossed(vs: Any, model: rdvfi.Interpolator) -> None:
    pixels = _pixels(4)
    made = interpolate(_clip(vs, pixels, cut=1), 4, model=model, scene_threshold=0.0)
    frames = _frames(made)
    for n in (5, 6, 7):
        np.testing.assert_array_equal(_planes(frames[n]), pixels[1])
    assert np.abs(_planes(frames[2]) - pixels[0]).max() > 0.02, "elsewhere there is motion"
    assert [frame.props["_SceneChangeNext"] for frame in frames] == [int(n == 7) for n in range(16)]
    assert [frame.props["_SceneChangePrev"] for frame in frames] == [int(n == 8) for n in range(16)]
    blended = interpolate(_clip(vs, pixels, cut=1), 2, model=model, on_scene_change="blend").get_frame(3)
    np.testing.assert_allclose(_planes(blended), 0.5 * (pixels[1] + pixels[2]), atol=1e-6)


def test_half_precision_in_and_out(vs: Any, model: rdvfi.Interpolator) -> None:
    pixels = _pixels(2)
    half = interpolate(_clip(vs, pixels, half=True), 2, model=model)
    assert half.format.id == vs.RGBH
    whole = interpolate(_clip(vs, pixels), 2, model=model)
    difference = _planes(half.get_frame(1)).astype(np.float32) - _planes(whole.get_frame(1))
    assert np.abs(difference).max() < 4e-3


def test_any_order_and_several_workers_give_the_same_frames(vs: Any, model: rdvfi.Interpolator) -> None:
    clip = _clip(vs, _pixels(4))
    expected = [_planes(frame) for frame in _frames(interpolate(clip, 3, model=model))]
    made = interpolate(clip, 3, model=model, workers=3)
    wanted = [7, 1, 10, 4, 2, 8, 5, 0]
    futures = [made.get_frame_async(n) for n in wanted]
    for n, future in zip(wanted, futures, strict=True):
        np.testing.assert_array_equal(_planes(future.result()), expected[n])


def test_it_is_lazy(vs: Any, model: rdvfi.Interpolator) -> None:
    asked: list[int] = []
    clip = _clip(vs, _pixels(2)).std.Loop(times=50_000)

    def note(n: int, f: Any) -> Any:
        asked.append(n)
        return f

    made = interpolate(clip.std.ModifyFrame(clip, note), 8, model=model)
    assert made.num_frames == 800_000
    assert not asked
    made.get_frame(400_001)
    assert set(asked) == {50_000, 50_001}


def test_what_is_wrong_is_one_line(vs: Any, model: rdvfi.Interpolator) -> None:
    clip = _clip(vs, _pixels(2))
    for options, message in (
        ({"clip": clip.resize.Bicubic(format=vs.YUV420P8, matrix_s="709")}, "clip is YUV420P8; expected RGBS or RGBH"),
        ({"clip": clip.resize.Bicubic(8, 8)}, "clip is 8x8 pixels; both sides must be at least 16"),
        ({"clip": 3}, "clip is of type int; expected a vapoursynth.VideoNode"),
        ({"multiplier": 2, "fps_num": 60}, "either multiplier or fps_num"),
        ({"multiplier": 0}, "multiplier"),
        ({"fps_num": 0}, "both must be at least 1"),
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"on_scene_change": "jump"}, "on_scene_change is 'jump'"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            interpolate(**{"clip": clip, "model": model, **options})
        assert "\n" not in str(error.value)
