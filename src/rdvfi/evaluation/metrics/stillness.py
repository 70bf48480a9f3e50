"""Error of static regions.

A subtitle, a logo, bars, the background of a fixed camera: whatever is the same in **all** true frames of
a window must be the same in the new ones. An average over the whole picture hides a subtitle that is
drawn twice; this does not.
"""

import torch

from rdvfi.evaluation.metrics.metric import Better, MadeFrames, Metric, Sample, metrics

RESTS = 1.5 / 255.0
"""Pixels whose true values stay within this, over all frames of a window, are said to rest."""


@metrics.register("still-error")
class StillError(Metric):
    """Mean absolute error where nothing moves, in levels of 255; windows in which everything moves have none."""

    title, better, decimals = "still error", Better.LOWER, 3

    def measure(self, made: MadeFrames) -> Sample:
        _, true = made.sequences
        rests = ((true.amax(0) - true.amin(0)) < RESTS).all(0)
        if not bool(rests.any()):
            return Sample((), ())
        error = (made.frames - made.truth).abs().mean(1)
        return Sample.of(255.0 * torch.where(rests, error, 0.0).sum((1, 2)) / rests.sum())
