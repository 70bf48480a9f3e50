"""Pictures and videos of a motion."""

import numpy as np
import pytest

import clips
import rdvfi
from rdvfi.media.reader import open_source
from rdvfi.serve.visualize import LAYERS, visualize


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    return rdvfi.build("rdvfi_s", *parts).eval().requires_grad_(False)


def test_a_picture_has_a_panel_per_layer(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64))
    out = tmp_path / "out.png"
    assert visualize(tmp_path / "in.mp4", out, model=model, allow_untrained=True) == 1
    picture = clips.read_png(out)
    assert picture.shape == (2 * 360, 3 * 480, 3)
    panels = [picture[y : y + 360, x : x + 480] for y in (0, 360) for x in (0, 480, 960)]
    assert len(panels) == len(LAYERS)
    for panel in panels[1:4]:  # what is occluded is little of this one
        assert np.abs(panel.astype(int) - panels[0]).mean() > 2
    with pytest.raises(FileExistsError, match=r"out\.png exists"):
        visualize(tmp_path / "in.mp4", out, model=model, allow_untrained=True)


def test_the_path_of_a_point_goes_where_the_point_goes(tmp_path, model) -> None:
    wide = clips.texture(96, 200)
    for k in range(2):
        clips.write_png(tmp_path / f"{k}.png", wide[:, 12 * k : 12 * k + 128])
    images = [tmp_path / f"{k}.png" for k in range(2)]
    for name, points in (("with.png", [(64, 48)]), ("far.png", [(100, 20)])):
        visualize(images, tmp_path / name, model=model, allow_untrained=True, layers=["paths"], points=points, time=1.0)
    a, b = (clips.read_png(tmp_path / name).astype(int) for name in ("with.png", "far.png"))
    rows, columns = np.nonzero(np.abs(a - b).max(axis=2) > 60)
    scale = 480 / 128
    near = (np.abs(rows / scale - 48) < 4) & (columns / scale > 48) & (columns / scale < 68)
    assert near.sum() > 50  # from 64, twelve pixels to the left


def test_a_range_becomes_a_video(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(5, 48, 64))
    out = tmp_path / "out.mp4"
    options = {"model": model, "allow_untrained": True, "layers": ["flow", "mask"]}
    assert visualize(tmp_path / "in.mp4", out, **options) == 4
    frames = list(open_source(out).frames())
    assert len(frames) == 4 * 8
    assert frames[0].pixels.shape == (360, 960, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["flows"]}, "layer is 'flows'; it must be one of picture, paths"),
        ({"points": [(64, 10)]}, "point is 64,10; the frames of .* are 64x48 pixels"),
        ({"time": 2.0}, r"time is 2\.0; it must be in \[0, 1\]"),
    ],
)
def test_bad_choices_are_named(tmp_path, model, options, message) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64))
    with pytest.raises(ValueError, match=message):
        visualize(tmp_path / "in.mp4", tmp_path / "out.png", model=model, allow_untrained=True, **options)
    assert not (tmp_path / "out.png").exists()


def test_a_part_without_a_pair_is_refused(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(4, 64, 64), sound=False)
    with pytest.raises(ValueError, match="fewer than two frames between start and end"):
        visualize(tmp_path / "in.mp4", tmp_path / "out.png", end=0.01)
