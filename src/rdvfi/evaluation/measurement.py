"""Running several methods on the same windows and computing all metrics.

Each method receives the 8-bit input frames, scaled to [0, 1], and a list of times. Its frames are rounded to 8
bits and compared with the true ones. Time is measured around the whole call, with the device
synchronised before and after; metrics are computed outside of it. A method that needs it is called once before.

A method that fails is skipped from then on, and its score gives the reason; the others continue. Likewise
a metric that cannot be computed is reported with the reason, and the others are computed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.cost import measure_cost, synchronised_time
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.intervals import bootstrap_interval, middle_mean, weighted_mean
from rdvfi.evaluation.method import METHOD_ERRORS, Method
from rdvfi.evaluation.metrics.fidelity import quantise
from rdvfi.evaluation.metrics.metric import DEFAULT_METRICS, Metric, Sample, SetMetric, WindowResult, create_metrics
from rdvfi.evaluation.results import Score, WindowRow, bootstrap_units
from rdvfi.media.scene_cuts import has_cut

ResultCallback = Callable[[Method, WindowResult], None]
"""Called with the result of each method in each window, for example to save its frames."""


@dataclass(frozen=True)
class Measurement:
    """Scores of all methods, and the windows that they were computed on."""

    scores: tuple[Score, ...]
    sizes: tuple[tuple[int, int], ...]
    """All sizes of frames, as (height, width)."""
    pairs: int
    frames: int
    skipped: int
    windows: tuple[WindowRow, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Reasons why metrics could not be computed, by the name of the metric."""


@dataclass
class _MethodScores:
    """Collects the samples of one method, window by window. ``unavailable`` is shared by all methods."""

    method: Method
    metrics: dict[str, Metric]
    unavailable: dict[str, str]
    samples: list[dict[str, Sample]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    """Milliseconds per interpolated frame, window by window."""
    error: Exception | None = None

    def evaluate(self, window: EvaluationWindow, device: torch.device, *, warm_up: bool) -> WindowResult | None:
        """Run the method on one window and compute all metrics; None if the method has failed, now or before."""
        if self.error is not None:
            return None
        try:
            frames, seconds = _interpolate(self.method, window, device, warm_up=warm_up)
            flows = None
            if window.motion is not None and any(metric.needs_flows for metric in self.metrics.values()):
                flows = self.method.flows(*window.inputs(device), window.times)
        except METHOD_ERRORS as error:
            self.error = error
            return None
        if self.method.is_timed:
            self.milliseconds.append(1000.0 * seconds / len(frames))
        result = WindowResult(window, quantise(frames), None if flows is None else (flows[0].cpu(), flows[1].cpu()))
        self.samples.append(self._compute_metrics(result))
        return result

    def _compute_metrics(self, result: WindowResult) -> dict[str, Sample]:
        samples: dict[str, Sample] = {}
        for name, metric in self.metrics.items():
            if name in self.unavailable or (metric.needs_flows and result.flows is None):
                continue
            try:
                samples[name] = metric.measure(result)
            except METHOD_ERRORS as error:
                self.unavailable[name] = _error_text(error)
        return samples

    def score(self, units: Sequence[str]) -> Score:
        """The means over all windows; ``units`` are the bootstrap units of the windows."""
        name = self.method.name
        if self.error is not None:
            return Score(name, failed=_error_text(self.error))
        score = Score(name, ms_per_frame=median(self.milliseconds) if self.milliseconds else None)
        for metric_name, metric in self.metrics.items():
            if metric_name not in self.unavailable:
                self._add_value(score, metric_name, metric, units)
        return score

    def _add_value(self, score: Score, name: str, metric: Metric, units: Sequence[str]) -> None:
        if isinstance(metric, SetMetric):
            try:
                score.values[name] = metric.compute()
            except METHOD_ERRORS as error:
                self.unavailable[name] = _error_text(error)
            return
        measured = [i for i, samples in enumerate(self.samples) if name in samples and samples[name].values]
        if not measured:
            return
        samples = [self.samples[i][name] for i in measured]
        score.values[name] = weighted_mean(samples)
        if (interval := bootstrap_interval(samples, [units[i] for i in measured])) is not None:
            score.intervals[name] = interval
        if metric.per_frame and (middle := middle_mean(samples)) is not None:
            score.middle[name] = middle


def measure(
    windows: Iterable[EvaluationWindow],
    methods: Sequence[Method],
    *,
    device: torch.device,
    metrics: Sequence[str] = DEFAULT_METRICS,
    skip_cuts: bool = False,
    on_window: Callable[[], None] | None = None,
    on_result: ResultCallback | None = None,
    window_properties: Callable[[EvaluationWindow], Mapping[str, float]] | None = None,
    cost_dtype: str | None = None,
) -> Measurement:
    """Run every method over every window.

    Args:
        windows: Pairs of inputs with the true frames between them.
        methods: Methods with different names.
        device: Device of the input frames and of the networks of metrics.
        metrics: Names of metrics.
        skip_cuts: Skip windows in which the scene changes.
        on_window: Called after each window, for a progress bar.
        on_result: Called with each method and its result in each window.
        window_properties: Computes properties of a window, such as the size of its motion, to group scores by.
        cost_dtype: Measure time and memory too, on the first window, and report this as the methods' data type.

    Raises:
        ValueError: If there is no window to measure, or a name is unknown.
        Exception: The error of the first method, if all of them failed.
    """
    _check_names(methods)
    collected, unavailable = _create_scores(methods, metrics, device)
    rows: list[WindowRow] = []
    sizes: dict[tuple[int, int], None] = {}
    frames = skipped = 0
    first: EvaluationWindow | None = None
    for window in windows:
        if skip_cuts and has_cut(window.frames):
            skipped += 1
        else:
            for scores in collected:
                result = scores.evaluate(window, device, warm_up=not rows)
                if on_result is not None and result is not None:
                    on_result(scores.method, result)
            errors = [scores.error for scores in collected if scores.error is not None]
            if len(errors) == len(collected):
                raise errors[0]
            frames += len(window.frames) - 2
            first = first or window
            sizes[window.frames.shape[1], window.frames.shape[2]] = None
            properties = {} if window_properties is None else dict(window_properties(window))
            rows.append(WindowRow(window.clip, window.first, properties))
        if on_window is not None:
            on_window()
    if first is None:
        reason = f"all {skipped} have a scene cut inside" if skipped else "the clip is too short"
        raise ValueError(f"no pair of frames to evaluate: {reason}")
    units = bootstrap_units(rows)
    means = [scores.score(units) for scores in collected]
    if cost_dtype is not None:
        means = [_add_cost(*pair, first, device, cost_dtype) for pair in zip(means, methods, strict=True)]
    for scores in collected:
        if scores.error is None:
            for row, samples in zip(rows, scores.samples, strict=True):
                row.samples[scores.method.name] = {name: sample for name, sample in samples.items() if sample.values}
    return Measurement(tuple(means), tuple(sizes), len(rows), frames, skipped, tuple(rows), unavailable)


def resolve_device(device: str | torch.device) -> torch.device:
    """The device, if tensors can be created on it; raises ValueError otherwise."""
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot use device {str(device)!r}: {reason}") from error
    return resolved


def _create_scores(
    methods: Sequence[Method], names: Sequence[str], device: torch.device
) -> tuple[list[_MethodScores], dict[str, str]]:
    """Empty scores of every method, and why metrics are unavailable.

    A `SetMetric` has a state, so each method has its own.
    """
    shared, unavailable = create_metrics(names, device=device)
    set_metrics = [name for name, metric in shared.items() if isinstance(metric, SetMetric)]
    return [
        _MethodScores(method, {**shared, **create_metrics(set_metrics, device=device)[0]}, unavailable)
        for method in methods
    ], unavailable


def _add_cost(score: Score, method: Method, window: EvaluationWindow, device: torch.device, dtype: str) -> Score:
    """The score with the cost of the method, or with the reason why it is unknown."""
    if score.failed is not None:
        return score
    method.prepare(window)
    try:
        return replace(score, cost=measure_cost(method, *window.inputs(device), dtype=dtype))
    except METHOD_ERRORS as error:
        return replace(score, no_cost=_error_text(error))


def _error_text(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def _check_names(methods: Sequence[Method]) -> None:
    names = [method.name for method in methods]
    if not names:
        raise ValueError("no methods to evaluate")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"methods need different names; given twice: {', '.join(duplicates)}")


def _interpolate(
    method: Method, window: EvaluationWindow, device: torch.device, *, warm_up: bool
) -> tuple[Float[Tensor, "t 3 H W"], float]:
    """The frames of one window, on the CPU, and the duration of the call in seconds."""
    img0, img1 = window.inputs(device)
    method.prepare(window)
    if warm_up and method.needs_warm_up:
        method(img0, img1, window.times)
    start = synchronised_time(device)
    frames = method(img0, img1, window.times)
    seconds = synchronised_time(device) - start
    method.check_frames(frames, img0, window.times)
    if not bool(frames.isfinite().all()):
        raise ValueError(f"{method.name} returned frames with values that are not finite")
    return frames[0].detach().float().cpu(), seconds
