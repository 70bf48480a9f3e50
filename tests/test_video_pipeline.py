"""Threads beside the computation: order, bounds, errors, and that none is left behind."""

import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

import rdvfi
from rdvfi.media.video_files.codecs import CODECS
from rdvfi.video.pipeline import Background, Prefetch


def test_prefetch_keeps_order_and_runs_only_a_few_steps_ahead() -> None:
    made = []

    def numbers():
        for k in range(50):
            made.append(k)
            yield k

    seen = []
    with Prefetch(numbers(), 3) as items:
        for item in items:
            time.sleep(0.001)
            seen.append(item)
            assert len(made) <= len(seen) + 3 + 2
    assert seen == list(range(50))


def test_background_keeps_order_and_finishes_everything() -> None:
    seen = []

    def slow(item: int) -> None:
        time.sleep(0.001)
        seen.append(item)

    with Background(slow, 3) as sink:
        for k in range(30):
            sink.put(k)
        sink.finish()
    assert seen == list(range(30))


def test_an_error_while_reading_reaches_the_reader() -> None:
    def broken():
        yield 1
        raise ValueError("bad frame")

    def read() -> list[int]:
        with Prefetch(broken(), 2) as items:
            return list(items)

    with pytest.raises(ValueError, match="bad frame"):
        read()


def test_an_error_while_writing_reaches_the_writer() -> None:
    def full(item: int) -> None:
        raise OSError("disk full")

    def write() -> None:
        with Background(full, 2) as sink:
            for k in range(100):
                sink.put(k)
            sink.finish()

    with pytest.raises(OSError, match="disk full"):
        write()


def test_leaving_early_ends_the_threads_and_closes_the_source() -> None:
    before = threading.active_count()
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    def interrupted() -> None:
        with Prefetch(endless(), 2) as items, Background(time.sleep, 2) as sink:
            for item in items:
                sink.put(item)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert closed.is_set()
    assert threading.active_count() == before


_RUN = """
import sys, torch, rdvfi
torch.set_num_threads(1)
parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
model = rdvfi.build("rdvfi_s", *parts).eval().requires_grad_(False)
model.content_rules = False
options = dict(model=model, allow_untrained=True, multiplier=2, preset="ultrafast", resume=True, segment_frames=60)
print(rdvfi.interpolate_video(*sys.argv[1:], **options).frames_read)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
"""A run over a film that prints how many frames it read, and its peak memory in kB."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_ten_thousand_frames_take_the_memory_of_a_hundred(tmp_path: Path) -> None:
    peaks = []
    for count in (100, 10_000):
        film = tmp_path / f"{count}.mp4"
        picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", "-frames:v", str(count)]
        coding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
        subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *picture, *coding, str(film)], check=True)
        command = [sys.executable, "-c", _RUN, str(film), str(tmp_path / f"{count} out.mp4")]
        read, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert int(read) == count
        peaks.append(int(peak))
    assert peaks[1] <= 1.05 * peaks[0], f"{peaks} kB"


@pytest.mark.slow
def test_what_is_around_the_model_costs_little_beside_decoding_and_encoding(tmp_path: Path) -> None:
    """At 1280x720: the time of a run without the model's, and that of decoding the film and encoding the frames."""
    film, made = tmp_path / "in.mp4", tmp_path / "out.mp4"
    picture = ["-f", "lavfi", "-i", "mandelbrot=s=1280x720:r=25:start_scale=0.5:end_scale=0.2:end_pts=100"]
    coding = ["-frames:v", "60", "-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *picture, *coding, str(film)], check=True)
    model = rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    model.eval().requires_grad_(False).content_rules = False
    spent, run = [0.0], model._run

    def timed(name, *arguments):
        begun = time.perf_counter()
        try:
            return run(name, *arguments)
        finally:
            spent[0] += time.perf_counter() - begun

    model._run = timed
    shares = []
    for _ in range(3):  # others work on the machine too: the best of three
        spent[0], begun = 0.0, time.perf_counter()
        rdvfi.interpolate_video(film, made, model=model, allow_untrained=True, multiplier=2, overwrite=True)
        around = time.perf_counter() - begun - spent[0]
        shares.append(around / _decoded_and_encoded(film, made, tmp_path / "alone.mp4"))
    assert min(shares) <= 1.15, f"{shares} times the time of decoding and encoding"


def _decoded_and_encoded(film: Path, made: Path, target: Path) -> float:
    """Seconds that it takes to decode a film and to encode the frames of another one, as runs encode them."""
    with av.open(str(made)) as container:
        frames = list(container.decode(video=0))
    begun = time.perf_counter()
    with av.open(str(film)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass
    with av.open(str(target), "w") as container:
        codec = CODECS["h264"]
        stream = container.add_stream(codec.encoder, rate=50, options={**codec.options, "crf": str(codec.crf)})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 50), 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return time.perf_counter() - begun


def _raise_at(number: int, frame_names: tuple[str, ...]):
    """A trace function that raises KeyboardInterrupt at an event inside some files, as a signal handler may."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.endswith(frame_names):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.parametrize("stage", ["prefetch", "background"])
def test_a_signal_at_any_instruction_leaves_no_thread_behind(stage) -> None:
    """Signal handlers raise between any two instructions, also between those that take and hold a lock."""
    before = threading.active_count()
    interrupted = 0
    for number in range(1, 2000, 3):
        finished = threading.Event()

        def use(number: int = number, finished: threading.Event = finished) -> None:
            nonlocal interrupted
            try:
                with Prefetch(iter(range(3)), 1) if stage == "prefetch" else Background(lambda item: None, 1) as worker:
                    sys.settrace(_raise_at(number, ("pipeline.py", "queue.py", "threading.py")))
                    for item in worker if isinstance(worker, Prefetch) else range(3):
                        if isinstance(worker, Background):
                            worker.put(item)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                sys.settrace(None)
                finished.set()

        user = threading.Thread(target=use, daemon=True)
        user.start()
        assert finished.wait(10), f"the block was never left after a signal at instruction {number}"
        if interrupted < (number + 2) // 3:
            break
    assert interrupted > 5
    assert threading.active_count() <= before + 1
