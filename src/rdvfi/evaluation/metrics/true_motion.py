"""Motion errors against known motion: end-point error, and path error.

With ``F_0`` and ``F_1`` a method's flows from a new frame to the two ends (TARGET grid) and stars for the true ones:

* *EPE* is the mean of ``|F_0(y) - F_0*(y)|`` over the pixels y whose point is seen in the first frame, and of
  ``|F_1(y) - F_1*(y)|`` over those seen in the last, averaged, in pixels of the frames.
* *Path error* is how far from its true place a point of the first frame is drawn: with ``x = y + F_0*(y)`` the place in
  the first frame of the point truly seen at y, the drawn place y' solves ``y' + F_0(y') = x`` (a few fixed-point
  steps), and the error is ``|y' - y|``, in pixels of the frame; likewise for the last frame, and the mean of both.

Methods that draw without flows have neither.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.evaluation.metrics.metric import Better, MadeFrames, Metric, Sample, Values, metrics
from rdvfi.geometry import flow_length
from rdvfi.ops import backward_warp

_ITERATIONS = 8

Fields = Float[Tensor, "t 2 H W"]
Mask = Bool[Tensor, "t H W"]


def epe(flow: Fields, true: Fields, seen: Mask) -> Values:
    """Mean end-point error over the pixels that are ``seen``; 0 where there are none."""
    return _mean_over(flow_length(flow - true)[:, 0], seen)


def path_error(flow: Fields, true: Fields, seen: Mask) -> Values:
    """Mean distance of the place where a point is drawn from its true one; 0 where no pixel is ``seen``."""
    shift = torch.zeros_like(true)
    for _ in range(_ITERATIONS):
        shift = true - backward_warp(flow, shift)
    return _mean_over(flow_length(shift)[:, 0], seen)


def _mean_over(length: Float[Tensor, "t H W"], seen: Mask) -> Values:
    return (length * seen).sum(dim=(1, 2)) / seen.sum(dim=(1, 2)).clamp(min=1)


class _MotionError(Metric):
    better, decimals, needs_flows = Better.LOWER, 3, True
    error: Callable[[Fields, Fields, Mask], Values]

    def measure(self, made: MadeFrames) -> Sample:
        true = made.window.motion
        if made.flows is None or true is None:
            raise ValueError(f"{self.title} needs the flows of the method and the true ones")
        ends = zip(made.flows, (true.to_first, true.to_last), true.visible.unbind(dim=1), strict=True)
        first, last = (type(self).error(flows[0], exact, seen) for flows, exact, seen in ends)
        return Sample.of(0.5 * (first + last))


@metrics.register("epe")
class EPE(_MotionError):
    """End-point error of the flows to both ends."""

    title, error = "EPE px", staticmethod(epe)


@metrics.register("path-error")
class PathError(_MotionError):
    """Distance of points from their true paths."""

    title, error = "path error px", staticmethod(path_error)
