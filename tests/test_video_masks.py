"""What must not move stays bit-equal: given masks, and overlays that are found."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import clips
import rdvfi
from rdvfi.media.pixels import to_pixels, to_tensor
from rdvfi.media.reader import SourceFrame, open_source
from rdvfi.media.timestamps import Stamp
from rdvfi.video import interpolate_video, overlay_evidence
from rdvfi.video.masks import StaticPixelDetector
from rdvfi.video.pair_interpolation import PairInterpolator
from rdvfi.video.playback import PlaybackStep
from rdvfi.video.timing import Interval

SIZE = (96, 160)


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    return rdvfi.build("rdvfi_s", *parts).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def film() -> tuple[list[np.ndarray], np.ndarray]:
    """A pan with a logo of a texture of its own in front, and where the logo is."""
    wide, logo = clips.texture(SIZE[0], 400), clips.texture(20, 40, seed=7)
    where = np.zeros(SIZE, bool)
    where[60:80, 90:130] = True
    frames = []
    for k in range(7):
        picture = wide[:, 6 * k : 6 * k + SIZE[1]].copy()
        picture[where] = logo.reshape(-1, 3)
        frames.append(np.round(picture * 255).astype(np.uint8))
    return frames, where


def _steps(frames: list[np.ndarray], start: int = 0) -> Iterator[PlaybackStep]:
    shown = [SourceFrame(frame, Stamp(Fraction(k), Fraction(1))) for k, frame in enumerate(frames)]
    for k, (first, last) in list(enumerate(pairwise(shown)))[start:]:
        yield PlaybackStep(first, last, Interval(k, first.stamp.time, last.stamp.time, last=False), ())


def _found(frames: list[np.ndarray], reach: int = 16) -> list[np.ndarray]:
    """What is held in every pair of some frames."""
    return [step.static() for step in StaticPixelDetector(reach, lambda pixels: pixels).mark_steps(_steps(frames))]


def _between(model, frames, mask, times=(0.25, 0.5, 0.75)) -> list[tuple[int, np.ndarray, np.ndarray | None]]:
    """Number of the pair, a new frame, and what is held of it."""
    found = isinstance(mask, str)
    pairs, made = PairInterpolator(model, mask=None if found else mask), []
    tensors = [to_tensor(frame, device=model.device, dtype=model.dtype) for frame in frames]
    for k, static in enumerate(_found(frames) if found else [None] * (len(frames) - 1)):
        for frame in pairs.interpolate(tensors[k], tensors[k + 1], times, static=static).frames:
            made.append((k, to_pixels(frame, deep=False), static))
    return made


@pytest.mark.parametrize("mask", ["given", "auto"])
def test_a_logo_over_motion_is_bit_equal_in_every_new_frame(film, model, mask) -> None:
    frames, where = film
    for k, made, _ in _between(model, frames, where if mask == "given" else "auto"):
        assert np.array_equal(made[where], frames[k][where])
        assert not np.array_equal(made[~where], frames[k][~where])


def _zoomed(count: int, rate: float, *, shift: float = 0.0) -> list[np.ndarray]:
    """A picture of much detail that comes nearer, and is carried along."""
    wide = clips.texture(2 * SIZE[0], 2 * SIZE[1]) + 0.3 * clips.texture(8 * SIZE[0], 8 * SIZE[1])[::4, ::4] - 0.15
    frames = []
    for k in range(count):
        turn = cv2.getRotationMatrix2D((SIZE[1], SIZE[0]), 0, rate**k)
        turn[:, 2] -= (SIZE[1] / 2 + shift * k, SIZE[0] / 2)
        picture = cv2.warpAffine(wide, turn, SIZE[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        frames.append(np.round(255 * picture.clip(0, 1)).astype(np.uint8))
    return frames


@pytest.mark.parametrize(("rate", "shift"), [(1.003, 0), (1.04, 0), (0.97, 2), (1.0, 0.4)])
def test_zooms_and_pans_hold_nothing(model, rate, shift) -> None:
    for _, _, static in _between(model, _zoomed(5, rate, shift=shift), "auto", (0.5,)):
        assert static is None or static.mean() < 0.002


def test_a_still_shot_stays_still(model) -> None:
    frames = _zoomed(1, 1.0) * 4
    for _, made, _ in _between(model, frames, "auto", (0.5,)):
        assert np.array_equal(made, frames[0])


@pytest.mark.parametrize(("rate", "shift"), [(1.03, 0), (1.0, 1.0)])
def test_instruments_in_the_middle_of_a_zoom_are_held_once_the_picture_has_moved(model, rate, shift) -> None:
    """A ring where a pair shows no motion, text at the border; and both over a slow pan."""
    where = np.zeros(SIZE, np.uint8)
    cv2.circle(where, (SIZE[1] // 2, SIZE[0] // 2), 10, 1, 3)
    cv2.putText(where, "02:41", (100, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1, 2)
    held = where > 0
    frames = _zoomed(9, rate, shift=shift)
    for frame in frames:
        frame[held] = (40, 220, 60)
    for k, made, static in _between(model, frames, "auto", (0.5,)):
        if k >= 5:
            assert np.array_equal(made[held], frames[k][held])
        assert static is None or static[~held].mean() < 0.02


def test_the_first_pairs_of_every_segment_hold_what_the_others_do(model, tmp_path: Path) -> None:
    where = np.zeros(SIZE, np.uint8)
    cv2.circle(where, (SIZE[1] // 2, SIZE[0] // 2), 10, 1, 3)
    (tmp_path / "in").mkdir()
    frames = _zoomed(11, 1.0, shift=1.0)
    for k, frame in enumerate(frames):
        frame[where > 0] = (40, 220, 60)
        cv2.imwrite(str(tmp_path / "in" / f"{k:02d}.png"), frame[..., ::-1])
    options = {"model": model, "allow_untrained": True, "multiplier": 2, "mask": "auto", "segment_frames": 8}
    interpolate_video(tmp_path / "in", tmp_path / "out", **options)
    for k, frame in enumerate(open_source(tmp_path / "out").frames()):
        assert np.array_equal(frame.pixels[where > 0], frames[k // 2][where > 0])


@pytest.mark.parametrize("start", [1, 3, 6])
def test_what_is_held_does_not_depend_on_where_reading_began_and_ended(start) -> None:
    """Frames of some pairs before and after are enough, as those who make single segments read."""
    frames, reach = _zoomed(20, 1.01, shift=1.0), 4
    for k, frame in enumerate(frames):
        frame[70:84, 20:60] = (40, 220, 60) if k > 2 else 0
    whole, part = (
        {
            step.interval.index: step.static()
            for step in StaticPixelDetector(reach, lambda pixels: pixels).mark_steps(steps)
        }
        for steps in (_steps(frames), _steps(frames[:-1], start))
    )
    alike = range(start + reach + 1, 19 - 1 - reach)
    assert len(alike) > 2
    assert any(whole[k] is not None for k in range(19))
    for k in alike:
        assert (whole[k] is None) == (part[k] is None)
        assert whole[k] is None or np.array_equal(whole[k], part[k])


def test_a_film_that_runs_backwards_holds_the_same() -> None:
    frames = _zoomed(8, 1.02)
    for frame in frames:
        frame[70:84, 20:60] = (40, 220, 60)
    backwards = StaticPixelDetector(16, lambda pixels: pixels).mark_steps(reversed(list(_steps(frames))))
    held = [step.static() for step in backwards]
    assert all(each is not None and each[72:82, 22:58].all() for each in held)


def test_motion_alone_drags_it_along(film, model) -> None:
    frames, where = film
    try:
        model.content_rules = False
        plain = _between(model, frames[:2], None, (0.5,))
    finally:
        model.content_rules = True
    assert np.abs(plain[0][1][where].astype(int) - frames[0][where]).max() > 20


def test_the_picture_around_is_not_worse_for_it(film, model) -> None:
    frames, where = film
    plain, held = (_between(model, frames, mask, (0.5,)) for mask in (None, where))
    wide = clips.texture(SIZE[0], 400)
    for (k, a, _), (_, b, _) in zip(plain, held, strict=True):
        truth = 255 * wide[:, 6 * k + 3 : 6 * k + 3 + SIZE[1]]
        outside = ~where[:, :, None] & np.ones(3, bool)
        errors = [np.abs(x - truth)[:, 12:-12][outside[:, 12:-12]].mean() for x in (a, b)]
        assert errors[1] <= errors[0] + 0.2


def test_ground_that_stands_still_while_something_passes_is_not_held(model) -> None:
    """A ball that crosses still ground is drawn between, though the ground is equal in all frames."""
    ground = np.round(255 * clips.texture(*SIZE)).astype(np.uint8)
    frames = []
    for k in range(6):
        frame = ground.copy()
        frame[40:56, 10 + 16 * k : 26 + 16 * k] = np.round(255 * clips.texture(16, 16, seed=3)).astype(np.uint8)
        frames.append(frame)
    for _, made, static in _between(model, frames, "auto", (0.5,)):
        assert static is None or not static[40:56].any()
        assert np.abs(made[40:56].astype(int) - ground[40:56]).max() > 30


@pytest.mark.parametrize(("height", "row"), [(96, 48), (95, 47), (95, 20)])
def test_motion_on_a_single_line_says_nothing_of_the_whole_picture(height: int, row: int) -> None:
    changed = torch.zeros(1, 1, height, SIZE[1], dtype=torch.bool)
    changed[..., row, :] = True
    flow = torch.ones(1, 2, height, SIZE[1])
    assert overlay_evidence._fit_global_motion(flow, changed) is None
    changed[..., row - 1, :] = True
    whole = overlay_evidence._fit_global_motion(flow, changed)
    assert whole is not None
    assert torch.allclose(whole, flow, atol=1e-3)


def test_a_mask_holds_whatever_the_content_rules_and_scenes_say(film, model) -> None:
    frames, where = film
    other = [frames[0], 255 - frames[3]]
    for _, made, _ in _between(model, other, where):
        assert np.array_equal(made[where], other[0][where]) or np.array_equal(made[where], other[1][where])
    try:
        model.content_rules = False
        for k, made, _ in _between(model, frames[:3], where):
            assert np.array_equal(made[where], frames[k][where])
    finally:
        model.content_rules = True


def test_files_with_a_mask_picture(film, model, tmp_path: Path) -> None:
    frames, where = film
    clips.write_clip(tmp_path / "in.mp4", [frame / 255 for frame in frames])
    clips.write_png(tmp_path / "mask.png", np.repeat(where[..., None], 3, axis=2).astype(float))
    options = {"model": model, "allow_untrained": True, "multiplier": 2}
    interpolate_video(tmp_path / "in.mp4", tmp_path / "out", mask=tmp_path / "mask.png", **options)
    made = [clips.read_png(path) for path in sorted((tmp_path / "out").iterdir())]
    source = [frame.pixels for frame in open_source(tmp_path / "in.mp4").frames()]
    for k in range(1, len(made), 2):
        assert np.array_equal(made[k][where], source[k // 2][where])
    clips.write_png(tmp_path / "small.png", np.zeros((10, 20, 3)))
    with pytest.raises(ValueError, match=r"mask .*small\.png is 20x10 pixels; the frames of .* are 160x96"):
        interpolate_video(tmp_path / "in.mp4", tmp_path / "b", mask=tmp_path / "small.png", **options)
    with pytest.raises(FileNotFoundError, match=r"mask is .*, which does not exist; expected auto, or an image"):
        interpolate_video(tmp_path / "in.mp4", tmp_path / "b", mask="automatic", **options)
    assert not (tmp_path / "b").exists()


def test_static_is_checked(model) -> None:
    img = torch.rand(1, 3, 48, 64)
    with pytest.raises(ValueError, match=r"static must be a boolean tensor of shape \(1, 1, 48, 64\)"):
        model.estimate(img, img, static=torch.zeros(1, 1, 48, 60, dtype=torch.bool))
