"""Temporal consistency: flicker, warping error, and the error of static regions.

*Flicker* is the mean over pixels of ``|D x_i - D y_i|`` in 8-bit steps, with x the made and y the true sequence and
``D x_i = x_(i-1) - 2 x_i + x_(i+1)`` the second difference in time. An error that stays the same from frame to frame
costs nothing here, one that comes and goes does; 0 for equal sequences.

*Warping error* (Lai et al., Learning blind video temporal consistency, ECCV 2018): the mean squared difference of each
frame and the next one warped back to it, over pixels that are not occluded. The flow is DIS flow of the **true**
frames, so that a method is not judged by the flow of its own frames. It is not 0 for the true frames.

*Still error* is that of pixels that are the same in **all** true frames of a window (a subtitle, a logo, bars, the
background of a fixed camera): an average over the whole picture hides a subtitle that is drawn twice.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import flows_between
from rdvfi.evaluation.metrics.metric import Better, Frames, MadeFrames, Metric, Sample, metrics
from rdvfi.geometry import stays_inside
from rdvfi.ops import backward_warp
from rdvfi.ops.occlusion import forward_backward_error

RESTS = 1.5 / 255.0
"""Pixels whose true values stay within this, over all frames of a window, are said to rest."""


@metrics.register("flicker")
class Flicker(Metric):
    """`flicker` of every frame between."""

    title, better, decimals = "flicker", Better.LOWER, 3

    def measure(self, made: MadeFrames) -> Sample:
        return Sample.of(flicker(*made.sequences))


def flicker(sequence: Frames, true: Frames) -> Float[Tensor, " m"]:
    """Mean difference of the second differences in time, in 8-bit steps, of every frame but the ends."""
    error = sequence - true
    second = error[:-2] - 2.0 * error[1:-1] + error[2:]
    return 255.0 * second.abs().mean(dim=(1, 2, 3))


@metrics.register("warping-error")
class WarpingError(Metric):
    """Mean squared difference along the true motion, times 1000."""

    title, better, decimals, per_frame = "warp error e-3", Better.LOWER, 3, False

    def measure(self, made: MadeFrames) -> Sample:
        """One value per step from frame to frame."""
        sequence, true = made.sequences
        onward, back = flows_between(true), flows_between(true, back=True)
        seen = stays_inside(onward) & (forward_backward_error(onward, back) < 1.0)
        warped = backward_warp(sequence[1:], onward)
        error = (sequence[:-1] - warped).square().mean(dim=1, keepdim=True)
        count = seen.sum(dim=(1, 2, 3))
        values = 1000.0 * (error * seen).sum(dim=(1, 2, 3)) / count.clamp(min=1)
        return Sample.of(values, count.to(torch.float32))


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
