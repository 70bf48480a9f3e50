"""Running several methods over the same windows, and measuring them alike.

Each method sees the 8-bit input frames in [0, 1] and a list of times. Its frames are rounded to 8
bits and compared with the true ones. Time is taken around the whole call, with the device
synchronised on both sides, after one call that is not counted; measuring is not part of it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import Method
from rdvfi.evaluation.clip_evaluation import EvaluationWindow
from rdvfi.evaluation.metrics import gradient_energy, psnr, quantise, ssim
from rdvfi.evaluation.piq_metrics import perceptual
from rdvfi.evaluation.results import Score
from rdvfi.media.scene_cuts import has_cut


@dataclass(frozen=True)
class Measurement:
    """Scores, and on how much they were taken; ``size`` is (height, width)."""

    scores: tuple[Score, ...]
    size: tuple[int, int]
    pairs: int
    frames: int
    skipped: int


@dataclass
class _Tally:
    """What one method has scored so far, frame by frame, and its milliseconds pair by pair."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    true_energy: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    fsim: list[float] = field(default_factory=list)
    vif: list[float] = field(default_factory=list)
    gmsd: list[float] = field(default_factory=list)

    def add(self, frames: Tensor, truth: Tensor, seconds: float, with_perceptual: bool) -> None:
        rounded = quantise(frames)
        self.psnr += psnr(rounded, truth).tolist()
        self.ssim += ssim(rounded, truth).tolist()
        self.energy += gradient_energy(rounded).tolist()
        self.true_energy += gradient_energy(truth).tolist()
        self.milliseconds.append(1000.0 * seconds / len(truth))
        if with_perceptual:
            scores = perceptual(rounded, truth)
            self.fsim += scores.fsim.tolist()
            self.vif += scores.vif.tolist()
            self.gmsd += scores.gmsd.tolist()

    def score(self, name: str) -> Score:
        true_energy = sum(self.true_energy)
        return Score(
            method=name,
            psnr=fmean(self.psnr),
            ssim=fmean(self.ssim),
            gradient_ratio=sum(self.energy) / true_energy if true_energy > 0.0 else 1.0,
            ms_per_frame=median(self.milliseconds),
            fsim=fmean(self.fsim) if self.fsim else None,
            vif=fmean(self.vif) if self.vif else None,
            gmsd=fmean(self.gmsd) if self.gmsd else None,
        )


def measure(
    windows: Iterable[EvaluationWindow],
    methods: Sequence[Method],
    *,
    device: torch.device,
    skip_cuts: bool = False,
    with_perceptual: bool = False,
    on_window: Callable[[], None] | None = None,
) -> Measurement:
    """Run every method over every window.

    Args:
        windows: Pairs of inputs with the truth between them.
        methods: Methods with different names.
        device: Where the input frames are put.
        skip_cuts: Leave out windows in which the scene changes.
        with_perceptual: Take FSIM, VIF and GMSD too.
        on_window: Called after each window, for a progress bar.

    Raises:
        ValueError: If there is no window to measure, or a method returns frames of a wrong shape
            or frames that are not numbers.
    """
    _check_names(methods)
    tallies = {method.name: _Tally() for method in methods}
    pairs = frames = skipped = 0
    size = (0, 0)
    for window in windows:
        if skip_cuts and has_cut(window.frames):
            skipped += 1
        else:
            truth = window.truth()
            for method in methods:
                new, seconds = _run(method, window, device, warm_up=pairs == 0)
                tallies[method.name].add(new, truth, seconds, with_perceptual)
            pairs, frames, size = pairs + 1, frames + len(truth), tuple(truth.shape[-2:])
        if on_window is not None:
            on_window()
    if pairs == 0:
        why = f"all {skipped} have a scene cut inside" if skipped else "the clip is too short"
        raise ValueError(f"no pair of frames to evaluate: {why}")
    scores = tuple(tally.score(name) for name, tally in tallies.items())
    return Measurement(scores, (size[0], size[1]), pairs, frames, skipped)


def usable_device(device: str | torch.device) -> torch.device:
    """The device, once it is clear that this machine has it.

    Raises:
        ValueError: If there is no such device.
    """
    try:
        usable = torch.device(device)
        torch.zeros(1, device=usable)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"cannot use device {str(device)!r}: {why}") from error
    return usable


def _check_names(methods: Sequence[Method]) -> None:
    names = [method.name for method in methods]
    if not names:
        raise ValueError("no methods to evaluate")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"methods need different names; given twice: {', '.join(twice)}")


def _run(
    method: Method, window: EvaluationWindow, device: torch.device, *, warm_up: bool
) -> tuple[Float[Tensor, "t 3 H W"], float]:
    """Frames of one window, on the CPU, and the seconds they took."""
    img0, img1 = window.inputs(device)
    if warm_up:
        method(img0, img1, window.times)
    _synchronise(device)
    began = time.perf_counter()
    frames = method(img0, img1, window.times)
    _synchronise(device)
    seconds = time.perf_counter() - began
    expected = (1, len(window.times), *img0.shape[1:])
    if tuple(frames.shape) != expected:
        raise ValueError(f"{method.name} made frames of {tuple(frames.shape)}; expected {expected}")
    if not bool(frames.isfinite().all()):
        raise ValueError(f"{method.name} made frames with values that are not finite")
    return frames[0].detach().float().cpu(), seconds


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
