"""Comparisons of what came out with what went in, and the report of every pair."""

import json

import numpy as np
import pytest

import clips
import rdvfi
from rdvfi.media.reader import open_source
from rdvfi.video import LowConfidenceWarning, interpolate_video


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    return rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "renderer=blend").requires_grad_(False)


def _run(tmp_path, model, **options):
    return interpolate_video(
        tmp_path / "in.mp4", tmp_path / "out.mp4", model=model, allow_untrained=True, multiplier=2, **options
    )


def test_side_by_side_holds_the_source_beside_the_output(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(4, 48, 64))
    _run(tmp_path, model, compare="side-by-side", slow=2)
    source = list(open_source(tmp_path / "in.mp4").frames())
    made = list(open_source(tmp_path / "out.mp4").frames())
    both = list(open_source(tmp_path / "out.side-by-side.mp4").frames())
    assert [frame.stamp.time for frame in both] == [frame.stamp.time for frame in made]
    for k, frame in enumerate(both):
        assert frame.pixels.shape == (48, 128, 3)
        for half, whole in ((frame.pixels[:, :64], source[k // 4].pixels), (frame.pixels[:, 64:], made[k].pixels)):
            assert np.abs(half.astype(float) - whole).mean() < 8  # encoded once more


def test_differences_and_sheets(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(4, 48, 64))
    _run(tmp_path, model, compare="difference")
    levels = [float(frame.pixels.mean()) for frame in open_source(tmp_path / "out.difference.mp4").frames()]
    assert min(levels[1::2]) > 2 * max(levels[::2])  # source frames are what they were, but for the encoder
    _run(tmp_path, model, compare="sheet", overwrite=True)
    sheet = clips.read_png(tmp_path / "out.sheet.png")
    assert sheet.shape[1] == 3 * 364
    (tmp_path / "out.mp4").unlink()
    with pytest.raises(FileExistsError, match=r"out\.sheet\.png exists"):
        _run(tmp_path, model, compare="sheet")


def test_the_report_says_what_was_done_with_every_pair_and_why(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.two_scenes(each=2))
    with pytest.warns(LowConfidenceWarning):
        report = _run(tmp_path, model, report=tmp_path / "report.json", on_scene_change="hold_previous")
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["frames_written"] == report.frames_written == 7
    assert [pair["way"] for pair in told["pairs"]] == ["interpolated", "held", "interpolated"]
    assert [pair["new"] for pair in told["pairs"]] == [1, 1, 1]
    assert told["ways"] == {"interpolated": 2, "held": 1}
    assert told["pairs"][1]["reason"].startswith("two scenes: mean confidence")
    assert told["pairs"][2]["start"] == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compare": "beside"}, "compare is 'beside'; it must be one of side-by-side, difference, sheet"),
        ({"compare": "sheet", "speed": [(0, 1)]}, "compare needs a steady speed"),
        ({"report": "report.txt"}, r"report is report\.txt; it must be a \.json file"),
        ({"report": "/nowhere/report.json"}, r"the folder of report .* does not exist"),
    ],
)
def test_bad_choices_are_refused_before_the_work(tmp_path, model, options, message) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64))
    if "speed" in options:
        options = {**options, "multiplier": None}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        interpolate_video(tmp_path / "in.mp4", tmp_path / "out.mp4", model=model, allow_untrained=True, **options)
    assert not (tmp_path / "out.mp4").exists()
