"""Images in and out: formats, depth, what is transparent, profiles, and files that are none."""

import struct
import zlib
from contextlib import suppress
from fractions import Fraction

import av
import cv2
import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import pytest

from rdvfi.media.image_files.background import parse_colour
from rdvfi.media.image_files.images import image_header, list_images, read_image, read_pixels, write_png
from rdvfi.media.reader import ReadOptions, open_source
from rdvfi.media.timestamps import Moment
from rdvfi.media.writer import FolderSink
from test_media_encoding import _transcode

SIZE = (24, 40)


def ramp(*, deep: bool = False, channels: int = 3) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    planes = [columns / SIZE[1], rows / SIZE[0], 0.5 * (columns + rows) / sum(SIZE), 0.25 + 0.5 * columns / SIZE[1]]
    picture = np.stack(planes[:channels], axis=-1)
    return np.round(picture * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)


def encode_with_ffmpeg(path, picture: np.ndarray, codec: str, form: str) -> None:
    """One picture, encoded by FFmpeg from RGB."""
    deep = picture.dtype == np.uint16
    given = {3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}[picture.shape[2]][deep]
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.time_base = SIZE[1], SIZE[0], form, Fraction(1)
    frame = av.VideoFrame.from_ndarray(picture, format=given).reformat(format=form)
    frame.pts = 0
    path.write_bytes(b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None))))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".tga", ".jp2", ".avif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_eight_bits_are_read_as_pillow_reads_them(tmp_path, suffix, channels) -> None:
    path, picture = tmp_path / f"a{suffix}", ramp(channels=channels)
    options = {".webp": {"lossless": True, "exact": True}, ".avif": {"quality": 100, "subsampling": "4:4:4"}}
    PIL.Image.fromarray(picture).save(path, **options.get(suffix, {}))
    with PIL.Image.open(path) as image:
        expected = np.array(image)
    header = image_header(path)
    assert (header.height, header.width, header.bits, header.alpha) == (*SIZE, 8, channels == 4)
    assert np.abs(read_pixels(path).astype(int) - expected).max() <= (3 if suffix == ".avif" else 0)
    assert np.abs(expected.astype(int) - picture).max() <= 3


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [
        ("a.png", "png", "rgb48be"),
        ("a.png", "png", "rgba64be"),
        ("a.tiff", "tiff", "rgb48le"),
        ("a.tiff", "tiff", "rgba64le"),
        ("a.dpx", "dpx", "rgb48be"),
        ("a.jp2", "jpeg2000", "rgb48le"),
    ],
)
def test_sixteen_bits_are_kept(tmp_path, name, codec, form) -> None:
    picture = ramp(deep=True, channels=4 if "rgba" in form else 3)
    encode_with_ffmpeg(tmp_path / name, picture, codec, form)
    assert image_header(tmp_path / name).bits == 16
    read = read_pixels(tmp_path / name)
    assert read.dtype == np.uint16
    assert np.abs(read.astype(int) - picture).max() <= (80 if name.endswith("jp2") else 0)  # that one has losses


def test_ten_and_twelve_bits_fill_sixteen(tmp_path) -> None:
    white = np.full((*SIZE, 3), 65535, np.uint16)
    for form in ("gbrp10be", "gbrp12be"):
        encode_with_ffmpeg(tmp_path / "a.dpx", white, "dpx", form)
        assert read_pixels(tmp_path / "a.dpx").min() >= 65535 - 64, form


@pytest.mark.parametrize("suffix", [".pgm", ".ppm", ".tif"])
@pytest.mark.parametrize("deep", [False, True])
def test_grey_and_colour_of_plain_formats_are_read_at_their_depth(tmp_path, suffix, deep) -> None:
    picture = ramp(deep=deep)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), picture[..., 0] if suffix == ".pgm" else picture[..., ::-1])
    header, pixels = image_header(tmp_path / f"a{suffix}"), read_image(tmp_path / f"a{suffix}")
    assert header.bits == 8 * pixels.itemsize == (16 if deep else 8)
    assert np.array_equal(pixels, np.repeat(picture[..., :1], 3, 2) if suffix == ".pgm" else picture)


def test_floats_of_one_channel_are_grey(tmp_path) -> None:
    values = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40)
    cv2.imwrite(str(tmp_path / "a.tif"), values)
    assert np.array_equal(read_image(tmp_path / "a.tif"), np.repeat(np.round(values * 65535)[..., None], 3, 2))


def test_floats_are_clipped_and_reported(tmp_path) -> None:
    picture = np.linspace(-0.5, 1.5, SIZE[0] * SIZE[1] * 3, dtype=np.float32).reshape(*SIZE, 3)
    picture[0, 0] = np.nan
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.tiff"), picture)
    read = read_pixels(tmp_path / "0.tiff")[..., ::-1]
    expected = np.round(np.clip(np.nan_to_num(picture), 0, 1) * 65535)
    assert np.array_equal(read, expected.astype(np.uint16))
    assert "images: values below 0 and above 1 are clipped" in open_source(tmp_path).notes()


@pytest.mark.parametrize("form", ["gbrpf32le", "gbrapf32le"])
def test_linear_light_becomes_srgb(tmp_path, form) -> None:
    alpha = form == "gbrapf32le"
    light = np.zeros((4 if alpha else 3, *SIZE), np.float32)
    light[:3], light[3:] = 0.25, 0.5
    light[0, 0, :] = 7.0  # green of the first row, brighter than white
    frame = av.VideoFrame(SIZE[1], SIZE[0], form)
    for plane, values in zip(frame.planes, light, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 4), np.float32)
        rows[:, : SIZE[1]] = values
        plane.update(rows.tobytes())
    frame.pts = 0
    context = av.CodecContext.create("exr", "w")
    context.width, context.height, context.pix_fmt, context.time_base = SIZE[1], SIZE[0], form, Fraction(1)
    (tmp_path / "a.exr").write_bytes(b"".join(bytes(p) for p in (*context.encode(frame), *context.encode(None))))
    header, read = image_header(tmp_path / "a.exr"), read_pixels(tmp_path / "a.exr").astype(float) / 65535
    assert (header.width, header.height, header.bits, header.alpha) == (SIZE[1], SIZE[0], 16, alpha)
    straight = 0.5 if alpha else 0.25  # EXR multiplies colours by alpha
    assert abs(read[5, 5, 0] - (1.055 * straight ** (1 / 2.4) - 0.055)) < 1e-4
    assert read[0, 3, 1] == 1.0
    if alpha:
        assert abs(read[5, 5, 3] - 0.5) < 1e-4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_pictures_are_turned_upright(tmp_path, orientation, suffix) -> None:
    path, exif = tmp_path / f"a{suffix}", PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(ramp()).save(path, exif=exif, **({"quality": 100} if suffix == ".jpg" else {}))
    with PIL.Image.open(path) as image:
        expected = np.array(PIL.ImageOps.exif_transpose(image))
    assert np.array_equal(read_image(path), expected)
    assert (image_header(path).height, image_header(path).width) == expected.shape[:2]


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
    for name, colour in (("black", [0, 0, 0]), ("#10c020", [16, 192, 32])):
        source = open_source(tmp_path, ReadOptions(background=parse_colour(name)))
        assert all(frame.pixels[0, 0].tolist() == colour for frame in source.frames())
        assert source.notes() == [f"transparent parts of the images are shown on {name}"]
    source = open_source(tmp_path, ReadOptions(alpha=True))
    assert all(np.array_equal(frame.pixels, pixels) for frame in source.frames())
    assert source.notes() == []


def test_opaque_images_with_alpha_are_silent_and_mix_with_others(tmp_path) -> None:
    PIL.Image.fromarray(ramp()).save(tmp_path / "0.png")
    PIL.Image.fromarray(ramp()).convert("RGBA").save(tmp_path / "1.png")
    source = open_source(tmp_path)
    assert [frame.pixels.shape[2] for frame in source.frames()] == [3, 3]
    assert source.notes() == []
    kept = [frame.pixels for frame in open_source(tmp_path, ReadOptions(alpha=True)).frames()]
    assert [pixels.shape[2] for pixels in kept] == [4, 4]
    assert np.array_equal(kept[0], kept[1])
    with pytest.raises(ValueError, match="background is 'pinkish'; expected a colour such as black"):
        parse_colour("pinkish")
    assert parse_colour("teal") == (0, 128, 128)


def test_grey_with_transparency_is_spread(tmp_path) -> None:
    PIL.Image.new("LA", (20, 20), (200, 255)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png")[0, 0].tolist() == [200, 200, 200]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".avif"])
def test_colour_profiles_are_kept(tmp_path, suffix) -> None:
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for number in range(2):
        picture = PIL.Image.new("RGB", (20, 20), (90, number, 0))
        picture.save(tmp_path / f"{number}{suffix}", icc_profile=profile)
    source = open_source(tmp_path)
    sink = FolderSink(tmp_path, source.info.profile)
    for frame in source.frames():
        sink.write(frame.pixels, Moment(0, Fraction(0), frame.stamp.time, frame.stamp.duration))
    with PIL.Image.open(tmp_path / "frame_000001.png") as written:
        assert written.info["icc_profile"] == profile
    write_png(tmp_path / "plain.png", np.zeros((4, 4, 3), np.uint8))
    assert image_header(tmp_path / "plain.png").profile == b""


@pytest.mark.parametrize("suffix", [".apng", ".webp", ".mp4"])
def test_colour_profiles_are_kept_in_animations_and_named_elsewhere(tmp_path, suffix) -> None:
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes() + b"\0"
    pictures = [PIL.Image.new("RGB", (20, 20), (90, 60 * k, 0)) for k in range(3)]
    for k, picture in enumerate(pictures):
        picture.save(tmp_path / f"{k}.png", icc_profile=profile)
    notes = _transcode(tmp_path, tmp_path / f"o{suffix}")
    assert len(notes) == (suffix == ".mp4")
    if suffix == ".mp4":
        assert "colour profile (ICC)" in notes[0]
        return
    with PIL.Image.open(tmp_path / f"o{suffix}") as written:
        assert written.info["icc_profile"] == profile
        assert written.n_frames == 3
        for k, picture in enumerate(pictures):
            written.seek(k)
            assert np.abs(np.subtract(written.convert("RGB"), np.asarray(picture, np.int16))).max() < 4


@pytest.mark.parametrize("suffix", [".png", ".webp", ".apng"])
def test_animated_images_are_films(tmp_path, suffix) -> None:
    frames = [PIL.Image.new("RGBA", (20, 24), (50 * k, 0, 0, 255 - 40 * k)) for k in range(4)]
    options = {"duration": [40, 80, 120, 40], **({"lossless": True, "exact": True} if suffix == ".webp" else {})}
    form = "WEBP" if suffix == ".webp" else "PNG"
    frames[0].save(tmp_path / f"a{suffix}", form, save_all=True, append_images=frames[1:], **options)
    source = open_source(tmp_path / f"a{suffix}", ReadOptions(alpha=True))
    found = list(source.frames())
    assert [frame.stamp.time for frame in found] == [Fraction(t, 1000) for t in (0, 40, 120, 240)]
    assert [frame.stamp.duration for frame in found] == [Fraction(t, 1000) for t in (40, 80, 120, 40)]
    assert source.info.frames == 4
    assert source.info.span == Fraction(240, 1000)
    assert source.info.span % source.info.tick == 0
    assert [frame.pixels[0, 0].tolist() for frame in found] == [[50 * k, 0, 0, 255 - 40 * k] for k in range(4)]


def test_folders_are_checked_before_the_work(tmp_path) -> None:
    for number in range(6):
        PIL.Image.new("RGB", (20, 20)).save(tmp_path / f"{number}.png")
    (tmp_path / "._0.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    (tmp_path / ".hidden.png").write_bytes(b"none")
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "thumbs").mkdir()
    assert [path.name for path in list_images(tmp_path)] == [f"{k}.png" for k in range(6)]
    assert open_source(tmp_path).notes() == [
        "3 files that are not images were left out: ._0.png, .hidden.png, notes.txt"
    ]
    PIL.Image.new("RGB", (20, 22)).save(tmp_path / "5.png")
    with pytest.raises(ValueError, match=r"5\.png is 20x22 with 8 bits per channel, .*0\.png is 20x20"):
        open_source(tmp_path)
    (tmp_path / "5.png").write_bytes((tmp_path / "4.png").read_bytes()[:-30])
    (tmp_path / "4.png").write_text("text")
    with pytest.raises(ValueError, match=r"4\.png is not an image .*5\.png is truncated"):
        open_source(tmp_path)


def _png_declaring(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [head, b"IDAT" + zlib.compress(b"\0"), b"IEND"]
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_sizes_are_bounded_before_anything_is_decoded(tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png_declaring(100_000, 20_000))
    with pytest.raises(ValueError, match=r"a\.png (declares 100000x20000|is larger than)"):
        read_image(path)
    path.write_bytes(_png_declaring(12_000, 12_000))
    with pytest.raises(ValueError, match="declares 12000x12000 pixels, more than max_pixels=134217728"):
        read_image(path)
    path.write_bytes(_png_declaring(64, 64))
    with pytest.raises(ValueError, match="64x64 pixels, more than max_pixels=4000"):
        image_header(path, max_pixels=4000)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff", "a.tga", "a.jp2", "a.avif", "a.bmp", "b.dpx"])
def test_damage_is_one_clear_error(tmp_path, name) -> None:
    path = tmp_path / name
    if name == "b.dpx":
        encode_with_ffmpeg(path, ramp(deep=True), "dpx", "rgb48be")
    else:
        PIL.Image.fromarray(ramp()).save(path)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for number in range(40):
        broken = bytearray(data[: len(data) - (number % 3) * 20])
        for at in rng.integers(0, min(len(broken), 200 if number % 2 else len(broken)), 4):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken)
        with suppress(ValueError):  # anything else is a fault
            assert read_pixels(path).ndim == 3
