"""A video is the same whether its segments come from one run, from a file, or from another encoder."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import clips
from rdvfi.media.outputs.pieces import RawFrameEncoder, unpack_frame
from rdvfi.media.pixels import to_picture
from rdvfi.media.reader import SourceFrame, open_source
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.writer import open_sink

_UNEVEN = [0, 1000, 2000, 3000, 4000, 5000, 16000, 17000, 29000, 41000, 42000, 43000, 59000, 60000, 61000]
"""Times in ticks: slow and fast by turns, so that decoding times of one segment reach into the one before."""


def _moments(frames: list[SourceFrame]) -> list[Moment]:
    return [Moment(k, Fraction(0), f.stamp.time, f.stamp.duration) for k, f in enumerate(frames)]


def _write(source: Path, destination: Path, options: SinkOptions, *, length: int, kept: bool) -> None:
    opened = open_source(source)
    frames = list(opened.frames())
    with open_sink(destination, opened.info, options, tick=opened.info.tick, rate=Fraction(6)) as sink:
        for start in range(0, len(frames), length):
            encoder, pieces = sink.encoder(), []
            part = slice(start, start + length)
            for frame, moment in zip(frames[part], _moments(frames)[part], strict=True):
                pieces += encoder.encode(frame.pixels, moment)
            pieces += encoder.flush()
            for piece in pieces:
                sink.write_piece(sink.unpack(encoder.pack(piece)) if kept else piece)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.mp4", SinkOptions(preset="medium")),  # with frames out of order
        ("out.mov", SinkOptions(codec="prores")),
        ("out.mkv", SinkOptions(codec="mpeg4")),
        ("out.mkv", SinkOptions(codec="ffv1")),
        ("out.mp4", SinkOptions(codec="hevc")),  # with frames that no other frame refers to
        ("out.webm", SinkOptions()),
        ("out.mp4", SinkOptions(codec="av1", preset="12")),
        ("out.avi", SinkOptions()),
        ("out.ts", SinkOptions()),
        ("out.gif", SinkOptions()),
        ("out.webp", SinkOptions()),
        ("out", SinkOptions()),
    ],
)
def test_segments_make_a_whole_file_wherever_they_come_from(tmp_path, name, options) -> None:
    even = name.endswith((".avi", ".gif"))  # the one counts frames, the other hundredths of a second
    ticks = [4000 * k for k in range(15)] if even else _UNEVEN
    clips.write_clip(tmp_path / "in.mp4", clips.moving(15, 64, 96), ticks=ticks)
    for kept in (False, True):
        (tmp_path / str(kept)).mkdir()
        _write(tmp_path / "in.mp4", tmp_path / str(kept) / name, options, length=4, kept=kept)
    one, two = tmp_path / "False" / name, tmp_path / "True" / name
    if one.is_dir():
        assert [p.read_bytes() for p in sorted(one.iterdir())] == [p.read_bytes() for p in sorted(two.iterdir())]
        return
    assert one.read_bytes() == two.read_bytes()
    if name.endswith(".webp"):
        return  # which FFmpeg writes and does not read
    before, after = list(open_source(tmp_path / "in.mp4").frames()), list(open_source(one).frames())
    assert len(after) == 15
    slack = Fraction(1, 100) if name.endswith(".gif") else Fraction(1, 1000)
    for a, b in zip(before, after, strict=True):
        if not name.endswith(".avi"):
            assert abs((a.stamp.time - b.stamp.time) - (before[0].stamp.time - after[0].stamp.time)) <= slack
        assert np.abs(a.pixels.astype(float) - to_picture(b.pixels)).mean() < 9


def test_whole_frames_are_kept_without_loss() -> None:
    encoder = RawFrameEncoder()
    moment = Moment(7, Fraction(1, 3), Fraction(50, 7), Fraction(1, 24))
    for kind in (np.uint8, np.uint16):
        pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (16, 20, 3)).astype(kind)
        (piece,) = encoder.encode(pixels, moment)
        back = unpack_frame(encoder.pack(piece))
        assert back.moment == moment
        assert back.pixels.dtype == kind
        assert np.array_equal(back.pixels, pixels)
