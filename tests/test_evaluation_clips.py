"""Reading clips, the protocol over them, and the held-out procedural scenes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import clips
from rdvfi.data.synthetic.limbs import draw_limb
from rdvfi.evaluation.clips import windows
from rdvfi.evaluation.procedural import (
    SETS,
    held_out_pictures,
    held_out_scene,
    procedural_windows,
)
from rdvfi.evaluation.protocol import clip_windows, count_windows
from rdvfi.media.scene_cuts import CUT_FLOOR, CUT_RATIO, has_cut
from rdvfi.ops import backward_warp

COUNT = 60


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "grey.mp4"
    clips.write_numbered(path, range(COUNT))
    return path


def test_counts_come_from_the_file(video: Path) -> None:
    assert count_windows(video, gap=9) == 6
    assert count_windows(video, gap=9, start=7, pairs=3) == 3
    for name in SETS:
        assert count_windows(name, gap=9) == 24


@pytest.mark.parametrize(("gap", "start", "pairs", "firsts"), [
    (9, 0, None, [0, 9, 18, 27, 36, 45]),
    (8, 5, None, [5, 13, 21, 29, 37, 45]),
    (8, 3, 2, [3, 11]),
    (59, 0, None, [0]),
])  # fmt: skip
def test_windows_are_every_gap_frames(video: Path, gap: int, start: int, pairs: int | None, firsts: list[int]) -> None:
    found = list(clip_windows(video, gap=gap, start=start, pairs=pairs))
    assert [window.first for window in found] == firsts
    for window in found:
        expected = list(range(window.first, window.first + gap + 1))
        assert clips.numbers(list(window.frames)) == expected
        assert window.times.tolist() == pytest.approx([i / gap for i in range(1, gap)])
        assert window.truth().shape == (gap - 1, 3, 48, 64)


def test_inputs_and_truth_are_the_frames_scaled_to_one(video: Path) -> None:
    window = next(clip_windows(video, gap=4, start=8))
    img0, img1 = window.inputs(torch.device("cpu"))
    truth = window.truth()
    shown = [round(255 * image.mean().item()) for image in (img0[0], *truth, img1[0])]
    assert shown == pytest.approx([clips.level(n) for n in range(8, 13)], abs=1)


def test_reading_is_a_stream() -> None:
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield np.zeros((16, 16, 3), np.uint8)

    next(windows(endless(), 8))
    assert len(taken) == 9


def _textured(seed: int, shift: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 12, 3), np.uint8)
    picture = cv2.resize(noise, (192, 96), interpolation=cv2.INTER_CUBIC)
    return np.roll(picture, shift, axis=1)


def test_frames_are_reduced_where_asked(video: Path) -> None:
    window = next(clip_windows(video, gap=4, start=2, max_size=32))
    assert window.frames.shape == (5, 24, 32, 3)
    assert clips.numbers(list(window.frames)) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("gap", [2, 8, 9])
def test_a_cut_is_found_and_steady_motion_is_not_one(gap: int) -> None:
    for step in (0, 1, 3):
        moving = [_textured(0, step * i) for i in range(gap + 1)]
        assert not has_cut(np.stack(moving))
        for cut in (1, gap):
            after = [_textured(1, step * i) for i in range(cut, gap + 1)]
            assert has_cut(np.stack(moving[:cut] + after))


def test_a_dissolve_is_kept() -> None:
    first, last = _textured(0, 0).astype(float), _textured(1, 0).astype(float)
    frames = [(first + (last - first) * i / 8).astype(np.uint8) for i in range(9)]
    assert not has_cut(np.stack(frames))


def test_a_cut_is_what_the_rule_says_near_its_border() -> None:
    """Against the rule in SciPy, on windows whose one large step grows through the threshold."""
    rng = np.random.default_rng(0)
    found = []
    for jump in range(2, 60, 4):
        level = 60 + rng.integers(-2, 3, 9) + jump * (np.arange(9) >= 4)
        window = np.clip(level[:, None, None, None] + rng.integers(-30, 31, (9, 54, 96, 3)), 0, 255)
        small = window.astype(np.uint8).reshape(9, 27, 2, 48, 2, 3).mean((2, 4)).round() / 255.0
        smooth = gaussian_filter(small, (0, 1, 1, 0), mode="mirror", truncate=4.0)
        *rest, largest = np.sort(np.abs(np.diff(smooth, axis=0)).mean((1, 2, 3)))
        found.append(largest >= max(CUT_FLOOR, CUT_RATIO * np.median(rest)))
        assert has_cut(window.astype(np.uint8)) == found[-1], jump
    assert {*found} == {True, False}
    with pytest.raises(ValueError, match="a window of 2 frames; at least 3"):
        has_cut(np.zeros((2, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("name", SETS)
def test_procedural_scenes_repeat_and_differ(name: str) -> None:
    first, second = (next(procedural_windows(9, name=name)) for _ in range(2))
    other = next(procedural_windows(9, name=name, start=1))
    assert first.frames.shape == (10, 256, 448, 3)
    assert np.array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("number", range(8))
def test_procedural_motion_is_large_and_steady(number: int) -> None:
    """The top layer's matrix over equal times is one and the same: the ends determine the path."""
    path = held_out_scene(number, held_out_pictures()).layers[-1].path
    whole, half, quarter = (path.at(t) for t in (1.0, 0.5, 0.25))
    assert np.allclose(half @ half, whole, atol=1e-8)
    assert np.allclose(quarter @ quarter, half, atol=1e-8)
    turn = abs(np.degrees(np.arctan2(whole[1, 0], whole[0, 0])))
    zoom = np.hypot(whole[0, 0], whole[1, 0])
    assert 35 <= turn <= 90 or 1.3 <= max(zoom, 1 / zoom) <= 2.0


def test_the_first_set_is_the_one_that_was_published() -> None:
    """Figures for it are in the model card: its motions are never drawn differently."""
    paths = [held_out_scene(n, held_out_pictures()).layers[-1].path for n in range(4)]
    assert [round(np.degrees(p.angle), 3) for p in paths] == [-45.491, -56.542, -67.246, 0.0]
    assert [round(p.zoom, 4) for p in paths] == [1.0, 1.0, 1.0, 0.5928]
    assert [round(p.pivot[0], 2) for p in paths] == [411.79, 168.28, 283.25, 195.83]


def test_links_of_a_limb_hang_together_and_turn_steadily() -> None:
    for seed in range(5):
        limb = draw_limb(np.random.default_rng(seed), (256, 448))
        assert 60.0 <= limb.displacement() <= 160.0
        for t in (0.0, 0.3, 1.0):
            shoulder, elbow, tip = limb.points(t)
            assert np.allclose(shoulder, limb.shoulder)
            assert np.hypot(*(elbow - shoulder)) == pytest.approx(limb.lengths[0])
            assert np.hypot(*(tip - elbow)) == pytest.approx(limb.lengths[1])
            upper, lower = (np.arctan2(d[1], d[0]) for d in (elbow - shoulder, tip - elbow))
            turned = np.array([upper - limb.heading, lower - upper - limb.bend])
            expected = np.array(limb.turns) * t
            assert np.allclose(np.exp(1j * turned), np.exp(1j * expected))
            assert (limb.points(t) >= 0).all()
            assert (limb.points(t) < (448, 256)).all()


@pytest.mark.parametrize("number", range(2))
def test_limbs_are_three_photographs_and_show_their_exact_flow(number: int) -> None:
    """The frame at 0.4 is an end warped along the flow, on both links, where that end shows it."""
    scene = held_out_scene(number, held_out_pictures(), name="procedural-limbs")
    frame, flows, visible = scene.sample(0.4)
    labels = scene.labels(0.4)
    for end in (0, 1):
        there = torch.from_numpy(scene.frame(float(end))).permute(2, 0, 1)[None] / 255.0
        warped = backward_warp(there, torch.from_numpy(flows[end])[None])[0].permute(1, 2, 0)
        error = np.abs(warped.numpy() - frame / 255.0).mean(-1)
        for link in (1, 2):
            on = (labels == link) & visible[end]
            assert on.mean() > 0.02
            assert error[on].mean() < 0.03
    moved = np.hypot(*flows[0])[labels == 2].mean()
    assert moved > 0.3 * 60.0


def test_bad_clips_and_numbers_are_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such clip: .*gone\.mp4"):
        clip_windows(tmp_path / "gone.mp4", gap=8)
    with pytest.raises(ValueError, match="max_size is 8 pixels"):
        clip_windows(video, gap=8, max_size=8)
    with pytest.raises(ValueError, match="gap is 1; it must be at least 2"):
        clip_windows(video, gap=1)
    with pytest.raises(ValueError, match="pairs is 0"):
        clip_windows(video, gap=8, pairs=0)
    with pytest.raises(ValueError, match="start is -1"):
        clip_windows(video, gap=8, start=-1)
    with pytest.raises(ValueError, match="has 60 frames; from frame 55 at a gap of 8 at least 64"):
        clip_windows(video, gap=8, start=55)
    with pytest.raises(ValueError, match="start is -1; scenes are numbered from 0"):
        clip_windows("procedural", gap=8, start=-1)
    for name in SETS:
        with pytest.raises(ValueError, match="max_size does not apply"):
            clip_windows(name, gap=8, max_size=100)
