"""Running several methods on the same windows and computing all metrics.

Each method sees the 8-bit input frames in [0, 1] and a list of times. Its frames are rounded to 8
bits and compared with the true ones. Time is taken around the whole call, with the device
synchronised on both sides, after one call that is not counted; measuring is not part of it.

A method that fails is left out from there on, and its row says why; the others go on. So are
metrics: one that cannot be taken is named with its reason, and the rest are taken.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import FAILURES, Method
from rdvfi.evaluation.clip_evaluation import EvaluationWindow
from rdvfi.evaluation.cost import cost_of, now
from rdvfi.evaluation.intervals import interval, middle_mean, weighted_mean
from rdvfi.evaluation.metrics.fidelity import quantise
from rdvfi.evaluation.metrics.metric import DEFAULT, MadeFrames, Metric, Sample, SetMetric, create_metrics
from rdvfi.evaluation.results import Score, WindowRow, unit_names
from rdvfi.media.scene_cuts import has_cut

Observer = Callable[[Method, MadeFrames], None]
"""Called with what each method made in each window, for example to draw it."""


@dataclass(frozen=True)
class Measurement:
    """Scores, and on how much they were taken; ``sizes`` are (height, width), each once."""

    scores: tuple[Score, ...]
    sizes: tuple[tuple[int, int], ...]
    pairs: int
    frames: int
    skipped: int
    windows: tuple[WindowRow, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Metrics that could not be taken, and why."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames, the last one's if there are several."""
        return self.sizes[-1]


@dataclass
class _Tally:
    """What one method has scored so far: samples window by window, and milliseconds per new frame."""

    metrics: dict[str, Metric]
    samples: list[dict[str, Sample]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    failed: Exception | None = None

    def add(self, made: MadeFrames, seconds: float | None, unavailable: dict[str, str]) -> None:
        if seconds is not None:
            self.milliseconds.append(1000.0 * seconds / len(made.frames))
        found: dict[str, Sample] = {}
        for name, metric in self.metrics.items():
            if name in unavailable or (metric.needs_flows and made.flows is None):
                continue
            try:
                found[name] = metric.measure(made)
            except FAILURES as error:
                unavailable[name] = _reason(error)
        self.samples.append(found)

    def score(self, name: str, units: Sequence[str], unavailable: dict[str, str]) -> Score:
        if self.failed is not None:
            return Score(name, failed=_reason(self.failed))
        score = Score(name, ms_per_frame=median(self.milliseconds) if self.milliseconds else None)
        for metric_name, metric in self.metrics.items():
            if metric_name not in unavailable:
                self._summarise(score, metric_name, metric, units, unavailable)
        return score

    def _summarise(
        self, score: Score, name: str, metric: Metric, units: Sequence[str], unavailable: dict[str, str]
    ) -> None:
        if isinstance(metric, SetMetric):
            try:
                score.values[name] = metric.result()
            except FAILURES as error:
                unavailable[name] = _reason(error)
            return
        taken = [i for i, found in enumerate(self.samples) if name in found and found[name].values]
        samples = [self.samples[i][name] for i in taken]
        if not samples:
            return
        score.values[name] = weighted_mean(samples)
        if (between := interval(samples, [units[i] for i in taken])) is not None:
            score.intervals[name] = between
        if metric.per_frame and (middle := middle_mean(samples)) is not None:
            score.middle[name] = middle


def measure(
    windows: Iterable[EvaluationWindow],
    methods: Sequence[Method],
    *,
    device: torch.device,
    metrics: Sequence[str] = DEFAULT,
    skip_cuts: bool = False,
    on_window: Callable[[], None] | None = None,
    observe: Observer | None = None,
    describe: Callable[[EvaluationWindow], Mapping[str, float]] | None = None,
    cost_dtype: str | None = None,
) -> Measurement:
    """Run every method over every window.

    Args:
        windows: Pairs of inputs with the truth between them.
        methods: Methods with different names.
        device: Where the input frames are put, and networks of metrics run.
        metrics: Names of metrics.
        skip_cuts: Leave out windows in which the scene changes.
        on_window: Called after each window, for a progress bar.
        observe: Called with what each method made.
        describe: Gives properties of a window, such as the size of its motion, to group scores by.
        cost_dtype: Measure time and memory too, on the first window, and say that methods compute in this type.

    Raises:
        ValueError: If there is no window to measure, or a name is unknown.
        Exception: What the methods raised, if all of them failed: the first one's.
    """
    _check_names(methods)
    tallies, unavailable = _tallies(methods, metrics, device)
    rows: list[WindowRow] = []
    sizes: dict[tuple[int, int], None] = {}
    frames = skipped = 0
    first: EvaluationWindow | None = None
    for window in windows:
        if skip_cuts and has_cut(window.frames):
            skipped += 1
        else:
            for method in methods:
                _take(method, window, device, tallies[method.name], unavailable, warm_up=not rows, observe=observe)
            frames += len(window.frames) - 2
            first = first or window
            sizes[window.frames.shape[1], window.frames.shape[2]] = None
            rows.append(WindowRow(window.clip, window.first, dict(describe(window)) if describe else {}))
            _raise_if_none_is_left(tallies)
        if on_window is not None:
            on_window()
    if not rows:
        why = f"all {skipped} have a scene cut inside" if skipped else "the clip is too short"
        raise ValueError(f"no pair of frames to evaluate: {why}")
    units = unit_names(rows)
    scores = tuple(tally.score(name, units, unavailable) for name, tally in tallies.items())
    if cost_dtype is not None and first is not None:
        scores = tuple(_with_cost(*each, first, device, cost_dtype) for each in zip(scores, methods, strict=True))
    for name, tally in tallies.items():
        for row, found in zip(rows, tally.samples, strict=False):
            if tally.failed is None:
                row.samples[name] = {key: sample for key, sample in found.items() if sample.values}
    return Measurement(scores, tuple(sizes), len(rows), frames, skipped, tuple(rows), unavailable)


def usable_device(device: str | torch.device) -> torch.device:
    """The device, once it is clear that this machine has it; raises ValueError if there is no such device."""
    try:
        usable = torch.device(device)
        torch.zeros(1, device=usable)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"cannot use device {str(device)!r}: {why}") from error
    return usable


def _tallies(
    methods: Sequence[Method], names: Sequence[str], device: torch.device
) -> tuple[dict[str, _Tally], dict[str, str]]:
    """A tally for each method; each has its own metrics, since some of them keep what they saw."""
    made, unavailable = create_metrics(names, device=device)
    tallies = {}
    for method in methods:
        fresh, _ = create_metrics([name for name in made if isinstance(made[name], SetMetric)], device=device)
        tallies[method.name] = _Tally({**made, **fresh})
    return tallies, unavailable


def _take(
    method: Method,
    window: EvaluationWindow,
    device: torch.device,
    tally: _Tally,
    unavailable: dict[str, str],
    *,
    warm_up: bool,
    observe: Observer | None,
) -> None:
    """Have the method make its frames in one window, and measure them; a failure is kept."""
    if tally.failed is not None:
        return
    try:
        frames, seconds = _run(method, window, device, warm_up=warm_up)
        flows = _flows(method, window, device) if any(m.needs_flows for m in tally.metrics.values()) else None
    except FAILURES as error:
        tally.failed = error
        return
    made = MadeFrames(window, quantise(frames), flows)
    tally.add(made, seconds if method.timed else None, unavailable)
    if observe is not None:
        observe(method, made)


def _with_cost(score: Score, method: Method, window: EvaluationWindow, device: torch.device, dtype: str) -> Score:
    """The score with what the method costs, or why that is not known."""
    if score.failed is not None:
        return score
    method.begin(window)
    try:
        return replace(score, cost=cost_of(method, *window.inputs(device), dtype=dtype))
    except FAILURES as error:
        return replace(score, no_cost=_reason(error))


def _raise_if_none_is_left(tallies: Mapping[str, _Tally]) -> None:
    failures = [tally.failed for tally in tallies.values() if tally.failed is not None]
    if len(failures) == len(tallies):
        raise failures[0]


def _reason(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


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
    method.begin(window)
    if warm_up and method.warm_up:
        method(img0, img1, window.times)
    began = now(device)
    frames = method(img0, img1, window.times)
    seconds = now(device) - began
    expected = (1, len(window.times), *img0.shape[1:])
    if tuple(frames.shape) != expected:
        raise ValueError(f"{method.name} made frames of {tuple(frames.shape)}; expected {expected}")
    if not bool(frames.isfinite().all()):
        raise ValueError(f"{method.name} made frames with values that are not finite")
    return frames[0].detach().float().cpu(), seconds


def _flows(method: Method, window: EvaluationWindow, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The method's flows, where the window knows the true ones."""
    if window.motion is None:
        return None
    flows = method.flows(*window.inputs(device), window.times)
    return None if flows is None else (flows[0].cpu(), flows[1].cpu())
