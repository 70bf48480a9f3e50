"""Sound, subtitles, chapters and attachments come along, are converted, or are named as left out."""

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import clips
from rdvfi.media.metadata.spatial import SpatialMetadata
from rdvfi.media.other_tracks.chapters import TrackWindow, convert_chapters
from rdvfi.media.reader import open_source
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.writer import open_sink
from test_media_encoding import _transcode


def _write_video(
    path: Path,
    *,
    sounds: tuple[str, ...] = ("aac",),
    subtitles: str | None = None,
    chapters: bool = False,
    pause: int = 0,
    second: tuple[dict[str, str], int] | None = None,
) -> None:
    """A second of moving texture with tracks; sound pauses for so many samples in its middle.

    ``second`` is tags and disposition of the second sound.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = []
        for number, codec in enumerate(sounds):
            track = container.add_stream(codec, rate=48_000, layout="stereo")
            track.metadata["language"] = ("eng", "fra")[number % 2]
            if number == 1 and second is not None:
                track.metadata.update(second[0])
                track.disposition = second[1]
            tracks.append(track)
        text = None
        if subtitles is not None:
            text = container.add_mux_stream(subtitles)
            text.time_base = Fraction(1, 1000)
            text.metadata["language"] = "deu"
        if chapters:
            base = Fraction(1, 1000)
            container.set_chapters([
                {"id": k, "start": 500 * k, "end": 500 * k + 500, "time_base": base, "metadata": {"title": f"Part {k}"}}
                for k in range(2)
            ])  # fmt: skip
        for picture in clips.moving(6, 48, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for track in tracks:
            _encode_tone(container, track, pause)
        if text is not None:
            packet = av.Packet(b"Hello <i>you</i>")
            packet.pts = packet.dts = 200
            packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), text
            container.mux(packet)
        container.mux(video.encode(None))


def _encode_tone(container: av.container.OutputContainer, track: av.AudioStream, pause: int) -> None:
    context = track.codec_context
    if context.name not in ("adpcm_ms", "flac"):
        context.bit_rate = 128_000
    context.open(strict=False)
    resampler = av.AudioResampler(
        context.format, context.layout, context.sample_rate, frame_size=context.frame_size or 1024
    )
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    for part in (*resampler.resample(frame), *resampler.resample(None), None):
        if part is not None and part.pts is not None and part.pts >= 24_000:
            part.pts += pause
        container.mux(track.encode(part))


def _tracks(path: Path) -> list[tuple[str, str | None]]:
    with av.open(str(path)) as container:
        return [(s.type, s.codec_context and s.codec_context.codec.canonical_name) for s in container.streams]


def _seconds(path: Path) -> float:
    """How long the sound lasts."""
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def test_all_sound_tracks_are_copied_with_their_languages(tmp_path) -> None:
    _write_video(tmp_path / "in.mkv", sounds=("aac", "libopus"))
    for name in ("o.mkv", "o.mp4"):
        assert _transcode(tmp_path / "in.mkv", tmp_path / name) == []
        assert _tracks(tmp_path / name) == [("video", "h264"), ("audio", "aac"), ("audio", "opus")]
        with av.open(str(tmp_path / name)) as container:
            assert [stream.language for stream in container.streams.audio] == ["eng", "fra"]


@pytest.mark.parametrize(("name", "becomes"), [("o.mkv", "subrip"), ("o.mp4", "mov_text"), ("o.webm", "webvtt")])
def test_subtitles_are_copied_or_converted(tmp_path, name, becomes) -> None:
    _write_video(tmp_path / "in.mkv", sounds=(), subtitles="subrip")
    notes = _transcode(tmp_path / "in.mkv", tmp_path / name)
    assert len(notes) == (becomes != "subrip")
    assert _tracks(tmp_path / name) == [("video", "vp9" if name == "o.webm" else "h264"), ("subtitle", becomes)]
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.subtitles[0]
        assert stream.language == "deu"
        packets = [packet for packet in container.demux(stream) if b"Hello" in bytes(packet)]
        assert [packet.pts * packet.time_base for packet in packets] == [Fraction(1, 5)]
        assert packets[0].duration * packets[0].time_base == Fraction(3, 10)
    if becomes != "subrip":
        assert b"Hello you" in bytes(packets[0])


@pytest.mark.parametrize("name", ["o.mkv", "o.mp4", "o.mov"])
def test_chapters_are_kept(tmp_path, name) -> None:
    _write_video(tmp_path / "in.mkv", chapters=True)
    _transcode(tmp_path / "in.mkv", tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        chapters = container.chapters()
        times = [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in chapters]
    assert times == [(0, Fraction(1, 2)), (Fraction(1, 2), 1)]
    assert [chapter["metadata"]["title"] for chapter in chapters] == ["Part 0", "Part 1"]


@pytest.mark.parametrize("titles", [("One", "Two"), (None, "Two"), (None, None)])
@pytest.mark.parametrize("begin", [0, 300])
def test_chapters_that_begin_late_or_lack_a_title_keep_their_place_in_mp4(tmp_path, begin, titles) -> None:
    tags = [{"title": title} if title else {} for title in titles]
    chapters = [
        {"id": k, "start": (begin, 600)[k], "end": (500, 1000)[k], "time_base": Fraction(1, 1000), "metadata": tags[k]}
        for k in range(2)
    ]
    clips.write_clip(tmp_path / "in.mkv", clips.moving(3, 48, 64))
    source = open_source(tmp_path / "in.mkv")
    moved, notes = convert_chapters(chapters, Fraction(0), TrackWindow(slowdown=Fraction(2)), ".mp4")
    assert len(notes) == (begin > 0)
    with av.open(str(tmp_path / "o.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.set_chapters(moved)
        for frame in source.frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "o.mp4")) as container:
        found = [(c["start"] * c["time_base"], c["metadata"].get("title", "")) for c in container.chapters()]
    before = [(0, "")] if begin else []
    assert found == [*before, (Fraction(begin, 500), titles[0] or ""), (Fraction(6, 5), titles[1] or "")]


def test_attachments_are_kept_or_named(tmp_path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        container.add_attachment("font.ttf", "application/x-truetype-font", b"letters")
        for picture in clips.moving(3, 48, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
    assert _transcode(tmp_path / "in.mkv", tmp_path / "o.mkv") == []
    with av.open(str(tmp_path / "o.mkv")) as container:
        (kept,) = container.streams.attachments
        assert (kept.name, kept.data) == ("font.ttf", b"letters")
    (note,) = _transcode(tmp_path / "in.mkv", tmp_path / "o.mp4")
    assert note.startswith("attachment font.ttf is left out: .mp4 files cannot hold it")


def test_tags_of_the_video_track_are_kept(tmp_path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.metadata.update({"stereo_mode": "left_right", "title": "Main", "language": "eng"})
        for picture in clips.moving(3, 48, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
    assert _transcode(tmp_path / "in.mkv", tmp_path / "o.mkv") == []
    with av.open(str(tmp_path / "o.mkv")) as container:
        tags = container.streams.video[0].metadata
    assert (tags["stereo_mode"], tags["title"], tags["language"]) == ("left_right", "Main", "eng")
    assert _transcode(tmp_path / "in.mkv", tmp_path / "o.mp4") == []
    assert open_source(tmp_path / "o.mp4").info.spatial.stereo_mode == 1
    assert _transcode(tmp_path / "in.mkv", tmp_path / "o.ts") == [
        "the stereo layout (left_right) cannot be written to .ts",
        ".ts files cannot store these properties of tracks: title",
    ]


@pytest.mark.parametrize("mode", range(1, 15))
def test_all_ways_to_pack_two_views_are_kept_or_named(tmp_path, mode) -> None:
    names = ("left_right bottom_top top_bottom checkerboard_rl checkerboard_lr row_interleaved_rl row_interleaved_lr "
             "col_interleaved_rl col_interleaved_lr anaglyph_cyan_red right_left anaglyph_green_magenta block_lr "
             "block_rl").split()  # fmt: skip
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.metadata["stereo_mode"] = names[mode - 1]
        for _ in range(3):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    for name in ("o.mkv", "o.webm", "o.mp4"):
        notes = _transcode(tmp_path / "in.mkv", tmp_path / name)
        with av.open(str(tmp_path / name)) as container:
            kept = container.streams.video[0].metadata.get("stereo_mode") == names[mode - 1]
        kept = kept or open_source(tmp_path / name).info.spatial.stereo_mode == mode
        assert kept == (not any("stereo layout" in note for note in notes)), (name, notes)
        assert kept or name != "o.mkv"


def test_a_projection_of_all_around_is_kept(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), sound=False)
    source = open_source(tmp_path / "in.mp4")
    around = SpatialMetadata(3, 1, (0, 0, 2**30, 0), (90.0, -45.0, 30.0))
    source.info = replace(source.info, spatial=around)
    for name, suffix in (("o.mp4", ".mp4"), ("o.mkv", ".mkv"), ("o.webm", ".webm")):
        frames = list(source.frames())
        with open_sink(tmp_path / name, source.info, SinkOptions(), tick=Fraction(1, 25), rate=Fraction(25)) as sink:
            for k, frame in enumerate(frames):
                sink.write(frame.pixels, Moment(k, Fraction(0), Fraction(k, 25), Fraction(1, 25)))
        assert sink.notes == [], suffix
        assert open_source(tmp_path / name).info.spatial == around, suffix
    assert list(around.notes(".mov")) == [
        "the stereo layout (top_bottom) cannot be written to .mov",
        "the 360-degree projection cannot be written to .mov",
    ]


@pytest.mark.parametrize(("name", "kept"), [("o.mkv", True), ("o.mp4", True), ("o.m4v", True), ("o.webm", False)])
@pytest.mark.parametrize("codec", ["mjpeg", "png"])
def test_covers_are_kept_or_named(tmp_path, name, kept, codec) -> None:
    picture = np.full((48, 48, 3), (200, 30, 30), np.uint8)
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        cover = container.add_stream(codec, rate=1)
        cover.width, cover.height, cover.pix_fmt = 48, 48, "yuvj420p" if codec == "mjpeg" else "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        for moving in clips.moving(3, 48, 64):
            pixels = np.round(moving * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=cover.pix_fmt)
        container.mux(cover.encode(frame))
        container.mux([*cover.encode(None), *video.encode(None)])
    notes = _transcode(tmp_path / "in.mp4", tmp_path / name)
    assert [note[:17] for note in notes] == ([] if kept else ["cover picture #1 "])
    with av.open(str(tmp_path / name)) as container:
        covers = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        assert len(covers) == kept
        if kept:
            shown = next(container.decode(covers[0])).to_ndarray(format="rgb24")
            assert np.abs(shown.astype(int) - picture).max() < 12


def test_lines_of_text_that_overlap_are_all_shown_in_mp4(tmp_path) -> None:
    lines = [(200, 500, "one"), (400, 300, "two"), (400, 600, "three"), (1200, 100, "four")]
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text = container.add_mux_stream("subrip")
        text.time_base = Fraction(1, 1000)
        for picture in clips.moving(9, 48, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for start, duration, words in lines:
            packet = av.Packet(words.encode())
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = duration, Fraction(1, 1000), text
            container.mux(packet)
        container.mux(video.encode(None))
    _transcode(tmp_path / "in.mkv", tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        packets = [packet for packet in container.demux(subtitles=0) if packet.size > 2]
    shown = [(float(p.pts * p.time_base), float(p.duration * p.time_base), bytes(p)[2:].decode()) for p in packets]
    assert [words for _, _, words in shown] == ["one", "one\ntwo\nthree", "three", "four"]
    assert [time for time, _, _ in shown] == pytest.approx([0.2, 0.4, 0.7, 1.2], abs=2e-3)
    assert [duration for _, duration, _ in shown] == pytest.approx([0.2, 0.3, 0.3, 0.1], abs=2e-3)
    assert _transcode(tmp_path / "in.mkv", tmp_path / "p.mkv") == []
    with av.open(str(tmp_path / "p.mkv")) as container:
        kept = [(p.pts, p.duration, bytes(p)) for p in container.demux(subtitles=0) if p.size]
    assert kept == [(start, duration, words.encode()) for start, duration, words in lines]


def test_subtitles_of_transport_streams_are_those_that_others_find(tmp_path) -> None:
    _write_video(tmp_path / "in.mkv", subtitles="subrip")
    notes = _transcode(tmp_path / "in.mkv", tmp_path / "o.ts")
    assert any(note.startswith("subtitle track #2 (srt) is left out: .ts files cannot hold it") for note in notes)
    assert _tracks(tmp_path / "o.ts")[2:] == []


def test_titles_and_languages_use_the_keys_of_the_container(tmp_path) -> None:
    tags = {"language": "fre", "title": "Commentary"}
    _write_video(tmp_path / "fre.mkv", sounds=("aac", "aac"), second=(tags, av.stream.Disposition.comment))
    for name, language in (("o.mp4", "fre"), ("o.mov", "fra"), ("o.mkv", "fre")):
        notes = _transcode(tmp_path / "fre.mkv", tmp_path / name)
        assert notes == ([".mov files cannot store these properties of tracks: comment"] if name == "o.mov" else [])
        with av.open(str(tmp_path / name)) as container:
            tags = container.streams.audio[1].metadata
        assert tags["language"] == language
        assert tags.get("title", tags.get("name")) == "Commentary"
        _transcode(tmp_path / name, tmp_path / "back.mkv")
        with av.open(str(tmp_path / "back.mkv")) as container:
            assert container.streams.audio[1].metadata["title"] == "Commentary"


@pytest.mark.parametrize(("rate", "timecode"), [(12, "01:00:00:06"), (30, "01:00:00:15"), (48, "01:00:00:24")])
def test_a_timecode_counts_the_frames_of_the_output(tmp_path, rate, timecode) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), sound=False)
    source = open_source(tmp_path / "in.mp4")
    info = replace(source.info, video_metadata={"timecode": "01:00:00:03"})
    with open_sink(tmp_path / "o.mov", info, SinkOptions(), tick=Fraction(1, rate), rate=Fraction(rate)) as sink:
        for k, frame in enumerate(source.frames()):
            sink.write(frame.pixels, Moment(k, Fraction(0), Fraction(k, rate), Fraction(1, rate)))
    with av.open(str(tmp_path / "o.mov")) as container:
        assert container.streams.video[0].metadata["timecode"] == timecode


def test_the_default_video_track_is_taken(tmp_path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        tracks = [container.add_stream("libx264", rate=6) for _ in range(2)]
        for track, size in zip(tracks, (48, 64), strict=True):
            track.width, track.height, track.pix_fmt = size, size, "yuv420p"
        tracks[0].disposition, tracks[1].disposition = 0, av.stream.Disposition.default
        for _ in range(3):
            for track, size in zip(tracks, (48, 64), strict=True):
                frame = av.VideoFrame.from_ndarray(np.zeros((size, size, 3), np.uint8), format="rgb24")
                container.mux(track.encode(frame))
        for track in tracks:
            container.mux(track.encode(None))
    (note,) = _transcode(tmp_path / "in.mkv", tmp_path / "o.mkv")
    assert note.startswith("video track #0 is left out")
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert container.streams.video[0].width == 64


@pytest.mark.parametrize("name", ["in.mpg", "in.mkv", "in.mov", "in.ts"])
def test_whatever_the_clock_of_a_file_it_starts_at_zero(tmp_path, name) -> None:
    options = {"in.mpg": ("mpeg2video", "mp2"), "in.mov": ("mjpeg", "pcm_s16le")}.get(name, ("libx264", "aac"))
    with av.open(str(tmp_path / name), "w", options={"output_ts_offset": "100"}) as container:
        video = container.add_stream(options[0], rate=25)
        video.width, video.height = 64, 48
        video.pix_fmt = "yuvj420p" if options[0] == "mjpeg" else "yuv420p"
        sound = container.add_stream(options[1], rate=48_000, layout="stereo")
        for picture in clips.moving(6, 48, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        clips._write_sound(container, sound, seconds=0.24)
    times = [frame.stamp.time for frame in open_source(tmp_path / name).frames()]
    assert 0 <= times[0] < Fraction(1, 10)
    _transcode(tmp_path / name, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert 0 <= container.start_time < 100_000
        assert container.duration < 700_000


def test_tags_of_the_film_are_kept_or_named(tmp_path) -> None:
    tags = {"title": "A", "artist": "B", "com.apple.quicktime.make": "C", "location": "+52.5000+013.4000/"}
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        container.metadata.update(tags)
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(2):  # even frames: a transport stream of them is too short to be known by its packets
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 80, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name in ("o.mov", "o.mp4", "o.mkv"):
        assert _transcode(tmp_path / "in.mkv", tmp_path / name) == []
        with av.open(str(tmp_path / name)) as container:
            kept = {key.lower(): value for key, value in container.metadata.items()}
            assert {key: kept.get(key) for key in tags} == tags
    (note,) = _transcode(tmp_path / "in.mkv", tmp_path / "o.ts")
    assert note.startswith(".ts files cannot hold these tags of the video: ")
    assert sorted(note.split(": ")[1].lower().split(", ")) == sorted(tags)


def _write_bitmap_subtitles(path: Path, codec: str, duration: int | None) -> None:
    """A second of film with two subtitles that are pictures: a box of PGS by hand, or what stands for one of DVD."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text = container.add_mux_stream(codec)
        text.time_base = Fraction(1, 1000)
        for k in range(25):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * k, np.uint8), format="rgb24")
            picture.pts, picture.time_base = k, Fraction(1, 25)
            container.mux(video.encode(picture))
            if k in (5, 15):
                packet = av.Packet(_pgs_packet() if codec == "hdmv_pgs_subtitle" else bytes((0, 4, 0, 4)))
                packet.pts = packet.dts = 40 * k
                packet.time_base, packet.stream = Fraction(1, 1000), text
                if duration is not None:
                    packet.duration = duration
                container.mux(packet)
        container.mux(video.encode(None))


def _pgs_packet() -> bytes:
    """Segments of one picture: composition, window, palette, object, end."""
    line = bytes((0, 0x80 | 16, 1, 0, 0))
    parts = {
        0x16: struct.pack(">HHBHBBBBHBBHH", 64, 48, 16, 0, 0x80, 0, 0, 1, 0, 0, 0, 8, 8),
        0x17: b"\1" + struct.pack(">BHHHH", 0, 8, 8, 16, 4),
        0x14: bytes((0, 0, 1, 235, 128, 128, 255)),
        0x15: struct.pack(">HBB", 0, 0, 0xC0)
        + (4 * len(line) + 4).to_bytes(3, "big")
        + bytes((0, 16, 0, 4))
        + 4 * line,
        0x80: b"",
    }
    return b"".join(bytes((kind,)) + len(data).to_bytes(2, "big") + data for kind, data in parts.items())


@pytest.mark.parametrize(
    ("codec", "name", "kept"),
    [
        ("hdmv_pgs_subtitle", "o.mkv", True),
        ("hdmv_pgs_subtitle", "o.ts", False),  # what FFmpeg writes there no reader takes for subtitles
        ("hdmv_pgs_subtitle", "o.mp4", False),
        ("dvd_subtitle", "o.mp4", True),
        ("dvd_subtitle", "o.mov", False),
        ("dvd_subtitle", "o.webm", False),
    ],
)
@pytest.mark.parametrize("duration", [None, 300, 2**32 - 1])
def test_subtitles_that_are_pictures_are_copied_or_named(tmp_path, codec, name, kept, duration) -> None:
    _write_bitmap_subtitles(tmp_path / "in.mkv", codec, duration)
    notes = _transcode(tmp_path / "in.mkv", tmp_path / name)
    assert len(notes) == (not kept)
    assert kept or f"are left out: {Path(name).suffix}" in notes[0].replace("is left", "are left")
    with av.open(str(tmp_path / name)) as container:
        times = [p.pts * p.time_base for p in container.demux(container.streams.subtitles) if p.size] if kept else []
        assert len(container.streams.subtitles) == kept
    assert times == ([Fraction(1, 5), Fraction(3, 5)] if kept else [])


def test_a_track_of_which_nothing_is_shown_is_named(tmp_path) -> None:
    _write_video(tmp_path / "in.mkv", sounds=("aac", "aac"))
    with av.open(str(tmp_path / "in.mkv")) as source, av.open(str(tmp_path / "cut.mkv"), "w") as container:
        tracks = [container.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size and packet.stream.index < 2:
                packet.stream = tracks[packet.stream.index]
                container.mux(packet)
    assert _transcode(tmp_path / "cut.mkv", tmp_path / "o.mp4") == [
        "audio track #2 has no packets in the part of the video that is shown"
    ]
