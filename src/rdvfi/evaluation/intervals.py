"""Bootstrap confidence intervals over clips, and paired differences between methods.

The resampled unit is the clip if there are several, else the window: frames of
one clip are correlated, so an interval over frames would be too narrow. In each of `RESAMPLES` rounds as many units as
there are are drawn with replacement, and their weighted mean is computed; the interval spans the central
95 per cent of these means (percentile bootstrap; Efron and Tibshirani, An introduction to the bootstrap, 1993).
Two methods are compared on the same resamples, so that differences in difficulty between units cancel. The resamples
are seeded: equal values give equal intervals.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from rdvfi.evaluation.metrics.metric import Sample

RESAMPLES = 2000
LEVEL = 0.95
_SEED = 18

Interval = tuple[float, float]


def weighted_mean(samples: Sequence[Sample]) -> float:
    """The weighted mean of all values; their plain mean if every weight is 0."""
    values = np.array([value for sample in samples for value in sample.values])
    weights = np.array([weight for sample in samples for weight in sample.weights])
    if not len(values):
        return float("nan")
    return float(np.average(values, weights=weights if weights.sum() > 0.0 else None))


def middle_mean(samples: Sequence[Sample]) -> float | None:
    """The mean over the middle frames, which some protocols report; None if a window has no middle frame."""
    if not samples or any(len(sample.values) % 2 == 0 for sample in samples):
        return None
    return float(np.mean([sample.values[len(sample.values) // 2] for sample in samples]))


def bootstrap_interval(samples: Sequence[Sample], units: Sequence[str]) -> Interval | None:
    """The bootstrap interval of `weighted_mean`; ``units`` names the unit of each sample. None for a single unit."""
    sums = _unit_sums(samples, units)
    return None if sums is None else _central_interval(_resampled_means(sums, _resample(len(sums))))


def paired_difference(
    ours: Sequence[Sample], other: Sequence[Sample], units: Sequence[str]
) -> tuple[float, Interval | None]:
    """The mean of ``ours`` minus that of ``other`` on the same windows, and its bootstrap interval."""
    difference = weighted_mean(ours) - weighted_mean(other)
    our_sums, other_sums = _unit_sums(ours, units), _unit_sums(other, units)
    if our_sums is None or other_sums is None:
        return difference, None
    indices = _resample(len(our_sums))
    return difference, _central_interval(_resampled_means(our_sums, indices) - _resampled_means(other_sums, indices))


def _unit_sums(samples: Sequence[Sample], units: Sequence[str]) -> Float[np.ndarray, "u 2"] | None:
    """Weighted sum and total weight of every unit, in order of first appearance; None if no interval is defined."""
    sums: dict[str, Float[np.ndarray, " 2"]] = {}
    for sample, unit in zip(samples, units, strict=True):
        values, weights = np.array(sample.values), np.array(sample.weights)
        sums[unit] = sums.get(unit, np.zeros(2)) + np.array([(values * weights).sum(), weights.sum()])
    if len(sums) < 2 or not all(weight > 0.0 for _, weight in sums.values()):
        return None
    return np.stack(list(sums.values()))


def _resample(units: int) -> Int[np.ndarray, "d u"]:
    return np.random.default_rng(_SEED).integers(units, size=(RESAMPLES, units))


def _resampled_means(sums: Float[np.ndarray, "u 2"], indices: Int[np.ndarray, "d u"]) -> Float[np.ndarray, " d"]:
    totals = sums[indices].sum(axis=1)
    return totals[:, 0] / totals[:, 1]


def _central_interval(means: Float[np.ndarray, " d"]) -> Interval:
    low, high = np.quantile(means, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)
