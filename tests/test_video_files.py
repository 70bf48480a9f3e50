"""Reading and writing real files: times, colours, depth, sound, and everything that is refused."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import clips
from rdvfi.media.colour import Colour, Converter
from rdvfi.media.image_files.images import list_images
from rdvfi.media.outputs.output import atomic_output, check_destination
from rdvfi.media.reader import ReadOptions, Source, open_source
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.writer import check_options, open_sink
from rdvfi.video.timing import Multiply, schedule


def _copy(source: Source, destination: Path, options: SinkOptions | None = None) -> None:
    """Send every frame through reader and writer, none made."""
    rule = Multiply(1)
    frames = list(source.frames())
    plan = schedule((frame.stamp for frame in frames), rule)
    tick = rule.time_base(source.info.tick)
    options = options or SinkOptions()
    with open_sink(destination, source.info, options, tick=tick, rate=Fraction(6)) as sink:
        for frame, (_, moments) in zip(frames, plan, strict=True):
            sink.write(frame.pixels, next(moments))


def _context(path: Path) -> av.VideoCodecContext:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        next(container.decode(stream))
        return stream.codec_context


def test_a_video_file_gives_its_frames_times_and_colours(tmp_path) -> None:
    pictures = clips.moving(5, 48, 64)
    clips.write_clip(tmp_path / "in.mp4", pictures)
    source = open_source(tmp_path / "in.mp4")
    info = source.info
    assert (info.width, info.height, info.frames, info.span) == (64, 48, 5, Fraction(4, 6))
    assert info.metadata["title"] == "A moving texture"
    frames = list(source.frames())
    assert [frame.stamp.time for frame in frames] == [Fraction(k, 6) for k in range(5)]
    assert all(frame.stamp.duration == Fraction(1, 6) for frame in frames)
    for frame, picture in zip(frames, pictures, strict=True):
        error = frame.pixels / 255 - picture
        assert np.abs(error).mean() < 0.02
        assert abs(error.mean()) < 0.005


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_variable_frame_rate_is_kept(tmp_path, suffix) -> None:
    ticks = [0, 1001, 5005, 6006, 12345, 13000]
    clips.write_clip(tmp_path / "in.mp4", clips.moving(6, 48, 64), ticks=ticks)
    source = open_source(tmp_path / "in.mp4")
    times = [frame.stamp.time for frame in source.frames()]
    assert times == [tick * clips.TICK for tick in ticks]
    _copy(source, tmp_path / f"out{suffix}")
    copied = [frame.stamp.time for frame in open_source(tmp_path / f"out{suffix}").frames()]
    if suffix == ".mkv":  # whole milliseconds, and the start moves with that of the sound
        steps = [abs((a - b) - (times[0] - copied[0])) for a, b in zip(times, copied, strict=True)]
        assert max(steps) <= Fraction(1, 1000)
    else:
        assert copied == times


@pytest.mark.parametrize("name", ["in.avi", "in.ts", "in.flv", "in.mov", "in.h264"])
def test_other_containers_are_read_whole_and_in_time(tmp_path, name) -> None:
    clips.write_clip(tmp_path / name, clips.moving(9, 48, 64), sound=False)
    source = open_source(tmp_path / name)
    times = [frame.stamp.time for frame in source.frames()]
    assert len(times) == source.info.frames == 9
    # A bare stream has no times at all, only what its decoder takes for the rate.
    step = source.info.tick if name == "in.h264" else Fraction(1, 6)
    for k, time in enumerate(times):
        assert abs(time - times[0] - k * step) <= Fraction(1, 1000)


@pytest.mark.parametrize("colour", [(1, 1, 1, 1), (9, 9, 16, 1), (6, 6, 6, 1), (5, 5, 1, 2)])
def test_colour_tags_range_and_metadata_are_copied(tmp_path, colour) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), colour=colour)
    source = open_source(tmp_path / "in.mp4")
    _copy(source, tmp_path / "out.mp4")
    context = _context(tmp_path / "out.mp4")
    assert context.colorspace == colour[0]
    assert context.color_primaries == colour[1]
    assert context.color_trc == colour[2]
    assert Colour.from_context(context).full_range == (colour[3] == 2)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["title"] == "A moving texture"
    before = [frame.pixels.mean() for frame in source.frames()]
    after = [frame.pixels.mean() for frame in open_source(tmp_path / "out.mp4").frames()]
    assert np.abs(np.subtract(before, after)).max() < 1.0


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv422p"])
def test_depth_and_chroma_are_kept(tmp_path, pixel_format) -> None:
    pictures = clips.moving(3, 48, 64)
    clips.write_clip(tmp_path / "in.mp4", pictures, pixel_format=pixel_format)
    source = open_source(tmp_path / "in.mp4")
    assert source.info.layout.deep == ("10" in pixel_format)
    _copy(source, tmp_path / "out.mp4", SinkOptions(crf=4))
    assert _context(tmp_path / "out.mp4").pix_fmt == pixel_format
    for frame, again in zip(source.frames(), open_source(tmp_path / "out.mp4").frames(), strict=True):
        most = np.iinfo(frame.pixels.dtype).max
        error = (frame.pixels.astype(float) - again.pixels) / most
        # Chroma at half size blurs this colourful texture a little.
        assert np.sqrt((error**2).mean()) < (0.01 if "444" in pixel_format else 0.025)
        assert abs(error.mean()) < 0.001


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("headroom", [False, True])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_conversion_does_not_drift(matrix, deep, headroom, full) -> None:
    """Ten round trips through video keep the brightness and the colours."""
    form = "yuv444p10le" if deep else "yuv444p"
    converter = Converter(Colour(matrix, full_range=full), deep=deep, headroom=headroom)
    most = 65535 if deep else 255
    picture = np.round(clips.texture(48, 64) * most)
    pixels = start = picture.astype(np.uint16 if deep else np.uint8)
    for _ in range(10):
        pixels = converter.to_rgb(converter.from_rgb(pixels, form))
    assert pixels.dtype == start.dtype
    drift = (pixels.astype(float) - start).mean((0, 1)) / most
    assert np.abs(drift).max() < 0.002


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotated_film_is_set_upright(tmp_path, rotation) -> None:
    upright = clips.moving(2, 48, 80)
    stored = [np.rot90(picture, -rotation // 90) for picture in upright]
    clips.write_clip(tmp_path / "in.mp4", stored, rotation=rotation)
    source = open_source(tmp_path / "in.mp4")
    assert (source.info.width, source.info.height) == (80, 48)
    for frame, picture in zip(source.frames(), upright, strict=True):
        assert frame.pixels.shape == (48, 80, 3)
        assert np.abs(frame.pixels / 255 - picture).mean() < 0.03


ODD = [
    ("o.mp4", None, "pad", (52, 36)),
    ("o.mp4", "hevc", "crop", (50, 34)),
    ("o.mp4", None, "444", (51, 35)),
    ("o.webm", None, "pad", (51, 35)),
    ("o.mkv", "ffv1", "pad", (51, 35)),
    ("o.gif", None, "pad", (51, 35)),
]


@pytest.mark.parametrize(("name", "codec", "odd", "size"), ODD)
def test_odd_sizes_are_made_even_where_players_need_it(tmp_path, name, codec, odd, size) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for path in paths:
        clips.write_png(path, clips.texture(35, 51))
    source = open_source(paths)
    _copy(source, tmp_path / name, SinkOptions(codec, odd=odd))
    again = open_source(tmp_path / name)
    assert (again.info.width, again.info.height) == size
    h, w = min(35, size[1]), min(51, size[0])
    for a, b in zip(source.frames(), again.frames(), strict=True):
        assert np.abs(a.pixels[:h, :w].astype(float) - b.pixels[:h, :w]).mean() < 6


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_ffv1_loses_nothing(tmp_path, pixel_format) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), pixel_format=pixel_format)
    source = open_source(tmp_path / "in.mp4")
    _copy(source, tmp_path / "out.mkv", SinkOptions("ffv1"))
    for frame, again in zip(source.frames(), open_source(tmp_path / "out.mkv").frames(), strict=True):
        assert np.array_equal(frame.pixels, again.pixels)


def test_images_come_in_natural_order(tmp_path) -> None:
    names = ["f10.png", "f9.png", "f1.png", "F2.png", "f001.png"]
    for k, name in enumerate(names):
        clips.write_png(tmp_path / name, clips.texture(24, 24, seed=k))
    (tmp_path / "notes.txt").write_text("no image")
    order = [path.name for path in list_images(tmp_path)]
    assert order == ["f001.png", "f1.png", "F2.png", "f9.png", "f10.png"]
    assert len(list(open_source(tmp_path).frames())) == 5


@pytest.mark.parametrize("deep", [False, True])
def test_images_are_read_and_written_exactly(tmp_path, deep) -> None:
    pictures = clips.moving(2, 24, 32)
    for k, picture in enumerate(pictures):
        clips.write_png(tmp_path / f"{k}.png", picture, deep=deep)
    source = open_source([tmp_path / "0.png", tmp_path / "1.png"])
    _copy(source, tmp_path / "out")
    for k in range(2):
        out = clips.read_png(tmp_path / "out" / f"frame_{k:06d}.png")
        assert out.dtype == (np.uint16 if deep else np.uint8)
        assert np.array_equal(out, clips.read_png(tmp_path / f"{k}.png"))


def test_unusable_sources_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist"):
        open_source(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty\.mp4 is empty"):
        open_source(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("this is no film " * 100)
    with pytest.raises(ValueError, match=r"text\.mp4 is not a video that can be read"):
        open_source(tmp_path / "text.mp4")
    clips.write_clip(tmp_path / "one.mp4", clips.moving(1, 48, 64))
    with pytest.raises(ValueError, match=r"one\.mp4 holds a single frame"):
        open_source(tmp_path / "one.mp4")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder holds no images"):
        open_source(tmp_path / "folder")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=44100, layout="mono")
        clips._write_sound(container, audio, seconds=0.3)
    with pytest.raises(ValueError, match=r"sound\.mp4 has no video stream"):
        open_source(tmp_path / "sound.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_truncated_video_gives_the_frames_that_there_are(tmp_path, suffix, share) -> None:
    whole = tmp_path / f"whole{suffix}"
    noise = [np.random.default_rng(k).random((96, 128, 3)) for k in range(18)]
    clips.write_clip(whole, noise)
    assert open_source(whole).info.frames == 18
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"cut\.\w+ is (damaged: it ends after|not a video)"):
        open_source(cut, ReadOptions(strict=True))
    source = open_source(cut)
    pairs = zip(source.frames(), open_source(whole).frames(), strict=False)
    alike = [np.array_equal(a.pixels, b.pixels) and a.stamp.time == b.stamp.time for a, b in pairs]
    assert len(alike) >= 18 * share - 4
    assert all(alike)
    (note,) = source.notes()
    assert "is damaged; frames that could be decoded were used: it ends after" in note


def test_unusable_images_are_named(tmp_path) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    clips.write_png(a, clips.texture(24, 32))
    clips.write_png(b, clips.texture(24, 40))
    with pytest.raises(ValueError, match=r"b\.png is 40x24 with 8 bits per channel, .*a\.png is 32x24"):
        list(open_source([a, b]).frames())
    clips.write_png(b, clips.texture(24, 32), deep=True)
    with pytest.raises(ValueError, match=r"b\.png is 32x24 with 16 bits"):
        list(open_source([a, b]).frames())
    b.write_bytes(a.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"b\.png is truncated"):
        list(open_source([a, b]).frames())
    b.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"b\.png is not an image"):
        list(open_source([a, b]).frames())
    with pytest.raises(FileNotFoundError, match=r"c\.png does not exist"):
        open_source([a, tmp_path / "c.png"])
    with pytest.raises(ValueError, match=r"a\.png holds a single frame"):
        open_source(a)
    with pytest.raises(ValueError, match=r"film\.mp4 is not an image file"):
        open_source([a, tmp_path / "film.mp4"])
    with pytest.raises(ValueError, match="image_rate is 0"):
        open_source([a, a], ReadOptions(image_rate=Fraction(0)))


def test_unusable_destinations_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"unknown output suffix '\.wmv'"):
        check_destination(tmp_path / "out.wmv", overwrite=False)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        check_destination(tmp_path / "none" / "out.mp4", overwrite=False)
    (tmp_path / "out.mp4").touch()
    with pytest.raises(FileExistsError, match=r"out\.mp4 exists"):
        check_destination(tmp_path / "out.mp4", overwrite=False)
    check_destination(tmp_path / "out.mp4", overwrite=True)
    folder = tmp_path / "frames"
    folder.mkdir()
    check_destination(folder, overwrite=False)
    (folder / "frame_000000.png").touch()
    with pytest.raises(FileExistsError, match="holds frames"):
        check_destination(folder, overwrite=False)
    check_destination(folder, overwrite=True)
    (folder / "thesis.doc").touch()
    with pytest.raises(FileExistsError, match=r"holds other files \(thesis\.doc\)"):
        check_destination(folder, overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_locked_folder_is_refused(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        check_destination(tmp_path / "out.mp4", overwrite=False)


def test_unusable_options_are_refused(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64))
    info = open_source(tmp_path / "in.mp4").info
    with pytest.raises(ValueError, match="codec is 'h265'; it must be one of auto, h264, hevc"):
        check_options(tmp_path / "o.mp4", info, SinkOptions("h265"))
    with pytest.raises(ValueError, match=r"codec ffv1 cannot be written to \.mp4; use \.avi, \.mkv"):
        check_options(tmp_path / "o.mp4", info, SinkOptions("ffv1"))
    with pytest.raises(ValueError, match=r"crf is 52; libx264 takes 0 \(best\) to 51"):
        check_options(tmp_path / "o.mp4", info, SinkOptions(crf=52))
    with pytest.raises(ValueError, match="ffv1 is lossless"):
        check_options(tmp_path / "o.mkv", info, SinkOptions("ffv1", 5))
    with pytest.raises(ValueError, match="codec, crf, preset, bitrate, pix_fmt are for video files"):
        check_options(tmp_path / "o", info, SinkOptions(crf=5))


@pytest.mark.parametrize("name", ["out.mp4", "frames"])
def test_output_appears_complete_or_not_at_all(tmp_path, name) -> None:
    target = tmp_path / name

    def interrupted() -> None:
        with atomic_output(target) as partial:
            (partial / "x" if partial.is_dir() else partial).write_text("half")
            assert not target.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []
    with atomic_output(target) as partial:
        assert not target.suffix or partial.suffix == target.suffix
        (partial / "frame_000000.png" if partial.is_dir() else partial).write_text("whole")
    assert os.listdir(tmp_path) == [name]
    with atomic_output(target) as partial:
        (partial / "frame_000001.png" if partial.is_dir() else partial).write_text("again")
    assert os.listdir(tmp_path) == [name]
    if target.is_dir():
        assert os.listdir(target) == ["frame_000001.png"]
    else:
        assert target.read_text() == "again"
