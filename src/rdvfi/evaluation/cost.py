"""Time and memory of a method, per pair and per frame, against resolution and number of frames.

A pair with n new frames takes about ``fixed + n * extra``. Both follow from the median times with one new frame and
with n: ``extra = (t_n - t_1) / (n - 1)``, ``fixed = t_1 - extra``. One figure for both, such as frames per second at
x8, hides which of them a method is good at.

Peak memory is what a call takes beyond what was in use before it: on CUDA of the allocator, on a CPU (Linux only) of
the process; of programs run outside it is the whole memory of the largest of them.
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
from rdvfi.evaluation.baselines import FAILURES, Method
from rdvfi.types import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES = 7
ROUNDS = 3
WIDTHS = (576, 1024, 1280, 1920, 2560, 3840)
COUNTS = (1, 3, 7, 15, 23)


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
    """One measurement of a sweep: the median milliseconds of a whole pair, or why there is none."""

    method: str
    size: tuple[int, int]
    frames: int
    ms: float | None
    failed: str | None = None


def cost_of(
    method: Method, img0: Image, img1: Image, *, dtype: str, frames: int = FRAMES, rounds: int = ROUNDS
) -> Cost:
    """The cost of one method on a pair, in medians over ``rounds`` after one call that is not counted."""
    if not method.timed:
        raise ValueError("its frames lie ready, so making them takes no time here")
    one = _milliseconds(method, img0, img1, 1, rounds)
    many = _milliseconds(method, img0, img1, frames, rounds)
    extra = (many - one) / (frames - 1)
    peak = _peak_megabytes(method, lambda: method(img0, img1, _times(frames)), img0.device)
    device = torch.cuda.get_device_name(img0.device) if img0.is_cuda else str(img0.device)
    h, w = img0.shape[-2:]
    return Cost(method.name, one - extra, extra, peak, frames, (h, w), device, dtype)


def sweep(
    methods: Sequence[Method],
    img0: Image,
    img1: Image,
    *,
    widths: Sequence[int] = WIDTHS,
    counts: Sequence[int] = COUNTS,
    rounds: int = ROUNDS,
    known: Sequence[CostPoint] = (),
    on_point: Callable[[CostPoint], None] | None = None,
) -> Iterator[CostPoint]:
    """Times at several widths with `FRAMES` new frames, and with several numbers of frames at the pair's own size.

    A method that fails at one size, for example since memory runs out, has a point that says so. Points that
    are ``known`` are not taken again; ``on_point`` is called with the others.
    """
    taken = {(point.method, point.size, point.frames): point for point in known}
    own = img0.shape[-2:]
    tasks = [(_reduced(own, w), FRAMES) for w in widths] + [((own[0], own[1]), n) for n in counts]
    for method in methods:
        for size, count in tasks:
            key = (method.name, size, count)
            if key not in taken:
                taken[key] = _point(method, _resized(img0, size), _resized(img1, size), count, rounds)
                if on_point is not None:
                    on_point(taken[key])
            yield taken[key]


def _point(method: Method, first: Image, last: Image, count: int, rounds: int) -> CostPoint:
    h, w = first.shape[-2:]
    try:
        if not method.timed:
            raise ValueError("its frames lie ready")
        return CostPoint(method.name, (h, w), count, _milliseconds(method, first, last, count, rounds))
    except FAILURES as error:
        return CostPoint(method.name, (h, w), count, None, (str(error) or type(error).__name__).splitlines()[0])


def plot(points: Sequence[CostPoint], own_size: tuple[int, int]) -> "Figure":
    """Milliseconds per new frame against width, and of a whole pair against the number of frames.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = import_optional("matplotlib.figure", "plots need", "'rdvfi[plot]'").Figure(
        figsize=(11, 4.5), layout="constrained"
    )
    by_width, by_count = figure.subplots(1, 2)
    for name in dict.fromkeys(point.method for point in points):
        own = [point for point in points if point.method == name and point.ms is not None]
        wide = sorted({p.size[1]: (p.ms or 0.0) / p.frames for p in own if p.frames == FRAMES}.items())
        many = sorted({p.frames: p.ms or 0.0 for p in own if p.size == own_size}.items())
        by_width.plot(*zip(*wide, strict=True), marker="o", label=name) if wide else None
        by_count.plot(*zip(*many, strict=True), marker="o", label=name) if many else None
    by_width.set(xlabel="width, pixels", ylabel=f"ms per new frame, {FRAMES} new", xscale="log", yscale="log")
    by_count.set(xlabel="new frames of a pair", ylabel=f"ms for the pair, {own_size[1]}x{own_size[0]}", ylim=(0, None))
    by_width.yaxis.set_major_formatter("{x:g}")
    widths = sorted({point.size[1] for point in points if point.frames == FRAMES})
    by_width.set_xticks(widths, [str(width) for width in widths], minor=False)
    by_width.minorticks_off()
    for axes in (by_width, by_count):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def run_sweep(
    methods: Sequence[Method], img0: Image, img1: Image, path: Path, *, environment: str, **options: Any
) -> None:
    """`sweep`, with its ``options``, into a plot, ``path``; its points go as JSON beside it, with the environment.

    The JSON grows point by point. What it holds already, of the same environment, is not measured again: a sweep that
    was stopped goes on, and one of further methods joins.
    """
    data = path.with_suffix(".json")
    points = {(point.method, point.size, point.frames): point for point in _read_points(data, environment)}
    known = [point for point in points.values() if point.failed is None]
    for point in sweep(methods, img0, img1, known=known, **options):
        points[point.method, point.size, point.frames] = point
        content = {"environment": environment, "points": [asdict(point) for point in points.values()]}
        with atomic(data) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    figure = plot(list(points.values()), (img0.shape[-2], img0.shape[-1]))
    figure.suptitle(environment, fontsize=8)
    with atomic(path) as partial:
        figure.savefig(partial, dpi=120)


def _read_points(data: Path, environment: str) -> list[CostPoint]:
    """The points of a file of the same environment; none where there is no such file."""
    if not data.is_file():
        return []
    read = json.loads(data.read_text(encoding="utf-8"))
    if not isinstance(read, dict) or "points" not in read:
        raise ValueError(f"{data} is there and holds no sweep; name another plot")
    points = [CostPoint(**{**point, "size": tuple(point["size"])}) for point in read["points"]]
    return points if read.get("environment") == environment else []


def _times(count: int) -> torch.Tensor:
    return torch.arange(1, count + 1, dtype=torch.float32) / (count + 1)


def _milliseconds(method: Method, img0: Image, img1: Image, count: int, rounds: int) -> float:
    times, taken = _times(count), []
    for number in range(rounds + method.warm_up):
        began = now(img0.device)
        method(img0, img1, times)
        if number >= method.warm_up:
            taken.append(1000.0 * (now(img0.device) - began))
    return median(taken)


def now(device: torch.device) -> float:
    """Seconds of a clock, once the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reduced(size: Sequence[int], width: int) -> tuple[int, int]:
    """The size at another width, of an even height."""
    return 2 * round(size[0] * width / size[1] / 2), width


def _resized(image: Image, size: tuple[int, int]) -> Float[torch.Tensor, "b 3 _ _"]:
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False).clamp(0.0, 1.0)


def _peak_megabytes(method: Method, call: Callable[[], object], device: torch.device) -> float | None:
    if method.outside:
        return method.memory_of(call)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    before = _reset_resident_peak()
    call()
    return None if before is None else max(0.0, _resident("VmHWM") - before)


def _reset_resident_peak() -> float | None:
    """Megabytes resident now, once the kernel counts its peak anew; None where it does not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    except OSError:
        return None


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field))
