"""Cost of a job in addition to its model: ``python benchmarks/engine_overhead.py [CLIP]``.

Three things are timed in turn in every round, on the same frames: the job (`rdvfi.interpolate_video`, twice as many
frames, renderer ``warp``); decoding the source and encoding the job's frames with the same settings, in two threads,
which is the minimum for any program; and the model alone, on decoded frames.
Time inside the model is also measured within the job. The results are two ratios, as medians over the rounds:

- ``wall``: seconds of the job outside its model, relative to decoding and encoding alone;
- ``cpu``: the same for processor seconds, which include work in parallel to the model. Those of the model are
  measured on the model alone.

With ``--segments`` the job is also timed with its segments kept, and as one segment, and file sizes are compared.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import torch

import machine
import rdvfi
from inputs import real_pair
from rdvfi.media.pixels import to_pixels, to_tensor
from rdvfi.media.reader import ReadOptions, open_source
from rdvfi.media.video_files.codecs import CODECS
from rdvfi.video.pipeline import Background, Prefetch

ENCODER_OPTIONS = dict(CODECS["h264"].options)


class Clock:
    """A stop-watch for wall time and processor time of this process, in seconds."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the time inside the ``with`` block."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


class ModelTimer:
    """Replaces ``estimate`` and ``render_parts`` of a model by timed calls; ``clock`` holds their time."""

    def __init__(self, model: rdvfi.Interpolator) -> None:
        self.clock = Clock()
        self._estimate, self._render_parts = model.estimate, model.render_parts
        model.estimate, model.render_parts = self.estimate, self.render_parts  # ty: ignore

    def estimate(self, *arguments: Any, **options: Any) -> Any:
        """See `Interpolator.estimate`."""
        with self.clock.running():
            return self._estimate(*arguments, **options)

    def render_parts(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """See `Interpolator.render_parts`."""
        parts = iter(self._render_parts(*arguments, **options))
        while True:
            with self.clock.running():
                part = next(parts, None)
            if part is None:
                return
            yield part


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", help="resized to --size; a generated clip if unset")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads of the model; all cores if unset")
    parser.add_argument("--segments", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.mp4")
        write_source(source, arguments.clip, width, height, arguments.frames)
        results = measure_overhead(source, Path(folder), arguments.rounds, segments=arguments.segments)
    settings = {
        "size": arguments.size,
        "frames": arguments.frames,
        "threads": torch.get_num_threads(),
        "commit": machine.source_commit(),
    }
    print(json.dumps({**settings, "device": machine.device_name(torch.device("cpu")), **results}, indent=1))


def write_source(path: Path, clip: Path | None, width: int, height: int, count: int) -> None:
    """Write ``count`` frames of the clip, or of a generated one, as H.264."""
    container = av.open(str(path), "w")
    stream = container.add_stream("libx264", rate=24, options={**ENCODER_OPTIONS, "crf": "18"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for number, frame in zip(
        range(count), _generate_frames(width, height) if clip is None else _decode(clip), strict=False
    ):
        scaled = frame.reformat(width, height, "yuv420p")
        scaled.pict_type, scaled.pts, scaled.time_base = 0, number, Fraction(1, 24)
        container.mux(stream.encode(scaled))
    container.mux(stream.encode(None))
    container.close()


def _decode(clip: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(clip)) as container:
        yield from container.decode(video=0)


def _generate_frames(width: int, height: int) -> Iterator[av.VideoFrame]:
    """A pan over a frame of the example clip."""
    picture = to_pixels(real_pair((height, width + 512), torch.device("cpu"), torch.float32)[0][0], deep=False)
    for left in range(0, 512, 6):
        yield av.VideoFrame.from_ndarray(picture[:, left : left + width].copy(), format="rgb24")


def measure_overhead(source: Path, folder: Path, rounds: int, *, segments: bool) -> dict[str, Any]:
    """Run all rounds; return ratios, file sizes and seconds, as medians."""
    model = rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp").eval()
    images = [
        to_tensor(frame.pixels, device=torch.device("cpu"), dtype=torch.float32)
        for frame in open_source(source, ReadOptions(headroom=True)).frames()
    ]
    timer = ModelTimer(model)
    jobs: dict[str, Callable[[Path], Any]] = {"job": lambda to: _job(source, to, model)}
    if segments:
        jobs["job, segments kept"] = lambda to: _job(source, to, model, segments=folder / "kept")
        jobs["job of one segment"] = lambda to: _job(source, to, model, segment_frames=10**6)
    jobs["job"](folder / "first.mp4")  # a warm-up
    job_frames = list(_decode(folder / "first.mp4"))
    seconds: dict[str, list[Clock]] = {}
    sizes: dict[str, int] = {}
    for k in range(rounds):
        for name, job in jobs.items():
            output, timer.clock, clock = folder / f"{name}-{k}.mp4", Clock(), Clock()
            with clock.running():
                job(output)
            seconds.setdefault(name, []).append(clock)
            seconds.setdefault(f"model within {name}", []).append(timer.clock)
            sizes[name] = output.stat().st_size
        seconds.setdefault("decode and encode alone", []).append(_decode_and_encode(source, job_frames))
        timer.clock = Clock()
        with torch.inference_mode():
            for first, last in pairwise(images):
                for _ in model.render_parts(first, last, model.estimate(first, last), [0.5]):
                    pass
        seconds.setdefault("model alone", []).append(timer.clock)
    return {**_overhead_ratios(seconds, list(jobs)), "bytes": sizes, "seconds": _median_seconds(seconds)}


def _overhead_ratios(seconds: dict[str, list[Clock]], jobs: list[str]) -> dict[str, Any]:
    ratios: dict[str, Any] = {}
    for name in jobs:
        rows = zip(
            seconds[name],
            seconds[f"model within {name}"],
            seconds["decode and encode alone"],
            seconds["model alone"],
            strict=True,
        )
        values = [((a.wall - m.wall) / b.wall - 1, (a.cpu - own.cpu) / b.cpu - 1) for a, m, b, own in rows]
        walls, cpus = zip(*values, strict=True)
        ratios[name] = {"overhead, wall": _median(walls), "overhead, cpu": _median(cpus)}
    return ratios


def _median_seconds(seconds: dict[str, list[Clock]]) -> dict[str, dict[str, float]]:
    return {
        name: {"wall": _median(c.wall for c in clocks), "cpu": _median(c.cpu for c in clocks)}
        for name, clocks in seconds.items()
    }


def _median(values: Any) -> float:
    return round(statistics.median(values), 4)


def _job(source: Path, destination: Path, model: rdvfi.Interpolator, **options: Any) -> None:
    rdvfi.interpolate_video(source, destination, model=model, multiplier=2, allow_untrained=True, **options)


def _decode_and_encode(source: Path, job_frames: list[av.VideoFrame]) -> Clock:
    """The time to decode the source in one thread and encode the job's frames in another."""
    clock = Clock()
    with clock.running(), av.open(str(source)) as opened, tempfile.TemporaryFile() as file:
        opened.streams.video[0].thread_type = "AUTO"
        container = av.open(file, "w", format="mp4")
        stream = container.add_stream("libx264", rate=48, options={**ENCODER_OPTIONS, "crf": str(CODECS["h264"].crf)})
        stream.width, stream.height, stream.pix_fmt = job_frames[0].width, job_frames[0].height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 48)

        def encode(frame: av.VideoFrame) -> None:
            container.mux(stream.encode(frame))

        with Prefetch(opened.decode(video=0), 4) as frames, Background(encode, 4) as thread:
            pending = iter(job_frames)
            for number, _ in enumerate(frames):
                for frame in [next(pending)] if number == 0 else [next(pending), next(pending)]:
                    frame.pict_type, frame.time_base = 0, Fraction(1, 48)
                    thread.put(frame)
            thread.finish()
        container.mux(stream.encode(None))
        container.close()
    return clock


if __name__ == "__main__":
    main()
