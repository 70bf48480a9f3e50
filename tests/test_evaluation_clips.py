"""Reading clips, the protocol over them, and the held-out procedural scenes."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from rdvfi.data.synthetic.limbs import draw_limb
from rdvfi.evaluation.clips import windows
from rdvfi.evaluation.frames import count_frames, read_frames
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


def level(number: int) -> int:
    """The grey that marks a frame."""
    return 20 + 3 * number


def write_video(path: Path, ticks: list[int]) -> None:
    """One flat frame per tick of 1/24 s; key frames every 12, with frames sent out of order."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 24)
        stream.options = {"crf": "1", "g": "12", "bf": "2"}
        for number, tick in enumerate(ticks):
            picture = np.full((48, 64, 3), level(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "grey.mp4"
    write_video(path, list(range(COUNT)))
    return path


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round((float(frame.mean()) - 20) / 3) for frame in frames]


@pytest.mark.parametrize("start", [0, 1, 11, 12, 13, 29, 59])
def test_reading_starts_at_the_frame_asked_for(video: Path, start: int) -> None:
    assert numbers(list(read_frames(video, start=start))) == list(range(start, COUNT))


def test_frames_are_counted_where_timestamps_are_irregular(tmp_path: Path) -> None:
    path = tmp_path / "uneven.mp4"
    write_video(path, [n + n // 3 for n in range(COUNT)])
    assert numbers(list(read_frames(path, start=40))) == list(range(40, COUNT))


def test_counts_come_from_the_file(video: Path) -> None:
    assert count_frames(video) == COUNT
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
        assert numbers(list(window.frames)) == expected
        assert window.times.tolist() == pytest.approx([i / gap for i in range(1, gap)])
        assert window.truth().shape == (gap - 1, 3, 48, 64)


def test_inputs_and_truth_are_the_frames_scaled_to_one(video: Path) -> None:
    window = next(clip_windows(video, gap=4, start=8))
    img0, img1 = window.inputs(torch.device("cpu"))
    truth = window.truth()
    shown = [round(255 * image.mean().item()) for image in (img0[0], *truth, img1[0])]
    assert shown == pytest.approx([level(n) for n in range(8, 13)], abs=1)


def test_reading_is_a_stream() -> None:
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield np.zeros((16, 16, 3), np.uint8)

    next(windows(endless(), 8))
    assert len(taken) == 9


def test_a_folder_is_read_in_natural_order_and_reduced(tmp_path: Path) -> None:
    for number in range(12):
        picture = np.full((60, 80, 3), level(number), np.uint8)
        cv2.imwrite(str(tmp_path / f"frame_{number}.png"), picture)
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = list(read_frames(tmp_path, start=2, max_size=40))
    assert numbers(frames) == list(range(2, 12))
    assert frames[0].shape == (30, 40, 3)
    assert count_frames(tmp_path) == 12


def test_colours_keep_their_order(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.full((16, 16, 3), (10, 20, 200), np.uint8))
    assert next(read_frames(tmp_path))[0, 0].tolist() == [200, 20, 10]


def _textured(seed: int, shift: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 12, 3), np.uint8)
    picture = cv2.resize(noise, (192, 96), interpolation=cv2.INTER_CUBIC)
    return np.roll(picture, shift, axis=1)


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


@pytest.mark.parametrize(("name", "content", "message"), [
    ("empty.mp4", b"", "cannot read .*empty.mp4 as a video"),
    ("text.mp4", b"not a video" * 100, "cannot read .*text.mp4 as a video"),
])  # fmt: skip
def test_what_is_not_a_video_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_frames(tmp_path / name))
    with pytest.raises(ValueError, match=message):
        count_frames(tmp_path / name)


def test_bad_clips_and_numbers_are_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such clip: .*gone\.mp4"):
        read_frames(tmp_path / "gone.mp4")
    with pytest.raises(ValueError, match="no images in folder"):
        list(read_frames(tmp_path))
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


def test_images_of_different_size_are_refused(tmp_path: Path) -> None:
    for number, width in enumerate((64, 64, 66)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((48, width, 3), np.uint8))
    with pytest.raises(ValueError, match=r"2\.png is 66x48; the ones before it are 64x48"):
        list(read_frames(tmp_path))


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(ValueError, match=r"cannot read image .*0\.png"):
        list(read_frames(tmp_path))
