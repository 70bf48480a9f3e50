"""Standard input and output: y4m and Matroska through real pipes, times kept, closed pipes end quietly."""

import io
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest

import clips
import rdvfi
from rdvfi.media.pipes import is_pipe, pipe_destination
from rdvfi.video import VideoReport, interpolate_video

COMMAND = [sys.executable, "-m", "rdvfi", "interpolate", "--recipe", "rdvfi_s", "--allow-untrained"]
PARTS = ["backbone=ends", "coarse=dis", "renderer=blend"]


def _video(form: str, count: int = 6, *, late: int = 0) -> bytes:
    """A clip of grey levels at 24 frames per second; from the fourth frame on ``late`` milliseconds later."""
    memory = io.BytesIO()
    with av.open(memory, "w", format=form) as container:
        codec = "rawvideo" if form == "yuv4mpegpipe" else "ffv1"
        stream = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        base = Fraction(1, 24000)
        stream.codec_context.time_base = Fraction(1, 24) if form == "yuv4mpegpipe" else base
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), (20 + 30 * k) % 256, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = 1000 * k + 24 * late * (k > 3), base
            if form == "yuv4mpegpipe":
                frame.pts, frame.time_base = k, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return memory.getvalue()


def _decoded(data: bytes) -> tuple[str, list[Fraction], list[float]]:
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
        levels = [float(frame.to_ndarray(format="rgb24").mean()) for frame in frames]
        return container.format.name, [frame.pts * frame.time_base for frame in frames], levels


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    return rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "renderer=blend").requires_grad_(False)


def _piped(monkeypatch, model, data: bytes, **options: object) -> tuple[bytes, VideoReport]:
    """What goes out if these bytes come in."""
    sent = io.BytesIO()
    incoming = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data)), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", incoming)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=sent, isatty=lambda: False))
    report = interpolate_video("-", "-", model=model, allow_untrained=True, **options)
    return sent.getvalue(), report


def test_y4m_comes_in_and_goes_out(monkeypatch, model) -> None:
    data, report = _piped(monkeypatch, model, _video("yuv4mpegpipe"), multiplier=2)
    assert data.startswith(b"YUV4MPEG2 W48 H32 F48:1")
    assert (report.frames_read, report.frames_written, report.notes) == (6, 11, ())
    _, times, levels = _decoded(data)
    assert times == [Fraction(k, 48) for k in range(11)]
    assert levels == pytest.approx([20 + 15 * k for k in range(11)], abs=2)


def test_matroska_keeps_the_time_of_every_frame(monkeypatch, model) -> None:
    data, _ = _piped(monkeypatch, model, _video("matroska", late=100), multiplier=2)
    form, times, levels = _decoded(data)
    assert "matroska" in form
    source = [Fraction(k, 24) + Fraction(k > 3, 10) for k in range(6)]
    expected = [t for a, b in pairwise(source) for t in (a, (a + b) / 2)] + source[-1:]
    assert [float(time) for time in times] == pytest.approx([float(time) for time in expected], abs=2e-3)
    assert levels == pytest.approx([20 + 15 * k for k in range(11)], abs=2)


def test_a_reader_that_closes_ends_the_work_quietly(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(30, 96, 128))
    running = subprocess.Popen(
        [*COMMAND, str(tmp_path / "in.mp4"), "-", "-x", "4", *PARTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    assert len(running.stdout.read(20_000)) == 20_000
    running.stdout.close()
    _, told = running.communicate(timeout=60)
    assert running.returncode == 0, told
    assert told.decode().splitlines()[-1] == "rdvfi: the reader of the output closed it; stopped"
    assert b"Traceback" not in told


def test_what_ends_too_early_is_used_and_what_is_no_video_is_refused(monkeypatch, model) -> None:
    data, _ = _piped(monkeypatch, model, _video("yuv4mpegpipe")[:-100], multiplier=2)
    assert len(_decoded(data)[1]) == 9  # the last frame is not whole
    for wrong in (b"", b"nonsense " * 50):
        with pytest.raises(ValueError, match="standard input is not a video that can be read"):
            _piped(monkeypatch, model, wrong)
    for option in ({"dedup": "auto"}, {"start": 1}, {"speed": [(0, 1), ("0.1", -1)]}):
        with pytest.raises(ValueError, match=r"standard input .*can be read once only"):
            _piped(monkeypatch, model, _video("yuv4mpegpipe"), **option)


def test_what_is_transparent_is_shown_on_black_and_sizes_are_bounded(monkeypatch, model) -> None:
    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgra"
        for _ in range(3):
            pixels = np.full((32, 48, 4), (255, 0, 255, 0), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="bgra")))
        container.mux(stream.encode(None))
    data, report = _piped(monkeypatch, model, memory.getvalue(), multiplier=2)
    assert _decoded(data)[2] == pytest.approx([0] * 5, abs=2)
    assert report.notes == ("transparent parts of standard input are shown on black",)
    with pytest.raises(ValueError, match="standard input declares 48x32 pixels, more than max_pixels=1000"):
        _piped(monkeypatch, model, memory.getvalue(), max_pixels=1000)


def test_the_name_of_the_output_says_its_form(tmp_path) -> None:
    assert pipe_destination(tmp_path / "a.mp4", "in.mp4", None) == tmp_path / "a.mp4"
    target = pipe_destination(tmp_path.__class__("-"), "in.mp4", None)
    assert (target.suffix, is_pipe(target), is_pipe(tmp_path / "a.mp4")) == (".mkv", True, False)
    assert pipe_destination(tmp_path.__class__("-"), "in.mp4", "y4m").suffix == ".y4m"
    with pytest.raises(ValueError, match="pipe_format is 'avi'; it must be one of mkv, y4m"):
        pipe_destination(tmp_path.__class__("-"), "in.mp4", "avi")
    with pytest.raises(ValueError, match=r"pipe_format is for -, standard output; the suffix of .*a\.mp4 says"):
        pipe_destination(tmp_path / "a.mp4", "in.mp4", "mkv")
