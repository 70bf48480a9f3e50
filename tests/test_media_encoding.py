"""What players need: codecs, tags, HDR, the shape of pixels, animations, and honest refusals."""

import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from av.sidedata.sidedata import Type

import clips
import rdvfi
from rdvfi.media.metadata.hdr import HdrMetadata, MasteringDisplay
from rdvfi.media.metadata.side_data import side_data
from rdvfi.media.reader import ReadOptions, open_source
from rdvfi.media.video_files.codecs import CODECS, encoder_formats
from rdvfi.media.video_files.encoding import SinkOptions, plan_encoding
from rdvfi.media.writer import check_options, open_sink
from rdvfi.video.timing import Multiply, schedule


def _transcode(source: Path, destination: Path, options: SinkOptions | None = None, reading: ReadOptions | None = None):
    """Send every frame through reader and writer, none made; the notes of both."""
    opened, options = open_source(source, reading), options or SinkOptions()
    frames = list(opened.frames())
    plan = schedule((frame.stamp for frame in frames), Multiply(1))
    rate = Fraction(len(frames) - 1, 1) / opened.info.span
    with open_sink(destination, opened.info, options, tick=opened.info.tick, rate=rate) as sink:
        for frame, (_, moments) in zip(frames, plan, strict=True):
            sink.write(frame.pixels, next(moments))
    return [*opened.notes(), *sink.notes]


def _open_stream(path: Path) -> tuple[av.VideoStream, av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream, next(container.decode(stream))


@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "o.m4v"])
def test_hevc_carries_the_code_that_quicktime_plays(tmp_path, name) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), sound=False)
    _transcode(tmp_path / "in.mp4", tmp_path / name, SinkOptions("hevc"))
    assert _open_stream(tmp_path / name)[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize(("name", "codec", "profile"), [
    ("o.mp4", "hevc", "Main 10"), ("o.mkv", "hevc", "Main 10"), ("o.webm", "av1", "Main"),
])  # fmt: skip
def test_ten_bits_become_what_players_decode(tmp_path, name, codec, profile) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 64, 64), pixel_format="yuv420p10le", sound=False)
    assert _transcode(tmp_path / "in.mp4", tmp_path / name) == []
    stream, frame = _open_stream(tmp_path / name)
    assert codec in stream.codec_context.codec.canonical_name
    assert stream.profile == profile
    assert frame.format.name == "yuv420p10le"


def test_what_an_encoder_cannot_keep_is_reported(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 64, 64), pixel_format="yuv422p10le", sound=False)
    info = open_source(tmp_path / "in.mp4").info
    assert plan_encoding(tmp_path / "o.mov", info, SinkOptions("prores")).pixel_format.name == "yuv422p10le"
    assert plan_encoding(tmp_path / "o.mkv", info, SinkOptions("h264")).pixel_format.name == "yuv422p10le"
    if all(form.bits == 8 for form in encoder_formats("libvpx-vp9")):
        plan = plan_encoding(tmp_path / "o.webm", info, SinkOptions("vp9"))
        assert plan.pixel_format.name == "yuv422p"
        assert plan.notes[0] == "10 bits per channel are written as 8: libvpx-vp9 takes no more here"


def test_twelve_bits_stay_twelve_with_hevc(tmp_path) -> None:
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=error"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p12le"
        for picture in clips.moving(3, 48, 64):
            frame = av.VideoFrame.from_ndarray(np.round(picture * 65535).astype(np.uint16), format="rgb48le")
            container.mux(stream.encode(frame.reformat(format="yuv420p12le")))
        container.mux(stream.encode(None))
    (note,) = _transcode(tmp_path / "in.mp4", tmp_path / "o.mp4")
    assert note.startswith("yuv420p12le keeps depth and chroma of the source, but few players decode it with libx265")
    assert _open_stream(tmp_path / "o.mp4")[1].format.name == "yuv420p12le"
    notes = _transcode(tmp_path / "in.mp4", tmp_path / "o.webm")
    assert notes == ["12 bits per channel are written as 10: libsvtav1 takes no more here"]


DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@pytest.mark.parametrize(("name", "codec"), [
    ("o.mp4", "hevc"), ("o.mkv", "h264"), ("o.webm", "av1"), ("o.mov", "prores"), ("p.mkv", "ffv1"), ("o.ts", "hevc"),
])  # fmt: skip
def test_mastering_display_and_light_levels_are_carried(tmp_path, name, codec) -> None:
    parameters = f"log-level=error:repeat-headers=1:master-display={DISPLAY}:max-cll=1000,400"
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": parameters})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        for picture in clips.moving(3, 64, 64):
            frame = av.VideoFrame.from_ndarray(np.round(picture * 65535).astype(np.uint16), format="rgb48le")
            container.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    hdr = open_source(tmp_path / "in.mp4").info.hdr
    assert hdr.light == (1000, 400)
    assert hdr.display is not None
    assert (hdr.display.max_luminance, hdr.display.min_luminance) == (1000, Fraction(1, 200))
    assert hdr.display.format(50_000, 10_000) == DISPLAY
    _transcode(tmp_path / "in.mp4", tmp_path / name, SinkOptions(codec))
    again = HdrMetadata.from_frame(_open_stream(tmp_path / name)[1])
    assert again.light == (1000, 400)
    assert again.display is not None
    assert float(again.display.red[0]) == pytest.approx(0.68, abs=1e-3)
    assert float(again.display.max_luminance) == pytest.approx(1000, rel=1e-3)
    assert hdr.notes("libvpx-vp9", in_container=False) == [
        "libvpx-vp9 cannot write mastering display and light levels; they are left out"
    ]
    assert hdr.notes("prores_ks", in_container=True) == []
    assert HdrMetadata(unsupported=("Dolby Vision",)).notes("libx265", in_container=True) == [
        "Dolby Vision metadata cannot be written and is left out"
    ]
    assert MasteringDisplay.parse(bytes(88)) is None


@pytest.mark.parametrize(("name", "codec"), [
    ("o.mp4", None), ("o.mkv", "h264"), ("o.mov", "prores"), ("o.mp4", "vp9"), ("o.webm", "vp9"), ("o.mkv", "ffv1"),
    ("o.webm", "av1"), ("o.avi", None), ("o.ts", None), ("o.avi", "mpeg4"),
])  # fmt: skip
def test_pixels_that_are_not_square_stay_so(tmp_path, name, codec) -> None:
    for source in ("in.mp4", "in.mkv"):
        with av.open(str(tmp_path / source), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
            for picture in clips.moving(3, 48, 64):
                frame = av.VideoFrame.from_ndarray(np.round(picture * 255).astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        assert _transcode(tmp_path / source, tmp_path / name, SinkOptions(codec)) == []
        assert open_source(tmp_path / name).info.layout.aspect == Fraction(16, 15)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_set_upright_in_all_eight_ways(tmp_path, degrees, mirrored) -> None:
    upright = clips.texture(48, 80)
    # The file holds the picture turned back; a mirror comes after the turn.
    stored = np.rot90(upright[:, ::-1] if mirrored else upright, -degrees // 90)
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = stored.shape[1], stored.shape[0], "yuv444p"
        stream.set_display_rotation(degrees, hflip=mirrored)
        for _ in range(2):
            pixels = np.ascontiguousarray(np.round(stored * 255).astype(np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert side_data(_open_stream(tmp_path / "in.mp4")[1], Type.DISPLAYMATRIX) is not None or not (degrees or mirrored)
    for frame in open_source(tmp_path / "in.mp4").frames():
        assert frame.pixels.shape == (48, 80, 3)
        assert np.abs(frame.pixels / 255 - upright).mean() < 0.03


@pytest.mark.parametrize("name", ["o.gif", "o.webp", "o.apng", "o.avi", "o.ts", "o.m4v"])
def test_other_outputs_hold_all_frames(tmp_path, name) -> None:
    pictures = clips.moving(4, 48, 64)
    clips.write_clip(tmp_path / "in.mp4", pictures, sound=False)
    _transcode(tmp_path / "in.mp4", tmp_path / name)
    if name == "o.webp":
        import PIL.Image

        with PIL.Image.open(tmp_path / name) as animation:
            assert animation.n_frames == 4
            seen = [np.array(animation.convert("RGB")) for k in range(4) if animation.seek(k) is None]
    else:
        seen = [frame.pixels for frame in open_source(tmp_path / name).frames()]
    assert len(seen) == 4
    for pixels, picture in zip(seen, pictures, strict=True):
        assert np.abs(pixels / 255 - picture).mean() < 0.05


def test_brightness_outside_video_levels_is_kept(tmp_path) -> None:
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for i, plane in enumerate(frame.planes):
                values = np.full((plane.height, plane.line_size), 128, np.uint8)
                if i == 0:
                    values[:, :32], values[:, 32:] = 250, 5
                plane.update(values.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _transcode(tmp_path / "in.mp4", tmp_path / "o.mp4", SinkOptions(crf=0), ReadOptions(headroom=True))
    luma = _open_stream(tmp_path / "o.mp4")[1].to_ndarray()
    assert (luma[20, 10], luma[20, 50]) == (250, 5)


def test_options_of_encoders_are_passed_on_or_refused(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 64, 64), sound=False)
    info = open_source(tmp_path / "in.mp4").info
    plan = plan_encoding(tmp_path / "o.mp4", info, SinkOptions(preset="ultrafast", bitrate=500_000, pix_fmt="yuv444p"))
    assert plan.options.items() >= {"preset": "ultrafast", "b": "500000"}.items()
    assert plan.pixel_format.name == "yuv444p"
    for options, message in (
        (SinkOptions(preset="warp9"), r"libx264 cannot be used here: FFmpeg says .*preset=warp9"),
        (SinkOptions("ffv1", preset="slow"), "preset is 'slow', but ffv1 has no presets"),
        (SinkOptions(pix_fmt="yuv420p12le"), "pix_fmt is 'yuv420p12le'; libx264 takes yuv420p, "),
        (SinkOptions(crf=20, bitrate=10**6), "give either crf or bitrate"),
        (SinkOptions("ffv1", bitrate=10**6), "takes none: it is lossless"),
        (SinkOptions(odd="round"), "odd is 'round'; it must be one of pad, crop, 444"),
    ):
        name = "o.mkv" if options.codec == "ffv1" else "o.mp4"
        with pytest.raises(ValueError, match=message):
            plan_encoding(tmp_path / name, info, options)


def test_every_codec_is_written_to_every_container_that_it_names(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 64, 64), sound=False)
    for name, codec in CODECS.items():
        for suffix in codec.suffixes if "-" not in name else ():
            _transcode(tmp_path / "in.mp4", tmp_path / f"o{suffix}", SinkOptions(name))
            if suffix != ".webp":  # which FFmpeg writes and does not read
                assert len(list(open_source(tmp_path / f"o{suffix}").frames())) == 3, (name, suffix)


def test_quality_of_mpeg4_is_passed_on(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(4, 64, 64), sound=False)
    sizes = []
    for crf in (1, 30):
        _transcode(tmp_path / "in.mp4", tmp_path / "o.avi", SinkOptions("mpeg4", crf=crf))
        sizes.append((tmp_path / "o.avi").stat().st_size)
    assert sizes[0] > 1.3 * sizes[1]


def test_formats_that_few_players_decode_are_reported(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 64, 64), pixel_format="yuv444p", sound=False)
    info = open_source(tmp_path / "in.mp4").info
    (note,) = plan_encoding(tmp_path / "o.mp4", info, SinkOptions()).notes
    assert note.startswith(
        "yuv444p keeps depth and chroma of the source, but few players decode it with libx264; pix_fmt=yuv420p"
    )
    for options in (SinkOptions(pix_fmt="yuv444p"), SinkOptions(pix_fmt="yuv420p")):
        assert plan_encoding(tmp_path / "o.mp4", info, options).notes == ()


@pytest.mark.parametrize("name", sorted(name for name in CODECS if "-" in name))
def test_an_encoder_of_a_device_works_or_is_refused_clearly(tmp_path, name) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 192, 320), sound=False)
    info = open_source(tmp_path / "in.mp4").info
    try:
        plan_encoding(tmp_path / "o.mp4", info, SinkOptions(name))
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    assert not refused or re.search("(cannot be used here|there is no encoder).*; choose another codec", refused)


@pytest.mark.parametrize(("name", "most"), [("o.mkv", 1000), ("o.webm", 1000), ("o.gif", 50)])
def test_a_rate_that_a_container_cannot_show_is_refused(tmp_path, name, most) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 64, 64), sound=False)
    info = open_source(tmp_path / "in.mp4").info
    check_options(tmp_path / name, info, SinkOptions(), interval=Fraction(1, most))
    with pytest.raises(
        ValueError, match=f"1200 frames per second, are more than {name[1:]} files can show, which is {most}"
    ):
        check_options(tmp_path / name, info, SinkOptions(), interval=Fraction(1, 1200))


@pytest.mark.parametrize("name", ["o.avi", "o.apng", "o.mkv", "o.mp4"])
def test_a_rate_that_varies_is_kept_also_where_frames_are_counted(tmp_path, name) -> None:
    ticks = [0, 4000, 8000, 13000, 14000, 18000]
    clips.write_clip(tmp_path / "in.mp4", clips.moving(6, 48, 64), ticks=ticks, sound=False)
    parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    model = rdvfi.build("rdvfi_s", *parts).requires_grad_(False)
    rdvfi.interpolate_video(tmp_path / "in.mp4", tmp_path / name, model=model, multiplier=1, allow_untrained=True)
    with av.open(str(tmp_path / name)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        times = sorted(p.dts * p.time_base if name == "o.avi" else p.pts * p.time_base for p in packets)
    assert [float(t) for t in times] == pytest.approx([tick / 24_000 for tick in ticks], abs=2e-3)


def test_frames_too_close_for_the_container_are_refused_before_the_work(tmp_path) -> None:
    """On the average the rate would fit."""
    ticks = [0, 4000, 4040, 8000, 12_000]
    clips.write_clip(tmp_path / "in.mp4", clips.moving(5, 48, 64), ticks=ticks, sound=False)
    with pytest.raises(ValueError, match=r"frames 0\.833 ms apart, 1200 frames per second, are more than \.mkv"):
        rdvfi.interpolate_video(tmp_path / "in.mp4", tmp_path / "o.mkv", model="rdvfi-s", multiplier=2)
    with pytest.raises(ValueError, match=r"the frame rate of .* varies, and y4m has one: set target_fps"):
        rdvfi.interpolate_video(tmp_path / "in.mp4", tmp_path / "o.y4m", model="rdvfi-s", multiplier=2)
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no such policies")
@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_encoders_leave_the_scheduling_of_the_process_alone(tmp_path, suffix) -> None:
    """SVT-AV1 makes the threads of root real-time ones; for other users this holds anyway."""
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64))
    before = os.sched_getscheduler(0)
    _transcode(tmp_path / "in.mp4", tmp_path / f"out{suffix}", SinkOptions(codec="av1"))
    assert {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")} == {before}


def test_a_gap_in_a_steady_rate_is_kept_where_frames_are_counted(tmp_path) -> None:
    ticks = [0, 8000, 12_000, 16_000, 20_000]
    clips.write_clip(tmp_path / "in.mp4", clips.moving(5, 48, 64), ticks=ticks, sound=False)
    model = rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "renderer=blend").requires_grad_(False)
    rdvfi.interpolate_video(tmp_path / "in.mp4", tmp_path / "o.avi", model=model, multiplier=2, allow_untrained=True)
    with av.open(str(tmp_path / "o.avi")) as container:
        times = [float(p.dts * p.time_base) for p in container.demux(video=0) if p.size]
    expected = [0, 4000, 8000, 10_000, 12_000, 14_000, 16_000, 18_000, 20_000]
    assert times == pytest.approx([tick / 24_000 for tick in expected], abs=2e-3)


@pytest.mark.parametrize("name", ["o.mkv", "o.mp4", "o.mov"])
def test_a_film_ends_when_its_last_frame_does_whatever_the_order_of_packets(tmp_path, name) -> None:
    ticks = [0, 1000, 2000, 3000, 4000, 5000, 40_000]
    clips.write_clip(tmp_path / "in.mp4", clips.moving(7, 48, 64), ticks=ticks, sound=False)
    end = 41_000 / 24_000
    _transcode(tmp_path / "in.mp4", tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        assert container.duration / av.time_base == pytest.approx(end, abs=2e-3)
        stream = container.streams.video[0]
        lasts = [float((p.pts + p.duration) * p.time_base) for p in container.demux(stream) if p.pts is not None]
    assert max(lasts) == pytest.approx(end, abs=2e-3)


def test_transparency_matters_more_than_depth(tmp_path) -> None:
    picture = np.full((48, 64, 4), 65_535, np.uint16)
    picture[:24, :, 3] = 0
    write_transparent_video(tmp_path / "in.mkv", picture, "ffv1", "yuva444p16le")
    notes = _transcode(tmp_path / "in.mkv", tmp_path / "o.webm", reading=ReadOptions(alpha=True))
    assert notes == ["16 bits per channel are written as 8: libvpx-vp9 takes no more here"]
    alpha = [frame.pixels[..., 3] for frame in open_source(tmp_path / "o.webm", ReadOptions(alpha=True)).frames()]
    assert all(plane[:20].max() < 10 and plane[28:].min() > 245 for plane in alpha)


@pytest.mark.parametrize("name", ["o.webm", "o.gif", "o.apng", "o.webp"])
def test_what_is_transparent_stays_so_and_is_read_again(tmp_path, name) -> None:
    picture = np.full((48, 64, 4), (255, 0, 255, 0), np.uint8)
    picture[:24] = (230, 60, 120, 255)
    write_transparent_video(tmp_path / "in.mkv", picture, "ffv1", "bgra")
    assert _transcode(tmp_path / "in.mkv", tmp_path / name, reading=ReadOptions(alpha=True)) == []
    kept = open_source(tmp_path / name, ReadOptions(alpha=True))
    for frame in kept.frames():
        assert frame.pixels[40, 5, 3] < 10
        assert np.abs(frame.pixels[10, 5].astype(int) - (230, 60, 120, 255)).max() < 12
    shown = open_source(tmp_path / name)
    assert all(frame.pixels[40, 5].max() < 12 for frame in shown.frames())  # not the hidden colour
    assert any("are shown on black" in note for note in shown.notes())


def write_transparent_video(path: Path, picture: np.ndarray, codec: str, form: str) -> None:
    """Three frames of an RGBA picture, and a dot that differs."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], form
        for number in range(3):
            picture[22, number * 4 : number * 4 + 4] = 9
            frame = av.VideoFrame.from_ndarray(picture, format="rgba64le" if picture.dtype == np.uint16 else "rgba")
            container.mux(stream.encode(frame.reformat(format=form)))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("codec", "form", "name", "matrix"), [
    ("png", "gray", "o.mp4", 2), ("png", "ya8", "o.webm", 2), ("libx264", "yuv444p", "o.webm", 1),
])  # fmt: skip
def test_a_matrix_that_the_output_cannot_have_is_not_written(tmp_path, codec, form, name, matrix) -> None:
    """PNG says of grey that it is RGB, and VP9 has no name for that of FCC."""
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        stream.codec_context.colorspace = 4 if codec == "libx264" else 2
        for picture in clips.moving(3, 48, 64):
            frame = av.VideoFrame.from_ndarray(np.round(picture * 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=form, dst_colorspace=4)))
        container.mux(stream.encode(None))
    _transcode(tmp_path / "in.mov", tmp_path / name)
    assert _open_stream(tmp_path / name)[0].codec_context.colorspace == matrix
    pairs = zip(open_source(tmp_path / "in.mov").frames(), open_source(tmp_path / name).frames(), strict=True)
    assert all(np.abs(a.pixels.astype(int) - b.pixels).mean() < 6 for a, b in pairs)


def test_frames_with_side_data_without_a_name_in_pyav_are_read(tmp_path) -> None:
    """EXIF, in this build; a display matrix of it is still found."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 1
    for number in range(2):
        PIL.Image.new("RGB", (64, 48), (90 + number, 0, 0)).save(tmp_path / f"{number}.jpg", exif=exif)
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=10, width=64, height=48)
        for number in range(2):
            packet = av.Packet((tmp_path / f"{number}.jpg").read_bytes())
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 10), 1
            packet.pts = packet.dts = number
            container.mux(packet)
    assert len(list(open_source(tmp_path / "in.mov").frames())) == 2
