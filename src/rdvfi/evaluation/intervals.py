"""Bootstrap confidence intervals over clips, and paired differences between methods.

The unit that is drawn is the clip, where there are several, and the window where there is one: frames of
one clip are alike, so an interval over frames would be too narrow. `DRAWS` times as many units as there are
are drawn with replacement, the weighted mean is taken of each draw, and the interval holds the middle
95 per cent of them (percentile bootstrap; Efron and Tibshirani, An introduction to the bootstrap, 1993).
Two methods are compared on the same draws, so that what is hard for both cancels. The draws are seeded: the
same values give the same digits.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from rdvfi.evaluation.metrics.metric import Sample

DRAWS = 2000
LEVEL = 0.95
_SEED = 18

Interval = tuple[float, float]


def weighted_mean(samples: Sequence[Sample]) -> float:
    """The mean of all values by their weights; their plain mean where every weight is 0."""
    values = np.array([value for sample in samples for value in sample.values])
    weights = np.array([weight for sample in samples for weight in sample.weights])
    if not len(values):
        return float("nan")
    return float(np.average(values, weights=weights if weights.sum() > 0.0 else None))


def middle_mean(samples: Sequence[Sample]) -> float | None:
    """The mean over the middle frames alone, which some protocols report; None if windows have none."""
    if not samples or any(len(sample.values) % 2 == 0 for sample in samples):
        return None
    return float(np.mean([sample.values[len(sample.values) // 2] for sample in samples]))


def interval(samples: Sequence[Sample], units: Sequence[str]) -> Interval | None:
    """The bootstrap interval of `weighted_mean`; ``units`` names the unit of each sample. None for one unit."""
    totals = _totals(samples, units)
    return None if totals is None else _middle(_means(totals, _draws(len(totals))))


def paired_difference(
    ours: Sequence[Sample], other: Sequence[Sample], units: Sequence[str]
) -> tuple[float, Interval | None]:
    """How much larger the mean of ``ours`` is than that of ``other`` on the same windows, and its interval."""
    difference = weighted_mean(ours) - weighted_mean(other)
    first, second = _totals(ours, units), _totals(other, units)
    if first is None or second is None:
        return difference, None
    drawn = _draws(len(first))
    return difference, _middle(_means(first, drawn) - _means(second, drawn))


def _totals(samples: Sequence[Sample], units: Sequence[str]) -> Float[np.ndarray, "u 2"] | None:
    """Weighted sum and weight of every unit, in order of first appearance."""
    sums: dict[str, Float[np.ndarray, " 2"]] = {}
    for sample, unit in zip(samples, units, strict=True):
        values, weights = np.array(sample.values), np.array(sample.weights)
        sums[unit] = sums.get(unit, np.zeros(2)) + np.array([(values * weights).sum(), weights.sum()])
    if len(sums) < 2 or not all(weight > 0.0 for _, weight in sums.values()):
        return None
    return np.stack(list(sums.values()))


def _draws(units: int) -> Int[np.ndarray, "d u"]:
    return np.random.default_rng(_SEED).integers(units, size=(DRAWS, units))


def _means(totals: Float[np.ndarray, "u 2"], drawn: Int[np.ndarray, "d u"]) -> Float[np.ndarray, " d"]:
    sums = totals[drawn].sum(axis=1)
    return sums[:, 0] / sums[:, 1]


def _middle(means: Float[np.ndarray, " d"]) -> Interval:
    low, high = np.quantile(means, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)
