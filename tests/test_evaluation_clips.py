"""Windows of clips: inputs, and the truth between them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import clips
from rdvfi.evaluation.evaluation_data import EvaluationData
from rdvfi.evaluation.evaluation_window import split_windows
from rdvfi.evaluation.procedural import HELD_OUT_SETS

COUNT = 60


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "grey.mp4"
    clips.write_numbered(path, range(COUNT))
    return path


def test_counts_come_from_the_file(video: Path) -> None:
    assert EvaluationData(video, gap=9).window_count() == 6
    assert EvaluationData(video, gap=9, start=7, pairs=3).window_count() == 3
    for name in HELD_OUT_SETS:
        assert EvaluationData(name, gap=9).window_count() == 24


@pytest.mark.parametrize(("gap", "start", "pairs", "firsts"), [
    (9, 0, None, [0, 9, 18, 27, 36, 45]),
    (8, 5, None, [5, 13, 21, 29, 37, 45]),
    (8, 3, 2, [3, 11]),
    (59, 0, None, [0]),
])  # fmt: skip
def test_windows_are_every_gap_frames(video: Path, gap: int, start: int, pairs: int | None, firsts: list[int]) -> None:
    windows = list(EvaluationData(video, gap=gap, start=start, pairs=pairs).windows())
    assert [window.first for window in windows] == firsts
    for window in windows:
        expected = list(range(window.first, window.first + gap + 1))
        assert clips.numbers(list(window.frames)) == expected
        assert window.times.tolist() == pytest.approx([i / gap for i in range(1, gap)])
        assert window.truth().shape == (gap - 1, 3, 48, 64)


def test_inputs_and_truth_are_the_frames_scaled_to_one(video: Path) -> None:
    window = next(EvaluationData(video, gap=4, start=8).windows())
    img0, img1 = window.inputs(torch.device("cpu"))
    truth = window.truth()
    grey_levels = [round(255 * image.mean().item()) for image in (img0[0], *truth, img1[0])]
    assert grey_levels == pytest.approx([clips.level(n) for n in range(8, 13)], abs=1)


def test_reading_is_a_stream() -> None:
    consumed = []

    def endless():
        while True:
            consumed.append(None)
            yield np.zeros((16, 16, 3), np.uint8)

    next(split_windows(endless(), 8))
    assert len(consumed) == 9


def test_frames_are_reduced_where_asked(video: Path) -> None:
    window = next(EvaluationData(video, gap=4, start=2, max_size=32).windows())
    assert window.frames.shape == (5, 24, 32, 3)
    assert clips.numbers(list(window.frames)) == [2, 3, 4, 5, 6]


def test_bad_clips_and_numbers_are_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such clip: .*gone\.mp4"):
        EvaluationData(tmp_path / "gone.mp4", gap=8).windows()
    with pytest.raises(ValueError, match="max_size is 8 pixels"):
        EvaluationData(video, gap=8, max_size=8).windows()
    with pytest.raises(ValueError, match="gap is 1; it must be at least 2"):
        EvaluationData(video, gap=1).windows()
    with pytest.raises(ValueError, match="pairs is 0"):
        EvaluationData(video, gap=8, pairs=0).windows()
    with pytest.raises(ValueError, match="start is -1"):
        EvaluationData(video, gap=8, start=-1).windows()
    with pytest.raises(ValueError, match="has 60 frames; from frame 55 at a gap of 8 at least 64"):
        EvaluationData(video, gap=8, start=55).windows()
    with pytest.raises(ValueError, match="start is -1; scenes are numbered from 0"):
        EvaluationData("procedural", gap=8, start=-1).windows()
    for name in HELD_OUT_SETS:
        with pytest.raises(ValueError, match="max_size does not apply"):
            EvaluationData(name, gap=8, max_size=100).windows()
