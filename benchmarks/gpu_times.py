"""The main times on a GPU, in a minute: kernel, RDVFI-S and RDVFI-D, with profiles.

    python benchmarks/gpu_times.py --output FOLDER [--parts environment,kernel,small,wan,svd,rife,video]
    python benchmarks/gpu_times.py --output FOLDER --device cpu       # tests the script at toy sizes

Every part is timed eagerly and as CUDA graphs, whose results must be bit-identical, and is
profiled: duration and number of kernels. Results are written to ``times.json`` one by one,
so that those of a part that fails are kept. The weights of RDVFI-D and RDVFI-U are random.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import inputs
import naive
import rdvfi
from rdvfi import ops

MAP_SIZE = (128, 224)
"""Grid of the small maps of a 16:9 frame."""
SIZES = {"1024x576": (576, 1024), "1920x1080": (1080, 1920), "3840x2160": (2160, 3840)}


class Results:
    """Results by name, printed and written to ``times.json``; with functions to measure them."""

    def __init__(self, folder: Path, device: torch.device, sizes: list[str]) -> None:
        self.device, self._path = device, folder / "times.json"
        self.sizes = {name: SIZES[name] for name in sizes}
        self._values: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        """Save one result."""
        self._values[name] = value
        print(name, json.dumps(value), flush=True)
        self._path.write_text(json.dumps(self._values, indent=1), encoding="utf-8")

    def synchronise(self) -> None:
        """Wait until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def milliseconds(self, call: Callable[[], Any], rounds: int = 9) -> float:
        """Median time in milliseconds, after two rounds that are not counted; on a CPU the time of one call."""
        durations = []
        rounds = rounds + 2 if self.device.type == "cuda" else 1
        for _ in range(rounds):
            self.synchronise()
            start = time.perf_counter()
            call()
            self.synchronise()
            durations.append(1e3 * (time.perf_counter() - start))
        return round(statistics.median(durations[2:] or durations), 4)

    def peak_gigabytes(self, call: Callable[[], Any]) -> float:
        """Peak of allocated memory."""
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        call()
        self.synchronise()
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)

    def profile(self, call: Callable[[], Any]) -> dict[str, Any]:
        """Total time and number of kernels, and the twelve with the longest total time."""
        if self.device.type != "cuda":
            return {}
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            call()
            self.synchronise()
        kernels = [e for e in profiler.key_averages() if e.self_device_time_total > 0]
        kernels.sort(key=lambda e: -e.self_device_time_total)
        return {
            "busy_ms": round(sum(e.self_device_time_total for e in kernels) / 1e3, 3),
            "kernels": sum(e.count for e in kernels),
            "costliest": [[e.key[:60], e.count, round(e.self_device_time_total / 1e3, 3)] for e in kernels[:12]],
        }


def record_environment(results: Results) -> None:
    """Device and versions."""
    name = torch.cuda.get_device_name() if results.device.type == "cuda" else "cpu"
    results["environment"] = {"device": name, "torch": torch.__version__, "rdvfi": rdvfi.__version__}


def measure_bandwidth(results: Results) -> float:
    """Gigabytes read and written per second by a large copy."""
    a = torch.rand(2**28 if results.device.type == "cuda" else 2**20, device=results.device)
    b = torch.empty_like(a)
    bandwidth = 8 * a.numel() / results.milliseconds(lambda: b.copy_(a)) / 1e6
    results["copy GB/s"] = round(bandwidth)
    return bandwidth


def measure_kernel(results: Results) -> None:
    """`ops.render` at every size and data type, and its error against a float64 reference."""
    bandwidth = measure_bandwidth(results)
    for name, size in SIZES.items() if results.device.type == "cuda" else [("192x128", (128, 192))]:
        frames = 23 if size[0] < 2000 else 7
        for dtype in (torch.float16, torch.float32):
            first, last = (inputs.smooth_images(1, size, results.device, seed=s).to(dtype) for s in (0, 1))
            flows = [inputs.smooth_flow(frames, MAP_SIZE, results.device, seed=s)[None] for s in (2, 3)]
            mask = inputs.smooth_maps(frames, 1, MAP_SIZE, results.device, seed=4).sigmoid()[None]
            residual = 0.02 * inputs.smooth_maps(frames, 3, MAP_SIZE, results.device, seed=5)[None]
            maps = (*flows, mask, residual)
            rendered = ops.render(first, last, *maps)[:, :2].double()
            exact = naive.render(first.double(), last.double(), *(x[:, :2].double() for x in maps))
            ms = results.milliseconds(lambda: ops.render(first, last, *maps))  # noqa: B023
            moved = frames * (9 * first.element_size() * size[0] * size[1] + 32 * MAP_SIZE[0] * MAP_SIZE[1])
            results[f"render {name} {str(dtype)[6:]} x{frames}"] = {
                "ms per frame": round(ms / frames, 5),
                "8-bit ms per frame": round(
                    results.milliseconds(lambda: ops.render(first, last, *maps, dtype=torch.uint8)) / frames,  # noqa: B023
                    5,
                ),
                "percent of copy": round(100 * moved / ms / 1e6 / bandwidth, 1),
                "worst error in 8-bit levels": round(255 * (rendered - exact).abs().max().item(), 4),
                "kernels": results.profile(lambda: ops.render(first, last, *maps)),  # noqa: B023
            }


def _are_equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_tensors(one), _tensors(other), strict=True))


def _tensors(value: Any) -> list[torch.Tensor]:
    """Frames themselves; of a motion its keyframes, confidence and flows, without what it caches for rendering."""
    if isinstance(value, torch.Tensor):
        return [value]
    times = torch.linspace(0, 1, 6, device=value.keyframes.latents.device)
    return [value.keyframes.latents, value.scene.confidence, *value.trajectory.at(times)]


def _measure_model(results: Results, name: str, model: rdvfi.Interpolator, sizes: dict[str, tuple[int, int]]) -> None:
    """One model, eagerly and by CUDA graphs."""
    for size_name, size in sizes.items():
        pair = inputs.real_pair(size, results.device, model.dtype)
        noise = torch.randn(model.noise_shape(pair[0]), generator=torch.Generator().manual_seed(0))
        rows: dict[str, Any] = {}
        outputs: tuple[Any, torch.Tensor] | None = None
        for mode in ("eager", "graphs"):
            model.optimize(graphs=mode == "graphs")
            label = f"{name} {size_name} {mode}"
            rows[mode], outputs = _measure_mode(results, label, model, pair, noise.to(pair[0]), eager=outputs)
            results[f"{name} {size_name}"] = rows
    model.train().eval()


def _measure_mode(
    results: Results,
    label: str,
    model: rdvfi.Interpolator,
    pair: list[torch.Tensor],
    noise: torch.Tensor,
    *,
    eager: tuple[Any, torch.Tensor] | None,
) -> tuple[dict[str, Any], tuple[Any, torch.Tensor]]:
    """The figures of one model in one mode, with its motion and frames, which are compared with the ``eager`` ones."""
    times = {count: [(i + 1) / (count + 1) for i in range(count)] for count in (1, 7, 23)}

    def estimate(**options: Any) -> Any:
        return model.estimate(*pair, noise=noise, **options)

    start = time.perf_counter()
    motion = estimate()
    frames = model.render(*pair, motion, times[7])
    results.synchronise()
    row: dict[str, Any] = {"first call ms": round(1e3 * (time.perf_counter() - start), 1)}
    repeated = estimate()
    row["repeats"] = _are_equal(motion, repeated)
    print(f"{label}: first call {row['first call ms']} ms", flush=True)
    row["estimate"] = results.milliseconds(estimate)
    row["stream"] = results.milliseconds(lambda: estimate(after=motion))
    totals = {}
    for count, at in times.items():
        row[f"render {count}"] = results.milliseconds(partial(model.render, *pair, motion, at))
        totals[count] = results.milliseconds(partial(model, *pair, at))
        row[f"ms per frame x{count + 1}"] = round(totals[count] / count, 4)
    row["ms per further frame"] = round((totals[23] - totals[1]) / 22, 4)
    row["ms per pair"] = round(totals[1] - row["ms per further frame"], 4)
    row["GB x24"] = results.peak_gigabytes(lambda: model(*pair, times[23]))
    if eager is not None:
        rendered = model.render(*pair, motion, times[7])
        row["equal to eager"] = [_are_equal(eager[0], repeated), _are_equal(eager[1], rendered)]
    row["estimate kernels"] = results.profile(estimate)
    row["render 7 kernels"] = results.profile(lambda: model.render(*pair, motion, times[7]))
    return row, (motion, frames)


def measure_small(results: Results) -> None:
    """RDVFI-S in half precision."""
    model = rdvfi.create_model("rdvfi-s", device=results.device, dtype=torch.float16)
    cuda = results.device.type == "cuda"
    _measure_model(results, "rdvfi-s float16", model, results.sizes if cuda else {"192x128": (128, 192)})


def measure_wan(results: Results) -> None:
    """RDVFI-D, random weights."""
    _measure_backbone(results, "rdvfi_d")


def measure_svd(results: Results) -> None:
    """RDVFI-U, random weights."""
    _measure_backbone(results, "rdvfi_u")


def _measure_backbone(results: Results, recipe: str) -> None:
    cuda = results.device.type == "cuda"
    torch.manual_seed(0)
    with torch.device(results.device):
        model = rdvfi.build(recipe, *(() if cuda else ("backbone.size=toy",)))
    dtype = torch.bfloat16 if cuda else torch.float32
    model = model.to(results.device, dtype).eval().requires_grad_(False)
    sizes = results.sizes if cuda else {"192x128": (128, 192)}
    _measure_model(results, f"{recipe} bfloat16, random weights", model, sizes)


def measure_rife(results: Results) -> None:
    """RIFE 4.25, one frame per pair: eagerly, compiled, and as a CUDA graph."""
    from rdvfi.evaluation.rife import RIFE

    cuda = results.device.type == "cuda"
    size = SIZES["1024x576"] if cuda else (128, 192)
    for dtype in (torch.float16, torch.float32) if cuda else (torch.float32,):
        method, time = RIFE(device=results.device, dtype=dtype), torch.tensor([0.5])
        pair = inputs.real_pair(size, results.device, dtype)
        name, row = f"rife 4.25 {str(dtype)[6:]} {size[1]}x{size[0]}", dict[str, Any]()

        def interpolate(
            method: RIFE = method, pair: list[torch.Tensor] = pair, time: torch.Tensor = time
        ) -> torch.Tensor:
            return method(*pair, time)

        def time_compiled(method: RIFE = method) -> float:
            method.network = torch.compile(method.network, backend="inductor" if cuda else "eager")
            return results.milliseconds(interpolate)

        modes: dict[str, Callable[[], Any]] = {
            "eager": partial(results.milliseconds, interpolate),
            "kernels": partial(results.profile, interpolate),
        }
        if cuda:
            modes["graph"] = lambda: results.milliseconds(_capture_graph(interpolate))
        for mode, measure in (modes | {"compiled": time_compiled}).items():
            try:
                row[mode] = measure()
            except Exception as error:  # the other modes are measured all the same
                row[mode] = repr(error)[:200]
            results[name] = row


def measure_video(results: Results) -> None:
    """A 1080p clip at x2 by RDVFI-S, with decoding and encoding, with and without those of the device."""
    cuda = results.device.type == "cuda"
    (height, width), count, rate = (SIZES["1920x1080"], 120, 30) if cuda else ((96, 160), 6, 30)
    codecs = ("h264", "auto") if cuda else ("h264",)
    model = rdvfi.create_model("rdvfi-s", device=results.device).optimize(graphs=cuda)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.mp4")
        _write_clip(source, inputs.clip_frames(count, (height, width)), (height, width), rate)
        for hwaccel, codec in itertools.product(("auto", "off"), codecs):
            row: dict[str, Any] = {}
            for run in ("first", "second"):  # the first records graphs
                options = {"hwaccel": hwaccel, "codec": codec, "multiplier": 2, "overwrite": True}
                report = rdvfi.interpolate_video(source, Path(folder, "out.mp4"), model=model, **options)
                row[f"seconds, {run} run"] = round(report.seconds, 3)
            row["written frames per second"] = round(report.frames_written / report.seconds, 1)
            row["times real time"] = round((count - 1) / rate / report.seconds, 3)
            results[f"video {width}x{height} x2, hwaccel {hwaccel}, codec {codec}"] = row
    results["video colours ms"] = _measure_colour_conversion(results, (height, width))


def _write_clip(path: Path, frames: Iterator[np.ndarray], size: tuple[int, int], rate: int) -> None:
    """Write 8-bit RGB frames as H.264, 4:2:0."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "18"})
        stream.pix_fmt, stream.height, stream.width = "yuv420p", *size
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def _measure_colour_conversion(results: Results, size: tuple[int, int]) -> dict[str, float]:
    """Times to convert one frame from and to 8-bit 4:2:0."""
    from rdvfi.ops.video_colour import rgb_to_video, video_to_rgb

    meaning = [0.2126, 0.0722, 16.0, 128.0, 219.0, 224.0, 0.0, 0.5]
    shapes = (size, *[(size[0] // 2, size[1] // 2)] * 2)
    planes = tuple(torch.full(shape, 120, dtype=torch.uint8, device=results.device) for shape in shapes)
    frame = torch.rand(3, *size, device=results.device).half()
    form: dict[str, Any] = {"packed": False, "bits": 8, "shift": 0, "meaning": meaning}
    return {
        "to RGB": results.milliseconds(lambda: video_to_rgb(planes, meaning, torch.float16)),  # pyright: ignore[reportArgumentType]
        "to planes": results.milliseconds(lambda: rgb_to_video(frame, size, (2, 2), **form)),
    }


def _capture_graph(call: Callable[[], Any]) -> Callable[[], None]:
    """Capture a call as a CUDA graph."""
    from rdvfi.graphs import CudaCapture

    return CudaCapture().record(call)[0]


PARTS: dict[str, Callable[[Results], Any]] = {
    "environment": record_environment,
    "kernel": measure_kernel,
    "small": measure_small,
    "wan": measure_wan,
    "svd": measure_svd,
    "rife": measure_rife,
    "video": measure_video,
}


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=os.environ.get("OUT", "out"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", default="1024x576,3840x2160", help="sizes for models")
    parser.add_argument("--parts", default="environment,kernel,small,wan")
    parser.add_argument("--seconds", type=float, default=1e9, help="time after which no part is started")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    results, start = (
        Results(arguments.output, torch.device(arguments.device), arguments.sizes.split(",")),
        time.monotonic(),
    )
    for name in arguments.parts.split(","):
        if time.monotonic() - start > arguments.seconds:
            results[f"{name} left out after s"] = round(time.monotonic() - start, 1)
            continue
        try:
            with torch.inference_mode():
                PARTS[name](results)
        except Exception as error:  # the other parts run all the same
            traceback.print_exc()
            results[f"{name} failed"] = repr(error)[:400]
        results[f"{name} done after s"] = round(time.monotonic() - start, 1)


if __name__ == "__main__":
    main()
