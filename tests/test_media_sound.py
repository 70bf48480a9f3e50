"""Sound is copied wherever it is held, else encoded with its channels, rate, times and all of its samples."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import clips
from rdvfi.media.video_files.encoding import SinkOptions
from test_media_encoding import _transcode
from test_media_tracks import _seconds, _tracks, _write_video


@pytest.mark.parametrize(("source", "codec", "name", "becomes"), [
    ("in.mkv", "aac", "o.webm", "opus"),
    ("in.avi", "wmav2", "o.mp4", "aac"),
    ("in.avi", "adpcm_ms", "o.mp4", "aac"),
    ("in.mkv", "pcm_f32le", "o.mp4", "aac"),
    ("in.mkv", "flac", "o.ts", "aac"),
    ("in.mkv", "flac", "o.avi", "mp3"),
])  # fmt: skip
def test_sound_that_a_container_does_not_hold_is_encoded(tmp_path, source, codec, name, becomes) -> None:
    _write_video(tmp_path / source, sounds=(codec,))
    note = _transcode(tmp_path / source, tmp_path / name)[0]
    assert note.startswith(f"audio track #1 ({codec}) cannot be copied into {Path(name).suffix} and was encoded with")
    assert ("audio", becomes) in _tracks(tmp_path / name)
    assert _seconds(tmp_path / name) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize(("source", "codec", "name"), [
    ("in.avi", "adpcm_ms", "o.mkv"), ("in.wmv", "wmav2", "o.mkv"), ("in.avi", "pcm_alaw", "o.mkv"),
    ("in.mkv", "ac3", "o.avi"), ("in.mov", "alac", "o.mkv"), ("in.mkv", "pcm_s24le", "o.mov"),
])  # fmt: skip
def test_sound_is_copied_wherever_the_container_holds_it(tmp_path, source, codec, name) -> None:
    _write_video(tmp_path / source, sounds=(codec,))
    before = clips.sound_packets(tmp_path / source)
    notes = _transcode(tmp_path / source, tmp_path / name)
    assert notes == ([".avi files cannot store these properties of tracks: language"] if name == "o.avi" else [])
    assert _tracks(tmp_path / name)[1] == ("audio", codec)
    after = clips.sound_packets(tmp_path / name)
    assert b"".join(sound for _, sound in after) == b"".join(sound for _, sound in before)


def test_the_end_of_sound_is_encoded(tmp_path) -> None:
    _write_video(tmp_path / "in.avi", sounds=("wmav2",))
    with av.open(str(tmp_path / "in.avi")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    _transcode(tmp_path / "in.avi", tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        kept = sum(frame.samples for frame in container.decode(audio=0))
    assert samples <= kept < samples + 2 * 1024  # the encoder fills its last frame, and begins with one


def test_layout_and_rate_of_sound_that_is_encoded_are_those_of_the_source_where_they_can_be(tmp_path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = [container.add_stream("pcm_s32le", rate=96_000, layout=layout) for layout in ("5.0", "4.0", "5.1")]
        for picture in clips.moving(6, 48, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        for track in tracks:
            zeros = np.zeros((1, 96_000 * track.layout.nb_channels), np.int32)
            frame = av.AudioFrame.from_ndarray(zeros, format="s32", layout=track.layout.name)
            frame.sample_rate, frame.pts = 96_000, 0
            container.mux(track.encode(frame))
    _transcode(tmp_path / "in.mkv", tmp_path / "o.webm")
    with av.open(str(tmp_path / "o.webm")) as container:
        assert [(s.layout.nb_channels, s.sample_rate) for s in container.streams.audio] == [
            (5, 48_000),
            (4, 48_000),
            (6, 48_000),
        ]
    notes = _transcode(tmp_path / "in.mkv", tmp_path / "o.avi", SinkOptions())
    assert [note for note in notes if "channels as stereo" in note] == []  # AVI copies PCM


@pytest.mark.parametrize("pause", [0, 48_000])
def test_sound_after_a_gap_keeps_its_time_when_it_is_encoded(tmp_path, pause) -> None:
    _write_video(tmp_path / "in.mkv", sounds=("flac",), pause=pause)
    _transcode(tmp_path / "in.mkv", tmp_path / "o.webm")
    with av.open(str(tmp_path / "o.webm")) as container:
        times = [frame.time for frame in container.decode(audio=0)]
    assert max(times) == pytest.approx(1.0 + pause / 48_000, abs=0.1)
    assert max(np.diff(times)) == pytest.approx(0.02 + pause / 48_000, abs=0.03)
    assert _seconds(tmp_path / "o.webm") == pytest.approx(1.0, abs=0.08)


def test_channels_of_unnamed_layout_get_the_usual_one(tmp_path) -> None:
    _write_video(tmp_path / "in.avi", sounds=("pcm_s16le",))
    assert _transcode(tmp_path / "in.avi", tmp_path / "o.mp4") == []
    assert _tracks(tmp_path / "o.mp4")[1] == ("audio", "pcm_s16le")
    assert clips.sound_packets(tmp_path / "o.mp4")


@pytest.mark.parametrize(("known", "unknown", "name", "kept"), [
    (b"mp4a", b"apac", "o.mp4", ["h264", "aac"]),
    (b"mp4a", b"zzzz", "o.mkv", ["h264", "aac"]),
    (b"tx3g", b"zzzz", "o.mkv", ["h264", "aac", "aac"]),
])  # fmt: skip
def test_tracks_of_unknown_codecs_are_reported_and_the_others_kept(tmp_path, known, unknown, name, kept) -> None:
    """As the spatial sound that telephones record beside ordinary one."""
    _write_video(tmp_path / "in.mp4", sounds=("aac", "aac"), subtitles="mov_text" if known == b"tx3g" else None)
    data = bytearray((tmp_path / "in.mp4").read_bytes())
    at = data.rfind(known)
    data[at : at + 4] = unknown
    if known == b"mp4a":
        at = data.find(b"esds", at)
        data[at : at + 4] = b"dapa"
    (tmp_path / "in.mp4").write_bytes(data)
    notes = _transcode(tmp_path / "in.mp4", tmp_path / name)
    assert [note for note in notes if "left out" in note and ("#2" in note or "#3" in note)], notes
    assert [codec for _, codec in _tracks(tmp_path / name)] == kept


def test_surround_sound_keeps_its_channels_in_avi(tmp_path) -> None:
    _write_sound(tmp_path / "in.mkv", "flac", "5.1")
    _transcode(tmp_path / "in.mkv", tmp_path / "o.avi")
    with av.open(str(tmp_path / "o.avi")) as container:
        track = container.streams.audio[0]
        assert (track.codec_context.name, track.channels) == ("ac3", 6)
        assert max(frame.time for frame in container.decode(track)) == pytest.approx(0.97, abs=0.06)


def test_packets_shorter_than_a_tick_keep_their_times(tmp_path) -> None:
    """Those of TrueHD last 0.83 ms, as these; Matroska counts whole ones."""
    _write_sound(tmp_path / "in.mkv", "pcm_s16le", "stereo", count=40)
    assert _transcode(tmp_path / "in.mkv", tmp_path / "o.mkv") == []
    assert clips.sound_packets(tmp_path / "o.mkv") == clips.sound_packets(tmp_path / "in.mkv")


def test_sound_that_cannot_be_decoded_at_all_is_named_and_leaves_no_empty_track(tmp_path) -> None:
    _write_video(tmp_path / "in.mp4")
    data = bytearray((tmp_path / "in.mp4").read_bytes())
    with av.open(str(tmp_path / "in.mp4")) as container:
        for packet in container.demux(audio=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "broken.mp4").write_bytes(data)
    (note,) = _transcode(tmp_path / "broken.mp4", tmp_path / "o.webm")
    assert note == "audio track #1 (aac) is left out: it cannot be decoded, nor copied into .webm"
    assert [kind for kind, _ in _tracks(tmp_path / "o.webm")] == ["video"]


@pytest.mark.parametrize("name", ["o.mkv", "o.ts", "o.webm"])
def test_sound_that_an_edit_list_cuts_off_moves_nothing(tmp_path, name) -> None:
    _write_video(tmp_path / "whole.mp4", sounds=("aac",))
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "in.mp4"), "w") as container:
        tracks = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                late = Fraction(-1, 2) if packet.stream.type == "audio" else 0
                packet.pts, packet.dts = (time + int(late / packet.time_base) for time in (packet.pts, packet.dts))
                packet.stream = tracks[packet.stream.index]
                container.mux(packet)
    _transcode(tmp_path / "in.mp4", tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        first = min(p.pts * p.time_base for p in container.demux(video=0) if p.pts is not None)
    assert first < Fraction(1, 4) + (Fraction(1, 3) if name == "o.ts" else 0)  # B-frames are decoded earlier


def _write_sound(path: Path, codec: str, layout: str, count: int = 1024) -> None:
    """A second of film with a second of sound in packets of so many samples, if the codec does not say."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=6)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track = container.add_stream(codec, rate=48_000, layout=layout)
        form = track.codec_context.format.name
        for picture in clips.moving(6, 48, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.start_encoding()
        count = track.codec_context.frame_size or count
        channels = track.codec_context.layout.nb_channels
        for k in range(48_000 // count):
            wave = np.repeat(np.arange(k * count, (k + 1) * count) % 100, channels)[None] * 100
            frame = av.AudioFrame.from_ndarray(wave.astype(np.int16 if form == "s16" else np.int32), form, layout)
            frame.sample_rate, frame.pts = 48_000, k * count
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
        container.mux(video.encode(None))
