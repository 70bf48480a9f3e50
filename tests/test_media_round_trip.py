"""A film comes out as it went in: every frame to the bit, every time to the tick, every track to the byte."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import clips
from rdvfi.media.reader import ReadOptions, open_source
from rdvfi.media.video_files.encoding import SinkOptions
from test_media_encoding import _transcode

VARIED = (0, 40, 80, 137, 170, 210, 333, 373)
STEADY = tuple(40 * k for k in range(8))
FORMS = {8: ("yuv420p", "rgb24"), 10: ("yuv422p10le", "rgb48le"), 12: ("yuv444p12le", "rgb48le")}


def _write_video(path: Path, form: str, ticks: tuple[int, ...], *, alpha: bool = False) -> None:
    """FFV1 in milliseconds, two sounds, a subtitle, two chapters, and tags."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, form
        video.codec_context.time_base = Fraction(1, 1000)
        video.metadata["title"] = "Main"
        sounds = [container.add_stream(codec, rate=48_000, layout="stereo") for codec in ("flac", "pcm_s16le")]
        for sound, language in zip(sounds, ("eng", "jpn"), strict=True):
            sound.metadata.update({"language": language, "title": f"In {language}"})
        text = container.add_mux_stream("subrip")
        text.time_base = Fraction(1, 1000)
        text.metadata["language"] = "deu"
        text.disposition = av.stream.Disposition.forced
        container.metadata.update({"title": "A film", "artist": "Somebody"})
        base = Fraction(1, 1000)
        container.set_chapters([
            {"id": k, "start": 150 * k, "end": 150 * k + 150, "time_base": base, "metadata": {"title": f"Part {k}"}}
            for k in range(2)
        ])  # fmt: skip
        for tick, picture in zip(ticks, clips.moving(len(ticks), 48, 64), strict=True):
            container.mux(video.encode(_frame(picture, form, tick, alpha=alpha)))
        container.mux(video.encode(None))
        for sound in sounds:
            _encode_noise(container, sound)
        for start, words in ((50, b"one"), (50, b"at once"), (250, b"three")):
            packet = av.Packet(words)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), text
            container.mux(packet)


def _frame(picture: np.ndarray, form: str, tick: int, *, alpha: bool) -> av.VideoFrame:
    if alpha:
        opaque = np.round(picture * 255).astype(np.uint8)
        cover = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))[..., None]
        frame = av.VideoFrame.from_ndarray(np.concatenate((opaque, cover), axis=2), format="rgba")
    else:
        frame = av.VideoFrame.from_ndarray(np.round(picture * 65535).astype(np.uint16), format="rgb48le")
    frame = frame.reformat(format=form)
    frame.pts, frame.time_base = tick, Fraction(1, 1000)
    return frame


def _encode_noise(container: av.container.OutputContainer, sound: av.AudioStream) -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, (1, 2 * 18_432)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    sound.codec_context.open(strict=False)
    resampler = av.AudioResampler("s16", "stereo", 48_000, frame_size=sound.codec_context.frame_size or 1024)
    for part in (*resampler.resample(frame), *resampler.resample(None), None):
        container.mux(sound.encode(part))


def _describe_file(path: Path) -> list[object]:
    """All that a file says but for its pictures: tags, tracks with their packets, chapters."""
    with av.open(str(path)) as container:
        marks = ((c["start"], c["end"], c["time_base"], c["metadata"]) for c in container.chapters())
        chapters = [(start * base, end * base, names) for start, end, base, names in marks]
        tags = {key.lower(): value for key, value in container.metadata.items() if key.lower() != "encoder"}
        said = ("language", "title")
        tracks = [(s.type, int(s.disposition), *(s.metadata.get(key) for key in said)) for s in container.streams]
        kept = [s.index for s in container.streams if s.type != "video"]
        packets = [
            (p.stream.index, p.pts * p.time_base, p.duration * p.time_base, bytes(p))
            for p in container.demux()
            if p.size and p.stream.index in kept
        ]
    return [chapters, tags, tracks, sorted(packets, key=lambda packet: packet[:2])]


@pytest.mark.parametrize("ticks", [STEADY, VARIED], ids=["steady", "varied"])
@pytest.mark.parametrize("kind", [8, 10, 12, "alpha"])
def test_a_film_comes_out_as_it_went_in(tmp_path, kind, ticks) -> None:
    alpha = kind == "alpha"
    _write_video(tmp_path / "in.mkv", "bgra" if alpha else FORMS[kind][0], ticks, alpha=alpha)
    reading = ReadOptions(alpha=alpha)
    assert _transcode(tmp_path / "in.mkv", tmp_path / "o.mkv", SinkOptions("ffv1"), reading) == []
    before, after = (list(open_source(tmp_path / name, reading).frames()) for name in ("in.mkv", "o.mkv"))
    assert [frame.stamp.time for frame in after] == [Fraction(tick, 1000) for tick in ticks]
    assert len(before) == len(after) == len(ticks)
    for a, b in zip(before, after, strict=True):
        assert a.stamp.time == b.stamp.time
        assert a.pixels.shape[2] == 3 + alpha
        assert np.array_equal(a.pixels, b.pixels)
    assert before[-1].stamp.duration == after[-1].stamp.duration
    assert _describe_file(tmp_path / "o.mkv") == _describe_file(tmp_path / "in.mkv")
