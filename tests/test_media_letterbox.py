"""Bars around a film are found from its whole length, and stay as they are."""

import numpy as np
import pytest

import clips
import rdvfi
from rdvfi.media.image_files.images import read_pixels
from rdvfi.media.reader import open_source
from rdvfi.media.video_files.letterbox import Letterbox, find_letterbox


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    """Real motion and real warping."""
    parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    return rdvfi.build("rdvfi_s", *parts).requires_grad_(False)


@pytest.mark.parametrize(("bars", "found"), [
    ((12, 12, 0, 0), True), ((0, 0, 20, 20), True), ((14, 6, 16, 0), True), ((0, 0, 0, 0), False),
])  # fmt: skip
def test_bars_around_the_picture_are_found_and_kept_still(tmp_path, model, bars, found) -> None:
    above, below, left, right = bars
    moving = clips.moving(6, 96 - above - below, 128 - left - right)
    sides = ((above, below), (left, right), (0, 0))
    framed = [np.pad(picture, sides, constant_values=0.0) for picture in moving]
    framed[3][above // 2, 60:63] = 0.9  # a speck in the upper bar, or in the picture
    clips.write_clip(tmp_path / "in.mkv", framed, sound=False)
    report = rdvfi.interpolate_video(
        tmp_path / "in.mkv", tmp_path / "out", model=model, multiplier=2, crop_bars=True, allow_untrained=True
    )
    (note,) = [note for note in report.notes if "bars" in note]
    assert note.startswith("bars of" if found else "no bars were found")
    source = [frame.pixels for frame in open_source(tmp_path / "in.mkv").frames()]
    made = [read_pixels(tmp_path / "out" / f"frame_{number:06d}.png") for number in range(11)]
    above, below, left, right = (max(0, lines - 2) for lines in bars)  # a codec smears the last lines
    edges = (slice(0, above), slice(96 - below, 96)), (slice(0, left), slice(128 - right, 128))
    for number in range(1, 11, 2):
        for rows in edges[0]:
            assert np.array_equal(made[number][rows], source[number // 2][rows])
        for columns in edges[1]:
            assert np.array_equal(made[number][:, columns], source[number // 2][:, columns])
        inside = np.s_[above : 96 - below, left : 128 - right]
        assert not np.array_equal(made[number][inside], source[number // 2][inside])


def test_a_dark_beginning_is_no_bar(tmp_path) -> None:
    """The picture is dark at its upper half in the first frames, and the bars are those of the others."""
    film = [np.pad(picture, ((10, 10), (0, 0), (0, 0))) for picture in clips.moving(24, 76, 128)]
    for picture in film[:6]:
        picture[:50] = 0.0
    clips.write_clip(tmp_path / "in.mp4", film, sound=False)
    found = find_letterbox(open_source(tmp_path / "in.mp4"))
    assert 9 <= found.above <= 10
    assert 9 <= found.below <= 10


def test_what_is_read_once_is_refused(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), sound=False)
    source = open_source(tmp_path / "in.mp4")
    assert find_letterbox(source) == Letterbox()
    source.repeatable = False
    with pytest.raises(ValueError, match=r"crop_bars is on, but .*in\.mp4 cannot be read twice"):
        find_letterbox(source)
