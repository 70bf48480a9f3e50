"""Images in and out: what is transparent, profiles, and files that are none."""

from fractions import Fraction

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from rdvfi.media.images import colour_profile, list_images, read_image, write_png
from rdvfi.media.reader import open_source
from rdvfi.media.timestamps import Moment
from rdvfi.media.writer import FolderSink


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_hidden_colours_of_transparent_images_are_not_shown(tmp_path, suffix) -> None:
    pixels = np.zeros((32, 40, 4), np.uint8)
    pixels[:] = (255, 0, 255, 0)
    pixels[8:16] = (230, 60, 120, 255)
    pixels[16:24] = (200, 100, 50, 128)
    for number in range(2):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{number}{suffix}", lossless=True, exact=True)
    seen = read_image(tmp_path / f"0{suffix}")
    assert seen[0, 0].tolist() == [0, 0, 0]
    assert seen[10, 0].tolist() == [230, 60, 120]
    assert np.abs(seen[20, 0].astype(int) - [100, 50, 25]).max() <= 1
    assert open_source(tmp_path).notes() == ["what is transparent in the images is shown on black"]


def test_grey_with_transparency_is_spread(tmp_path) -> None:
    PIL.Image.new("LA", (20, 20), (200, 255)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png")[0, 0].tolist() == [200, 200, 200]


def test_colour_profiles_are_kept(tmp_path) -> None:
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for number in range(2):
        picture = PIL.Image.new("RGB", (20, 20), (90, number, 0))
        picture.save(tmp_path / f"{number}.png", icc_profile=profile)
    source = open_source(tmp_path)
    sink = FolderSink(tmp_path, source.info.profile)
    for frame in source.frames():
        sink.write(frame.pixels, Moment(0, Fraction(0), *frame.stamp))
    with PIL.Image.open(tmp_path / "frame_000001.png") as written:
        assert written.info["icc_profile"] == profile
        assert written.getpixel((0, 0)) == (90, 1, 0)
    write_png(tmp_path / "plain.png", np.zeros((4, 4, 3), np.uint8))
    assert colour_profile((tmp_path / "plain.png").read_bytes()) == b""


def test_files_that_systems_hide_are_no_images(tmp_path) -> None:
    for number in range(2):
        PIL.Image.new("RGB", (20, 20)).save(tmp_path / f"{number}.png")
    (tmp_path / "._0.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    (tmp_path / ".hidden.png").write_bytes(b"none")
    assert [path.name for path in list_images(tmp_path)] == ["0.png", "1.png"]
