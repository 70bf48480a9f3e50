"""Where chroma lies, from file to file."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rdvfi.media.metadata.stream_template import muxed_header
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.video_files.siting import read_siting
from test_media_encoding import _transcode

SITED = [
    ("in.mp4", "libx264", {"x264-params": "chromaloc=0", "qp": "0"}, "o.mp4", "left"),
    ("in.mp4", "libx264", {"x264-params": "chromaloc=2", "qp": "0"}, "o.mkv", "topleft"),
    ("in.mp4", "libx264", {"x264-params": "chromaloc=1", "qp": "0"}, "o.mp4", "center"),
    ("in.avi", "mjpeg", {"qmin": "1", "qmax": "1"}, "o.webm", "center"),
    ("in.ts", "mpeg2video", {"qmin": "1", "qmax": "1"}, "o.y4m", "left"),
    ("in.mkv", "ffv1", {}, "o.mkv", "unspecified"),
]


@pytest.mark.parametrize(("name", "codec", "options", "out", "place"), SITED)
def test_chroma_location_is_kept_and_stored(tmp_path, name, codec, options, out, place) -> None:
    """Colours that are taken for half a pixel beside where they are show as a shift of the planes of chroma."""
    planes = [cv2.GaussianBlur(np.random.default_rng(k).random((96, 128)), (0, 0), 4) for k in range(3)]
    planes = [np.round((plane - plane.mean()) / plane.std() * 20 + 128) for plane in planes]
    form = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    frame = av.VideoFrame.from_ndarray(
        np.concatenate([planes[0].ravel(), planes[1][::2, ::2].ravel(), planes[2][::2, ::2].ravel()])
        .astype(np.uint8)
        .reshape(144, 128),
        format=form,
    )
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, form
        for pts in range(3):
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    quality = {"o.mp4": SinkOptions(crf=0), "o.webm": SinkOptions(crf=0)}.get(out, SinkOptions())
    if out == "o.mkv":
        quality = SinkOptions("ffv1", pix_fmt="yuv420p")
    assert _transcode(tmp_path / name, tmp_path / out, quality) == []
    before, after = (_first_chroma(tmp_path / each) for each in (name, out))
    slopes = np.stack([slope.ravel() for slope in np.gradient(before)], 1)
    moved = np.linalg.lstsq(slopes, (after - before).ravel(), rcond=None)[0]
    assert np.abs(moved).max() < 0.06
    with av.open(str(tmp_path / out)) as container:
        stream = container.streams.video[0]
        said = read_siting(stream.codec_context.pix_fmt or "", muxed_header(stream))
    assert said == ("unspecified", "left", "center", "topleft").index(place)


def _first_chroma(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        plane = next(container.decode(video=0)).planes[1]
        return np.frombuffer(memoryview(plane), np.uint8).reshape(48, -1)[:, :64].astype(float)
