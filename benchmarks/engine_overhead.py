"""What a job costs beside its model: ``python benchmarks/engine_overhead.py [CLIP]``.

Three things are timed in turn, round after round, on the same frames: the job (`rdvfi.interpolate_video`, twice as many
frames, renderer ``warp``); decoding the source and encoding the job's frames with the same settings and nothing
between, in two threads, which is what any program has to do; and the model by itself, on frames that lie ready.
Time inside the model is also taken within the job. Two ratios come out, as medians over the rounds:

- ``wall``: seconds of the job, less those inside its model, over those of decoding and encoding alone;
- ``cpu``: the same of processor seconds, which count what is hidden beside the model as well. What the model takes is
  that of the model by itself.

With ``--segments`` the job is also timed with its finished segments kept, and as one segment, and sizes are compared.
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

import measure
import rdvfi
from inputs import real_pair
from rdvfi.media.pixels import to_pixels, to_tensor
from rdvfi.media.reader import ReadOptions, open_source
from rdvfi.media.video_files.codecs import CODECS
from rdvfi.video.pipeline import Background, Prefetch

OPTIONS = dict(CODECS["h264"].options)
"""Of the encoder; all else is the default of the library, and of this script."""


class Clock:
    """Seconds that have passed, and processor seconds of this process."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Adds what passes inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


class Watched:
    """A model's two calls, timed on their way."""

    def __init__(self, model: rdvfi.Interpolator) -> None:
        self.clock = Clock()
        self._estimate, self._parts = model.estimate, model.render_parts
        model.estimate, model.render_parts = self.estimate, self.render_parts  # ty: ignore

    def estimate(self, *arguments: Any, **options: Any) -> Any:
        """See `Interpolator.estimate`."""
        with self.clock.running():
            return self._estimate(*arguments, **options)

    def render_parts(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """See `Interpolator.render_parts`."""
        parts = iter(self._parts(*arguments, **options))
        while True:
            with self.clock.running():
                part = next(parts, None)
            if part is None:
                return
            yield part


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", help="scaled to --size; the example pair, moving, if unset")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads of the model; all cores if unset")
    parser.add_argument("--segments", action="store_true")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.mp4")
        write_source(source, given.clip, width, height, given.frames)
        found = measured(source, Path(folder), given.rounds, segments=given.segments)
    about = {"size": given.size, "frames": given.frames, "threads": torch.get_num_threads(), "commit": measure.commit()}
    print(json.dumps({**about, "device": measure.device_name(torch.device("cpu")), **found}, indent=1))


def write_source(path: Path, clip: Path | None, width: int, height: int, count: int) -> None:
    """The frames that go in, as H.264."""
    container = av.open(str(path), "w")
    stream = container.add_stream("libx264", rate=24, options={**OPTIONS, "crf": "18"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for number, frame in zip(range(count), _moving(width, height) if clip is None else _of(clip), strict=False):
        scaled = frame.reformat(width, height, "yuv420p")
        scaled.pict_type, scaled.pts, scaled.time_base = 0, number, Fraction(1, 24)
        container.mux(stream.encode(scaled))
    container.mux(stream.encode(None))
    container.close()


def _of(clip: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(clip)) as container:
        yield from container.decode(video=0)


def _moving(width: int, height: int) -> Iterator[av.VideoFrame]:
    picture = to_pixels(real_pair((height, width + 512), torch.device("cpu"), torch.float32)[0][0], deep=False)
    for left in range(0, 512, 6):
        yield av.VideoFrame.from_ndarray(picture[:, left : left + width].copy(), format="rgb24")


def measured(source: Path, folder: Path, rounds: int, *, segments: bool) -> dict[str, Any]:
    """All rounds, summed up."""
    model = rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp").eval()
    images = [
        to_tensor(frame.pixels, device=torch.device("cpu"), dtype=torch.float32)
        for frame in open_source(source, ReadOptions(headroom=True)).frames()
    ]
    watched = Watched(model)
    jobs: dict[str, Callable[[Path], Any]] = {"job": lambda to: _job(source, to, model)}
    if segments:
        jobs["job, segments kept"] = lambda to: _job(source, to, model, segments=folder / "kept")
        jobs["job of one segment"] = lambda to: _job(source, to, model, segment_frames=10**6)
    jobs["job"](folder / "first.mp4")  # warms up; its frames are what is encoded alone
    made = _decoded(folder / "first.mp4")
    seconds: dict[str, list[Clock]] = {}
    sizes: dict[str, int] = {}
    for k in range(rounds):
        for name, job in jobs.items():
            place, watched.clock, clock = folder / f"{name}-{k}.mp4", Clock(), Clock()
            with clock.running():
                job(place)
            seconds.setdefault(name, []).append(clock)
            seconds.setdefault(f"model within {name}", []).append(watched.clock)
            sizes[name] = place.stat().st_size
        seconds.setdefault("decode and encode alone", []).append(_alone(source, made))
        watched.clock = Clock()
        with torch.inference_mode():
            for first, last in pairwise(images):
                for _ in model.render_parts(first, last, model.estimate(first, last), [0.5]):
                    pass
        seconds.setdefault("model alone", []).append(watched.clock)
    return {**_ratios(seconds, list(jobs)), "bytes": sizes, "seconds": _table(seconds)}


def _ratios(seconds: dict[str, list[Clock]], jobs: list[str]) -> dict[str, Any]:
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
        ratios[name] = {"overhead, wall": _middle(walls), "overhead, cpu": _middle(cpus)}
    return ratios


def _table(seconds: dict[str, list[Clock]]) -> dict[str, dict[str, float]]:
    return {
        name: {"wall": _middle(c.wall for c in clocks), "cpu": _middle(c.cpu for c in clocks)}
        for name, clocks in seconds.items()
    }


def _middle(values: Any) -> float:
    return round(statistics.median(values), 4)


def _job(source: Path, destination: Path, model: rdvfi.Interpolator, **options: Any) -> None:
    rdvfi.interpolate_video(source, destination, model=model, multiplier=2, allow_untrained=True, **options)


def _decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def _alone(source: Path, made: list[av.VideoFrame]) -> Clock:
    """Decode one file in a thread, and encode some frames in another."""
    clock = Clock()
    with clock.running(), av.open(str(source)) as opened, tempfile.TemporaryFile() as file:
        opened.streams.video[0].thread_type = "AUTO"
        container = av.open(file, "w", format="mp4")
        stream = container.add_stream("libx264", rate=48, options={**OPTIONS, "crf": str(CODECS["h264"].crf)})
        stream.width, stream.height, stream.pix_fmt = made[0].width, made[0].height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 48)

        def encode(frame: av.VideoFrame) -> None:
            container.mux(stream.encode(frame))

        with Prefetch(opened.decode(video=0), 4) as frames, Background(encode, 4) as thread:
            waiting = iter(made)
            for number, _ in enumerate(frames):
                for frame in [next(waiting)] if number == 0 else [next(waiting), next(waiting)]:
                    frame.pict_type, frame.time_base = 0, Fraction(1, 48)
                    thread.put(frame)
            thread.finish()
        container.mux(stream.encode(None))
        container.close()
    return clock


if __name__ == "__main__":
    main()
