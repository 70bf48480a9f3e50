"""Time and memory of a method, per pair and per frame, against resolution and number of frames.

A pair with n interpolated frames takes about ``fixed + n * extra``. Both are computed from the median times with one
frame and with n: ``extra = (t_n - t_1) / (n - 1)``, ``fixed = t_1 - extra``. A single figure, such as frames per
second at x8, does not distinguish the two.

Peak memory is the memory that a call allocates in addition to what was in use before: on CUDA by torch's allocator, on
a CPU (Linux only) by the process. For external programs it is the peak of the largest process.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float

from rdvfi._atomic import atomic
from rdvfi.compat import import_optional
from rdvfi.evaluation.method import METHOD_ERRORS, Method
from rdvfi.types import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_FRAMES = 7
DEFAULT_ROUNDS = 3
DEFAULT_WIDTHS = (576, 1024, 1280, 1920, 2560, 3840)
DEFAULT_FRAME_COUNTS = (1, 3, 7, 15, 23)


@dataclass(frozen=True)
class Cost:
    """Milliseconds and megabytes of one method at one size; ``size`` is (height, width)."""

    method: str
    fixed_ms: float
    extra_ms: float
    peak_mb: float | None
    frames: int
    size: tuple[int, int]
    device: str
    dtype: str


@dataclass(frozen=True)
class CostPoint:
    """One point of a sweep: the median milliseconds of a whole pair, or the reason why it failed."""

    method: str
    size: tuple[int, int]
    frames: int
    ms: float | None
    failed: str | None = None


def measure_cost(
    method: Method, img0: Image, img1: Image, *, dtype: str, frames: int = DEFAULT_FRAMES, rounds: int = DEFAULT_ROUNDS
) -> Cost:
    """The cost of a method on a pair, from medians over ``rounds`` calls; raises ValueError if it is not timed."""
    single_ms = _median_milliseconds(method, img0, img1, 1, rounds)
    total_ms = _median_milliseconds(method, img0, img1, frames, rounds)
    extra_ms = (total_ms - single_ms) / (frames - 1)
    peak_mb = _peak_megabytes(method, lambda: method(img0, img1, _uniform_times(frames)), img0.device)
    device = torch.cuda.get_device_name(img0.device) if img0.is_cuda else str(img0.device)
    h, w = img0.shape[-2:]
    return Cost(method.name, single_ms - extra_ms, extra_ms, peak_mb, frames, (h, w), device, dtype)


def sweep_cost(
    methods: Sequence[Method],
    img0: Image,
    img1: Image,
    *,
    widths: Sequence[int] = DEFAULT_WIDTHS,
    counts: Sequence[int] = DEFAULT_FRAME_COUNTS,
    rounds: int = DEFAULT_ROUNDS,
    known: Sequence[CostPoint] = (),
    on_point: Callable[[CostPoint], None] | None = None,
) -> Iterator[CostPoint]:
    """Times at several widths with `DEFAULT_FRAMES` frames, and with several numbers of frames at the pair's own size.

    The point of a method that fails at one size, for example out of memory, contains the reason. Points in
    ``known`` are not measured again; ``on_point`` is called with the others.
    """
    points = {(point.method, point.size, point.frames): point for point in known}
    h, w = img0.shape[-2:]
    tasks = [(_scale_to_width((h, w), width), DEFAULT_FRAMES) for width in widths] + [((h, w), n) for n in counts]
    for method in methods:
        for size, count in tasks:
            key = (method.name, size, count)
            if key not in points:
                points[key] = _measure_point(method, _resize(img0, size), _resize(img1, size), count, rounds)
                if on_point is not None:
                    on_point(points[key])
            yield points[key]


def _measure_point(method: Method, img0: Image, img1: Image, count: int, rounds: int) -> CostPoint:
    h, w = img0.shape[-2:]
    try:
        return CostPoint(method.name, (h, w), count, _median_milliseconds(method, img0, img1, count, rounds))
    except METHOD_ERRORS as error:
        return CostPoint(method.name, (h, w), count, None, (str(error) or type(error).__name__).splitlines()[0])


def plot_costs(points: Sequence[CostPoint], own_size: tuple[int, int]) -> "Figure":
    """Plot milliseconds per frame against width, and of a whole pair against the number of frames."""
    figures = import_optional("matplotlib.figure", "plots need", "'rdvfi[plot]'")
    figure = figures.Figure(figsize=(11, 4.5), layout="constrained")
    by_width, by_count = figure.subplots(1, 2)
    for name in dict.fromkeys(point.method for point in points):
        timed = [(point, point.ms) for point in points if point.method == name and point.ms is not None]
        for axes, line in (
            (by_width, {p.size[1]: ms / p.frames for p, ms in timed if p.frames == DEFAULT_FRAMES}),
            (by_count, {p.frames: ms for p, ms in timed if p.size == own_size}),
        ):
            if line:
                axes.plot(*zip(*sorted(line.items()), strict=True), marker="o", label=name)
    by_width.set(xlabel="width, pixels", ylabel=f"ms per new frame, {DEFAULT_FRAMES} new", xscale="log", yscale="log")
    by_count.set(xlabel="new frames of a pair", ylabel=f"ms for the pair, {own_size[1]}x{own_size[0]}", ylim=(0, None))
    by_width.yaxis.set_major_formatter("{x:g}")
    widths = sorted({point.size[1] for point in points if point.frames == DEFAULT_FRAMES})
    by_width.set_xticks(widths, [str(width) for width in widths], minor=False)
    by_width.minorticks_off()
    for axes in (by_width, by_count):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def save_cost_sweep(
    methods: Sequence[Method], img0: Image, img1: Image, path: Path, *, environment: str, **options: Any
) -> None:
    """Run `sweep_cost` with ``options``, and write its plot to ``path`` and its points to a JSON file beside it.

    The JSON file is rewritten after every point. Points that it already holds, measured in the same environment, are
    reused: an interrupted sweep is continued, and points of further methods are added.
    """
    json_path = path.with_suffix(".json")
    points = {(point.method, point.size, point.frames): point for point in _read_points(json_path, environment)}
    known = [point for point in points.values() if point.failed is None]
    for point in sweep_cost(methods, img0, img1, known=known, **options):
        points[point.method, point.size, point.frames] = point
        content = {"environment": environment, "points": [asdict(point) for point in points.values()]}
        with atomic(json_path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    figure = plot_costs(list(points.values()), (img0.shape[-2], img0.shape[-1]))
    figure.suptitle(environment, fontsize=8)
    with atomic(path) as partial:
        figure.savefig(partial, dpi=120)


def _read_points(path: Path, environment: str) -> list[CostPoint]:
    """The points of a sweep's JSON file; none if it does not exist or its environment differs."""
    if not path.is_file():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "points" not in content:
        raise ValueError(f"{path} exists and holds no sweep; choose another name for the plot")
    points = [CostPoint(**{**point, "size": tuple(point["size"])}) for point in content["points"]]
    return points if content.get("environment") == environment else []


def _uniform_times(count: int) -> torch.Tensor:
    return torch.arange(1, count + 1, dtype=torch.float32) / (count + 1)


def _median_milliseconds(method: Method, img0: Image, img1: Image, count: int, rounds: int) -> float:
    """The median duration of a call, after one that is not counted if the method needs it."""
    if not method.is_timed:
        raise ValueError("its frames are read from files, so their computation cannot be timed")
    times, durations = _uniform_times(count), []
    if method.needs_warm_up:
        method(img0, img1, times)
    for _ in range(rounds):
        start = synchronised_time(img0.device)
        method(img0, img1, times)
        durations.append(1000.0 * (synchronised_time(img0.device) - start))
    return median(durations)


def synchronised_time(device: torch.device) -> float:
    """Seconds of a monotonic clock, read after all work queued on the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _scale_to_width(size: tuple[int, int], width: int) -> tuple[int, int]:
    """(height, width) scaled to another width, with an even height."""
    return 2 * round(size[0] * width / size[1] / 2), width


def _resize(image: Image, size: tuple[int, int]) -> Float[torch.Tensor, "b 3 _ _"]:
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False).clamp(0.0, 1.0)


def _peak_megabytes(method: Method, call: Callable[[], object], device: torch.device) -> float | None:
    if method.is_external:
        return method.measure_memory(call)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    before = _reset_resident_peak()
    call()
    return None if before is None else max(0.0, _resident_megabytes("VmHWM") - before)


def _reset_resident_peak() -> float | None:
    """Reset the kernel's peak of resident memory and return the current value; None where this is not supported."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _resident_megabytes("VmRSS")
    except OSError:
        return None


def _resident_megabytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field))
