"""RDVFI-D and RDVFI-U: encoding, the diffusion step, motion, rendering, and whole pairs.

All weights are RANDOM, which does not affect speed. Each time is accompanied by its operations and bytes, and by the
roofline of the hardware, measured in the same run or given (``--peak-tflops``, ``--bandwidth-gbs``).

Full size runs on a GPU, in bfloat16, batch 1. On a CPU toy sizes run instead, to test the benchmarks;
full size is counted there without being run, and one full-size step is a smoke test
(``-m slow``).
"""

import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import counting
import rdvfi
from rdvfi.backbones.wan import folded
from rdvfi.interfaces import KeyframeGenerator
from rdvfi.interpolator import Interpolator
from rdvfi.testing import smooth_noise

MODELS = {"RDVFI-D": "rdvfi_d", "RDVFI-U": "rdvfi_u"}
TOY = ("backbone.size=toy",)
SIZES = {
    "576x320": (320, 576),
    "1024x576": (576, 1024),
    "1280x720": (720, 1280),
    "3840x2160": (2160, 3840),
}
MOTION_SIZE = (256, 448)
"""The motion size of all sizes above."""
GAPS = (8, 24)

SPEED_UPS = ("plain", "optimized", "compiled", "graphs")
"""Each includes those before it: none; precomputed constants; torch.compile; CUDA graphs."""

TimeCall = Callable[[str, Callable[[], Any]], None]

_full = pytest.param("full", marks=pytest.mark.gpu)


def _parametrize(names: Any, values: Any, **more: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, values, scope="module", **more)


models = _parametrize("recipe", MODELS.values(), ids=MODELS)
scales = _parametrize("scale", ["toy", _full])
sizes = pytest.mark.parametrize(
    "size",
    [pytest.param(s, id=n, marks=() if n == "576x320" else pytest.mark.gpu) for n, s in SIZES.items()],
)
speed_ups = pytest.mark.parametrize(
    "speed_up",
    [pytest.param(s, marks=pytest.mark.gpu if s in SPEED_UPS[2:] else ()) for s in SPEED_UPS],
)


@pytest.fixture(scope="module")
def hardware(device: torch.device, pytestconfig: pytest.Config) -> counting.Hardware:
    measured = counting.measure_hardware(device, _dtype(device))
    peak, bandwidth = (pytestconfig.getoption(n) for n in ("--peak-tflops", "--bandwidth-gbs"))
    return counting.Hardware(
        measured.peak if peak is None else 1e12 * peak,
        measured.bandwidth if bandwidth is None else 1e9 * bandwidth,
    )


@pytest.fixture(scope="module")
def model(recipe: str, scale: str, device: torch.device) -> Iterator[Interpolator]:
    """The model with random weights; deleted before the next one is built."""
    torch.manual_seed(0)
    with torch.device(device):
        model = rdvfi.build(recipe, *(TOY if scale == "toy" else ()))
    yield model.to(device, _dtype(device)).eval().requires_grad_(False)
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


@torch.no_grad()
def _prepare_generator(generator: KeyframeGenerator, speed_up: str) -> Callable[..., Any]:
    """The generator's ``forward``, optimised."""
    generator.train().eval()  # train() discards previous preparations
    if speed_up == "plain":
        return generator.forward
    generator.optimize()  # pyright: ignore[reportCallIssue]
    if speed_up == "optimized":
        return generator.forward
    mode = "reduce-overhead" if speed_up == "graphs" else "default"
    return torch.compile(generator.forward, mode=mode, fullgraph=True)


def _motion_inputs(model: Interpolator) -> tuple[Tensor, Tensor, Tensor]:
    """Two frames at motion size, and noise."""
    images = [smooth_noise(1, 3, *MOTION_SIZE, seed=seed).sigmoid() for seed in (0, 1)]
    noise = torch.randn(model.generator.noise_shape(1, *MOTION_SIZE))
    first, last, noise = (x.to(model.device, model.dtype) for x in (*images, noise))
    return first, last, noise


def _frames(model: Interpolator, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    first, last = (smooth_noise(1, 3, *size, seed=seed).sigmoid() for seed in (0, 1))
    return first.to(model.device, model.dtype), last.to(model.device, model.dtype)


def _times(gap: int, device: torch.device) -> Tensor:
    return torch.arange(1, gap, device=device) / gap


def _record(benchmark: BenchmarkFixture, model: Interpolator, **more: Any) -> None:
    benchmark.extra_info.update(weights="random", dtype=str(model.dtype).removeprefix("torch."), batch=1, **more)


@models
@scales
@speed_ups
def bench_keyframes(
    time_call: TimeCall,
    benchmark: BenchmarkFixture,
    hardware: counting.Hardware,
    model: Interpolator,
    speed_up: str,
) -> None:
    """Encoding of both frames, and the diffusion step."""
    images, generator = _motion_inputs(model), model.generator
    call = _prepare_generator(generator, speed_up)
    counts = counting.count(lambda: generator(*images))
    _record(benchmark, model, **counting.to_record(counts, hardware))
    time_call("keyframes, once per pair: encode 2 frames + step", lambda: call(*images))


@models
@scales
def bench_keyframes_in_a_stream(
    time_call: TimeCall,
    benchmark: BenchmarkFixture,
    hardware: counting.Hardware,
    model: Interpolator,
) -> None:
    """The same with the first frame's latents from the previous pair."""
    img0, img1, noise = _motion_inputs(model)
    generator = model.generator
    _prepare_generator(generator, "optimized")
    with torch.no_grad():
        first = generator.encode(img0)

    def call() -> Any:
        return generator(img0, img1, noise, latent0=first)

    _record(benchmark, model, **counting.to_record(counting.count(call), hardware))
    time_call("keyframes, once per pair: encode 1 frame + step", call)


@models
@scales
@pytest.mark.parametrize("speed_up", ["plain", "optimized"])
def bench_encode(
    time_call: TimeCall,
    benchmark: BenchmarkFixture,
    hardware: counting.Hardware,
    model: Interpolator,
    speed_up: str,
) -> None:
    """One frame to its latents."""
    image, generator = _motion_inputs(model)[0], model.generator
    _prepare_generator(generator, speed_up)

    def call() -> Tensor:
        return generator.encode(image)

    _record(benchmark, model, **counting.to_record(counting.count(call), hardware))
    time_call("encode, per frame", call)


@models
@scales
def bench_motion(
    time_call: TimeCall,
    benchmark: BenchmarkFixture,
    hardware: counting.Hardware,
    model: Interpolator,
) -> None:
    """From keyframes to a trajectory."""
    with torch.no_grad():
        keyframes = model.generator(*_motion_inputs(model))

    def call() -> Any:
        return model.trajectory(keyframes)

    counts = counting.count(call)
    _record(benchmark, model, **counting.to_record(counts, hardware))
    time_call("motion, once per pair", call)


@models
@scales
@sizes
@pytest.mark.parametrize("gap", GAPS)
def bench_render(
    time_call: TimeCall,
    benchmark: BenchmarkFixture,
    hardware: counting.Hardware,
    model: Interpolator,
    size: tuple[int, int],
    gap: int,
) -> None:
    """All frames of a pair with known motion."""
    images, times = _frames(model, size), _times(gap, model.device)
    with torch.no_grad():
        motion = model.estimate(*images)

    def call() -> Tensor:
        return model.render(*images, motion, times)

    counts = counting.count(call)
    _record(benchmark, model, new_frames=gap - 1, **counting.to_record(counts, hardware))
    time_call(f"render {gap - 1} frames", call)


@models
@scales
@sizes
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("speed_up", ["plain", pytest.param("graphs", marks=pytest.mark.gpu)])
def bench_whole(
    time_call: TimeCall,
    benchmark: BenchmarkFixture,
    model: Interpolator,
    size: tuple[int, int],
    gap: int,
    speed_up: str,
) -> None:
    """From two frames to all interpolated ones."""
    images, times = _frames(model, size), _times(gap, model.device)
    generator = model.generator
    generator.forward = _prepare_generator(generator, speed_up)  # pyright: ignore[reportAttributeAccessIssue]
    _record(benchmark, model, new_frames=gap - 1)
    try:
        time_call(f"whole, {gap - 1} frames", lambda: model(*images, times))
    finally:
        del generator.forward


FULL_BACKBONES = {"wan": "RDVFI-D", "svd": "RDVFI-U"}
full_backbones = pytest.mark.parametrize("backbone", FULL_BACKBONES, ids=FULL_BACKBONES.values())


@full_backbones
@pytest.mark.parametrize("speed_up", ["plain", "optimized"])
def bench_count_full_size(
    benchmark: BenchmarkFixture,
    hardware: counting.Hardware,
    monkeypatch: pytest.MonkeyPatch,
    backbone: str,
    speed_up: str,
) -> None:
    """Operations and bytes of the full-size networks, computed on the meta device."""
    # Meta tensors cannot be compared. The rows of the context are all zero, so there is one distinct row.
    monkeypatch.setattr(folded, "distinct_rows", _one_row)
    with torch.device("meta"):
        generator = rdvfi.backbones.create(backbone)
    generator.to("meta").to(torch.bfloat16).eval().requires_grad_(False)
    if speed_up == "optimized":
        generator.optimize()  # pyright: ignore[reportCallIssue]
    options: dict[str, Any] = {"device": "meta", "dtype": torch.bfloat16}
    images = [torch.empty(1, 3, *MOTION_SIZE, **options) for _ in range(2)]
    noise = torch.empty(generator.noise_shape(1, *MOTION_SIZE), **options)
    benchmark.group = "operations and bytes of keyframes at full size (time is that of counting)"
    counts = benchmark.pedantic(lambda: counting.count(lambda: generator(*images, noise)), rounds=1)
    benchmark.extra_info.update(weights="none", **counting.to_record(counts, hardware))


def _one_row(context: Tensor) -> tuple[Tensor, Tensor]:
    return context[:1], torch.full((1,), float(len(context)), device=context.device)


@pytest.mark.slow
@full_backbones
@torch.no_grad()
def bench_full_size_step_smoke(benchmark: BenchmarkFixture, backbone: str) -> None:
    """One full-size pair in bfloat16 needs less than 10 GB; it takes minutes on a CPU."""
    generator = rdvfi.backbones.create(backbone).to(torch.bfloat16).eval().requires_grad_(False)
    images = [smooth_noise(1, 3, *MOTION_SIZE, seed=s).sigmoid().bfloat16() for s in (0, 1)]
    noise = torch.randn(generator.noise_shape(1, *MOTION_SIZE)).bfloat16()
    keyframes = benchmark.pedantic(generator, (*images, noise), rounds=1)
    assert keyframes.latents.isfinite().all()
    assert keyframes.latents.shape[3:] == (32, 56)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    benchmark.extra_info.update(weights="random", dtype="bfloat16", peak_rss_gb=round(peak, 2))
    assert peak < 10.0
