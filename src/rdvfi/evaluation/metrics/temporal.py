"""Temporal consistency: flicker, warping error, and the error of static regions.

*Flicker* is the mean over pixels of ``|D x_i - D y_i|`` in 8-bit steps, with x the interpolated and y the true
sequence and ``D x_i = x_(i-1) - 2 x_i + x_(i+1)`` the second difference in time. It is insensitive to errors that are
constant in time, and 0 for equal sequences.

*Warping error* (Lai et al., Learning blind video temporal consistency, ECCV 2018): the mean squared difference of each
frame and the next one warped to it, over pixels that are not occluded. The flow is DIS flow of the **true**
frames, so it does not depend on the method. The true frames have a non-zero error.

*Still error* is the error of pixels that are equal in **all** true frames of a window (a subtitle, a logo, bars, the
background of a fixed camera). An average over the whole frame hardly shows a duplicated subtitle.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import consecutive_flows
from rdvfi.evaluation.metrics.metric import Better, Frames, Metric, Sample, WindowResult, metrics
from rdvfi.geometry import stays_inside
from rdvfi.ops import backward_warp
from rdvfi.ops.occlusion import forward_backward_error

STATIC_TOLERANCE = 1.5 / 255.0
"""Largest range of values over time of a pixel that counts as static."""


@metrics.register("flicker")
class Flicker(Metric):
    """`flicker` per interpolated frame."""

    title, better, decimals = "flicker", Better.LOWER, 3

    def measure(self, result: WindowResult) -> Sample:
        return Sample.of(flicker(*result.sequences))


def flicker(sequence: Frames, true: Frames) -> Float[Tensor, " m"]:
    """Mean absolute error of the second difference in time, in 8-bit steps, of every frame except both ends."""
    error = sequence - true
    second_difference = error[:-2] - 2.0 * error[1:-1] + error[2:]
    return 255.0 * second_difference.abs().mean(dim=(1, 2, 3))


@metrics.register("warping-error")
class WarpingError(Metric):
    """Mean squared difference along the true motion, times 1000."""

    title, better, decimals, per_frame = "warp error e-3", Better.LOWER, 3, False

    def measure(self, result: WindowResult) -> Sample:
        """One value per step from frame to frame."""
        sequence, true = result.sequences
        forward, backward = consecutive_flows(true), consecutive_flows(true, backward=True)
        visible = stays_inside(forward) & (forward_backward_error(forward, backward) < 1.0)
        warped = backward_warp(sequence[1:], forward)
        error = (sequence[:-1] - warped).square().mean(dim=1, keepdim=True)
        count = visible.sum(dim=(1, 2, 3))
        values = 1000.0 * (error * visible).sum(dim=(1, 2, 3)) / count.clamp(min=1)
        return Sample.of(values, count.to(torch.float32))


@metrics.register("still-error")
class StillError(Metric):
    """Mean absolute error of static pixels, in levels of 255; windows without static pixels have no value."""

    title, better, decimals = "still error", Better.LOWER, 3

    def measure(self, result: WindowResult) -> Sample:
        _, true = result.sequences
        static = ((true.amax(0) - true.amin(0)) < STATIC_TOLERANCE).all(0)
        if not bool(static.any()):
            return Sample((), ())
        error = (result.frames - result.truth).abs().mean(1)
        return Sample.of(255.0 * torch.where(static, error, 0.0).sum((1, 2)) / static.sum())
