"""The figures that matter on a GPU, in a minute: kernel, RDVFI-S, RDVFI-D, each with its launches.

    python benchmarks/gpu_times.py --output FOLDER [--parts environment,kernel,small,wan,svd,rife,video]
    python benchmarks/gpu_times.py --output FOLDER --device cpu       # does the script work? Toy sizes

Every part is timed eagerly and as CUDA graphs, whose results must be equal bit for bit, and is
profiled: how long kernels run, how many start. The medians and all else go to ``times.json`` after
every part, so that what a broken part measured is kept. The weights of RDVFI-D and RDVFI-U are random.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import inputs
import naive
import rdvfi
from rdvfi import ops

SMALL = (128, 224)
"""Grid of the maps of a frame of 16:9."""
SIZES = {"1024x576": (576, 1024), "1920x1080": (1080, 1920), "3840x2160": (2160, 3840)}


class Notes:
    """What was measured, on the screen and in a file."""

    def __init__(self, folder: Path, device: torch.device, sizes: list[str]) -> None:
        self.device, self._path = device, folder / "times.json"
        self.sizes = {name: SIZES[name] for name in sizes}
        self._all: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        """Keep one result."""
        self._all[name] = value
        print(name, json.dumps(value), flush=True)
        self._path.write_text(json.dumps(self._all, indent=1), encoding="utf-8")

    def wait(self) -> None:
        """Until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def ms(self, work: Callable[[], Any], rounds: int = 9) -> float:
        """Median time in milliseconds, after two rounds that do not count; on a CPU, for trying, of one."""
        took = []
        rounds = rounds + 2 if self.device.type == "cuda" else 1
        for _ in range(rounds):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            took.append(1e3 * (time.perf_counter() - began))
        return round(statistics.median(took[2:] or took), 4)

    def gigabytes(self, work: Callable[[], Any]) -> float:
        """Most memory that was held at a time."""
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        work()
        self.wait()
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)

    def profile(self, work: Callable[[], Any]) -> dict[str, Any]:
        """Time in which kernels ran, how many started, and the costliest."""
        if self.device.type != "cuda":
            return {}
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            work()
            self.wait()
        kernels = [e for e in profiler.key_averages() if e.self_device_time_total > 0]
        kernels.sort(key=lambda e: -e.self_device_time_total)
        return {
            "busy_ms": round(sum(e.self_device_time_total for e in kernels) / 1e3, 3),
            "kernels": sum(e.count for e in kernels),
            "costliest": [[e.key[:60], e.count, round(e.self_device_time_total / 1e3, 3)] for e in kernels[:12]],
        }


def environment(notes: Notes) -> None:
    """Where this runs."""
    card = torch.cuda.get_device_name() if notes.device.type == "cuda" else "cpu"
    notes["environment"] = {"device": card, "torch": torch.__version__, "rdvfi": rdvfi.__version__}


def bandwidth(notes: Notes) -> float:
    """Bytes read and written per second by a large copy."""
    a = torch.rand(2**28 if notes.device.type == "cuda" else 2**20, device=notes.device)
    b = torch.empty_like(a)
    rate = 8 * a.numel() / notes.ms(lambda: b.copy_(a)) / 1e6
    notes["copy GB/s"] = round(rate)
    return rate


def kernel(notes: Notes) -> None:
    """`ops.render` in every size and type, and how far it is from the definition."""
    rate = bandwidth(notes)
    for name, size in SIZES.items() if notes.device.type == "cuda" else [("192x128", (128, 192))]:
        frames = 23 if size[0] < 2000 else 7
        for dtype in (torch.float16, torch.float32):
            first, last = (inputs.image(1, size, notes.device, seed=s).to(dtype) for s in (0, 1))
            flows = [inputs.flow(frames, SMALL, notes.device, seed=s)[None] for s in (2, 3)]
            mask = inputs.smooth(frames, 1, SMALL, notes.device, seed=4).sigmoid()[None]
            residual = 0.02 * inputs.smooth(frames, 3, SMALL, notes.device, seed=5)[None]
            maps = (*flows, mask, residual)
            got = ops.render(first, last, *maps)[:, :2].double()
            exact = naive.render(first.double(), last.double(), *(x[:, :2].double() for x in maps))
            ms = notes.ms(lambda: ops.render(first, last, *maps))  # noqa: B023
            moved = frames * (9 * first.element_size() * size[0] * size[1] + 32 * SMALL[0] * SMALL[1])
            notes[f"render {name} {str(dtype)[6:]} x{frames}"] = {
                "ms per frame": round(ms / frames, 5),
                "8-bit ms per frame": round(
                    notes.ms(lambda: ops.render(first, last, *maps, dtype=torch.uint8)) / frames,  # noqa: B023
                    5,
                ),
                "percent of copy": round(100 * moved / ms / 1e6 / rate, 1),
                "worst error in 8-bit levels": round(255 * (got - exact).abs().max().item(), 4),
                "kernels": notes.profile(lambda: ops.render(first, last, *maps)),  # noqa: B023
            }


def _equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_results(one), _results(other), strict=True))


def _results(made: Any) -> list[torch.Tensor]:
    """What a motion says; what it computes when it is first drawn by is no part of it. Frames are themselves."""
    if isinstance(made, torch.Tensor):
        return [made]
    times = torch.linspace(0, 1, 6, device=made.keyframes.latents.device)
    return [made.keyframes.latents, made.scene.confidence, *made.trajectory.at(times)]


def _model(notes: Notes, name: str, model: rdvfi.Interpolator, sizes: dict[str, tuple[int, int]]) -> None:
    """One model eagerly and by graphs."""
    for size_name, size in sizes.items():
        first, last = inputs.real_pair(size, notes.device, model.dtype)
        noise = torch.randn(model.noise_shape(first), generator=torch.Generator().manual_seed(0))
        noise = noise.to(notes.device, model.dtype)
        times = {count: [(i + 1) / (count + 1) for i in range(count)] for count in (1, 7, 23)}
        result: dict[str, Any] = {}
        for way in ("eager", "graphs"):
            model.optimize(graphs=way == "graphs")
            began = time.perf_counter()
            motion = model.estimate(first, last, noise=noise)
            frames = model.render(first, last, motion, times[7])
            notes.wait()
            row: dict[str, Any] = {"first call ms": round(1e3 * (time.perf_counter() - began), 1)}
            again = model.estimate(first, last, noise=noise)
            row["repeats"] = _equal(motion, again)
            print(f"{name} {size_name} {way}: first call {row['first call ms']} ms", flush=True)
            row["estimate"] = notes.ms(lambda: model.estimate(first, last, noise=noise))  # noqa: B023
            row["stream"] = notes.ms(lambda: model.estimate(first, last, noise=noise, after=motion))  # noqa: B023
            for count, at in times.items():
                row[f"render {count}"] = notes.ms(lambda: model.render(first, last, motion, at))  # noqa: B023
                whole = notes.ms(lambda: model(first, last, at))  # noqa: B023
                row[f"ms per frame x{count + 1}"] = round(whole / count, 4)
            # What a pair costs whatever is drawn, and each frame beside: a line through 1 and 23 frames.
            whole = [row[f"ms per frame x{count + 1}"] * count for count in (1, 23)]
            row["ms per further frame"] = round((whole[1] - whole[0]) / 22, 4)
            row["ms per pair"] = round(whole[0] - row["ms per further frame"], 4)
            row["GB x24"] = notes.gigabytes(lambda: model(first, last, times[23]))  # noqa: B023
            if way == "eager":
                kept = motion, frames
            else:
                row["equal to eager"] = [
                    _equal(kept[0], again),
                    _equal(kept[1], model.render(first, last, motion, times[7])),
                ]
            row["estimate kernels"] = notes.profile(lambda: model.estimate(first, last, noise=noise))  # noqa: B023
            row["render 7 kernels"] = notes.profile(lambda: model.render(first, last, motion, times[7]))  # noqa: B023
            result[way] = row
            notes[f"{name} {size_name}"] = result
    model.train().eval()


def small(notes: Notes) -> None:
    """RDVFI-S in half precision."""
    model = rdvfi.create_model("rdvfi-s", device=notes.device, dtype=torch.float16)
    cuda = notes.device.type == "cuda"
    _model(notes, "rdvfi-s float16", model, notes.sizes if cuda else {"192x128": (128, 192)})


def wan(notes: Notes) -> None:
    """RDVFI-D, random weights."""
    _large(notes, "rdvfi_d")


def svd(notes: Notes) -> None:
    """RDVFI-U, random weights."""
    _large(notes, "rdvfi_u")


def _large(notes: Notes, recipe: str) -> None:
    cuda = notes.device.type == "cuda"
    torch.manual_seed(0)
    with torch.device(notes.device):
        model = rdvfi.build(recipe, *(() if cuda else ("backbone.size=toy",)))
    dtype = torch.bfloat16 if cuda else torch.float32
    model = model.to(notes.device, dtype).eval().requires_grad_(False)
    sizes = notes.sizes if cuda else {"192x128": (128, 192)}
    _model(notes, f"{recipe} bfloat16, random weights", model, sizes)


def rife(notes: Notes) -> None:
    """RIFE 4.25 beside it, one frame between two: eagerly, compiled, and as a CUDA graph."""
    from rdvfi.evaluation.rife import RIFE

    cuda = notes.device.type == "cuda"
    size = SIZES["1024x576"] if cuda else (128, 192)
    for dtype in (torch.float16, torch.float32) if cuda else (torch.float32,):
        other, time = RIFE(device=notes.device, dtype=dtype), torch.tensor([0.5])
        pair = inputs.real_pair(size, notes.device, dtype)
        name, row = f"rife 4.25 {str(dtype)[6:]} {size[1]}x{size[0]}", dict[str, Any]()

        def frame(other: RIFE = other, pair: list[torch.Tensor] = pair, time: torch.Tensor = time) -> torch.Tensor:
            return other(*pair, time)

        def compiled(other: RIFE = other) -> float:
            other.network = torch.compile(other.network, backend="inductor" if cuda else "eager")
            return notes.ms(frame)

        ways = {"eager": lambda: notes.ms(frame), "kernels": lambda: notes.profile(frame)}
        ways |= {"graph": lambda: notes.ms(_graph(frame))} if cuda else {}
        for way, measure in (ways | {"compiled": compiled}).items():
            try:
                row[way] = measure()
            except Exception as error:  # the other ways count too
                row[way] = repr(error)[:200]
            notes[name] = row


def video(notes: Notes) -> None:
    """A whole 1080p clip at x2 by RDVFI-S, read and written, with the device's decoder and colours and without."""
    cuda = notes.device.type == "cuda"
    (height, width), count, rate = (SIZES["1920x1080"], 120, 30) if cuda else ((96, 160), 6, 30)
    codecs = ("h264", "auto") if cuda else ("h264",)
    model = rdvfi.create_model("rdvfi-s", device=notes.device).optimize(graphs=cuda)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.mp4")
        _write_film(source, inputs.film(count, (height, width)), (height, width), rate)
        for hwaccel, codec in itertools.product(("auto", "off"), codecs):
            row: dict[str, Any] = {}
            for run in ("first", "second"):  # graphs are recorded in the first
                options = {"hwaccel": hwaccel, "codec": codec, "multiplier": 2, "overwrite": True}
                done = rdvfi.interpolate_video(source, Path(folder, "out.mp4"), model=model, **options)
                row[f"seconds, {run} run"] = round(done.seconds, 3)
            row["written frames per second"] = round(done.frames_written / done.seconds, 1)
            row["times real time"] = round((count - 1) / rate / done.seconds, 3)
            notes[f"video {width}x{height} x2, hwaccel {hwaccel}, codec {codec}"] = row
    notes["video colours ms"] = _colours(notes, (height, width))


def _write_film(path: Path, frames: Iterator[np.ndarray], size: tuple[int, int], rate: int) -> None:
    """8-bit RGB frames as H.264 of 4:2:0."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "18"})
        stream.pix_fmt, stream.height, stream.width = "yuv420p", *size
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def _colours(notes: Notes, size: tuple[int, int]) -> dict[str, float]:
    """Conversion of one frame from 4:2:0 of 8 bits, and to it."""
    from rdvfi.ops.video_colour import rgb_to_video, video_to_rgb

    meaning = [0.2126, 0.0722, 16.0, 128.0, 219.0, 224.0, 0.0, 0.5]
    shapes = (size, *[(size[0] // 2, size[1] // 2)] * 2)
    planes = tuple(torch.full(shape, 120, dtype=torch.uint8, device=notes.device) for shape in shapes)
    frame = torch.rand(3, *size, device=notes.device).half()
    form: dict[str, Any] = {"packed": False, "bits": 8, "shift": 0, "meaning": meaning}
    return {
        "to RGB": notes.ms(lambda: video_to_rgb(planes, meaning, torch.float16)),  # pyright: ignore[reportArgumentType]
        "to planes": notes.ms(lambda: rgb_to_video(frame, size, (2, 2), **form)),
    }


def _graph(work: Callable[[], Any]) -> Callable[[], None]:
    """The work as a CUDA graph of its own."""
    from rdvfi.graphs import CudaCapture

    return CudaCapture().record(work)[0]


PARTS: dict[str, Callable[[Notes], Any]] = {
    "environment": environment,
    "kernel": kernel,
    "small": small,
    "wan": wan,
    "svd": svd,
    "rife": rife,
    "video": video,
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=os.environ.get("OUT", "out"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", default="1024x576,3840x2160", help="of models")
    parser.add_argument("--parts", default="environment,kernel,small,wan")
    parser.add_argument("--seconds", type=float, default=1e9, help="no part starts after that")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    notes, began = Notes(chosen.output, torch.device(chosen.device), chosen.sizes.split(",")), time.monotonic()
    for name in chosen.parts.split(","):
        if time.monotonic() - began > chosen.seconds:
            notes[f"{name} left out after s"] = round(time.monotonic() - began, 1)
            continue
        try:
            with torch.inference_mode():
                PARTS[name](notes)
        except Exception as error:  # the other parts count too
            traceback.print_exc()
            notes[f"{name} failed"] = repr(error)[:400]
        notes[f"{name} done after s"] = round(time.monotonic() - began, 1)


if __name__ == "__main__":
    main()
