"""Motion errors against known motion: end-point error, and path error.

``F_0`` and ``F_1`` are a method's flows from an interpolated frame to both ends (TARGET grid), and stars mark the true
ones.

* *EPE* is the mean of ``|F_0(y) - F_0*(y)|`` over the pixels y that are visible in the first frame, and of
  ``|F_1(y) - F_1*(y)|`` over those visible in the last, averaged, in pixels of the frames.
* *Path error* is the distance between the interpolated and the true position of a point of an end frame. The point
  that is truly at y is at ``x = y + F_0*(y)`` in the first frame; its interpolated position y' solves
  ``y' + F_0(y') = x`` (by fixed-point iteration), and the error is ``|y' - y|``, in pixels of the frame. It is averaged
  with that for the last frame.

Methods without flows have no value.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.evaluation.metrics.metric import Better, Metric, Sample, Values, WindowResult, metrics
from rdvfi.geometry import flow_length
from rdvfi.ops import backward_warp

_ITERATIONS = 8

Fields = Float[Tensor, "t 2 H W"]
Mask = Bool[Tensor, "t H W"]


def epe(flow: Fields, true: Fields, visible: Mask) -> Values:
    """Mean end-point error over the visible pixels; 0 if there are none."""
    return _masked_mean(flow_length(flow - true)[:, 0], visible)


def path_error(flow: Fields, true: Fields, visible: Mask) -> Values:
    """Mean distance between interpolated and true positions of the visible points; 0 if there are none."""
    shift = torch.zeros_like(true)
    for _ in range(_ITERATIONS):
        shift = true - backward_warp(flow, shift)
    return _masked_mean(flow_length(shift)[:, 0], visible)


def _masked_mean(length: Float[Tensor, "t H W"], mask: Mask) -> Values:
    return (length * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp(min=1)


class _MotionError(Metric):
    better, decimals, needs_flows = Better.LOWER, 3, True
    error: Callable[[Fields, Fields, Mask], Values]

    def measure(self, result: WindowResult) -> Sample:
        true = result.window.motion
        if result.flows is None or true is None:
            raise ValueError(f"{self.title} needs the flows of the method and the true ones")
        ends = zip(result.flows, (true.to_first, true.to_last), true.visible.unbind(dim=1), strict=True)
        first, last = (type(self).error(flows[0], exact, visible) for flows, exact, visible in ends)
        return Sample.of(0.5 * (first + last))


@metrics.register("epe")
class EPE(_MotionError):
    """Mean end-point error of the flows to both ends."""

    title, error = "EPE px", staticmethod(epe)


@metrics.register("path-error")
class PathError(_MotionError):
    """Distance of points from their true paths."""

    title, error = "path error px", staticmethod(path_error)
