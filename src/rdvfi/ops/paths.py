"""Motion along the paths of points, by fixed-point iteration per pixel.

On a TARGET grid the flow of an instant belongs to the pixel, and which point is seen there has to be
found. Each function here finds it by a few fixed-point iterations of look-ups. They are written as
compositions of `backward_warp`, which is the definition and has gradients; on CUDA, where no gradient
is recorded, each is one or two kernels (`rdvfi.ops.kernels.paths_kernels`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import flow_length, pixel_grid
from rdvfi.ops.inference import inference_operator
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow, Flows, Times


def follow(
    start_flows: tuple[Flows, Flows], end_flows: tuple[Flows, Flows], start: Times, end: Times, *, iterations: int = 2
) -> Flows:
    """Shift of the points seen at time ``start`` until time ``end``, from their flows to both ends.

    A point keeps its origin in the first frame and its place in the last, so with ``F`` the flow
    to either of them its shift ``s`` satisfies ``F_start(y) = s + F_end(y + s)``. Both equations
    are joined with weights ``1 - end`` and ``end``; then the error of the guess cancels to first
    order for uniform motion, and the fixed-point iteration hardly needs to iterate.

    Args:
        start_flows: Flows to the first and to the last frame at ``start``, on its grid.
        end_flows: The same at ``end``.
        start: Times.
        end: Times.
        iterations: Fixed-point steps.
    """
    return _follow(*start_flows, *end_flows, start, end, iterations)


def _follow_reference(
    here0: Tensor, here1: Tensor, there0: Tensor, there1: Tensor, start: Tensor, end: Tensor, iterations: int
) -> Tensor:
    b, t = here0.shape[:2]
    weight = end[None, :, None, None, None]
    gap = weight - start[None, :, None, None, None]
    both = torch.cat((there0, there1), dim=2).flatten(0, 1)
    shift = gap * (here1 - here0)
    for _ in range(iterations):
        seen = backward_warp(both, shift.flatten(0, 1)).unflatten(0, (b, t))
        to_first, to_last = here0 - seen[:, :, :2], here1 - seen[:, :, 2:]
        shift = torch.lerp(to_first, to_last, weight)
    return shift


_follow = inference_operator("follow", _follow_reference, lambda here0, *_: here0.new_empty(here0.shape), "paths")


def confidence(first: Flows, last: Flows, onward: Flow, back: Flow) -> Float[Tensor, "b t 2 h w"]:
    """``exp(-e / 2)`` with ``e`` the forward-backward error of flows from instants to both ends.

    The flow to one end, followed by the end-to-end flow, must agree with the direct flow to the other end. A flow
    that leaves the image loses confidence with every pixel beyond the border.

    Args:
        first: Flows to the first frame.
        last: Flows to the last frame.
        onward: Flow from the first frame to the last.
        back: Flow from the last frame to the first.

    Returns:
        Confidence in the flow to the first frame (channel 0) and to the last, in (0, 1].
    """
    return _confidence(first, last, onward, back)


def _confidence_reference(first: Tensor, last: Tensor, onward: Tensor, back: Tensor) -> Tensor:
    return torch.stack((_end_confidence(first, onward, last), _end_confidence(last, back, first)), dim=2)


def _end_confidence(near: Tensor, across: Tensor, far: Tensor) -> Tensor:
    b, t = near.shape[:2]
    repeated = across[:, None].expand(b, t, *across.shape[1:]).flatten(0, 1)
    arrival = near + backward_warp(repeated, near.flatten(0, 1)).unflatten(0, (b, t))
    error = flow_length(arrival - far)[:, :, 0]
    return torch.exp(-0.5 * (error + _distance_beyond_border(near)))


def _distance_beyond_border(flow: Tensor) -> Tensor:
    """Distance of each sampling position from the image, in pixels."""
    h, w = flow.shape[-2:]
    x, y = (flow + pixel_grid(h, w, device=flow.device)).unbind(2)
    return (x - x.clamp(0.0, w - 1.0)).abs() + (y - y.clamp(0.0, h - 1.0)).abs()


_confidence = inference_operator(
    "confidence", _confidence_reference, lambda first, *_: first.new_empty(first.shape), "paths"
)


def flows_at(
    fields: Float[Tensor, "b k 4 h w"],
    steps: tuple[Float[Tensor, "b s 2 h w"], Float[Tensor, "b s 2 h w"]],
    errors: tuple[Float[Tensor, "b s 1 h w"], Float[Tensor, "b s 1 h w"]],
    knots: Float[Tensor, " k"],
    times: Times,
    weights: Float[Tensor, "t k"],
) -> Float[Tensor, "b t 4 h w"]:
    """Flows to both ends at any times, from the paths of the points of both neighbouring knots.

    See `rdvfi.motion.trajectory.point_following` for the fixed point and how its solutions are joined.

    Args:
        fields: Flows to the first frame, then to the last, at each knot.
        steps: The points' shifts from each knot but the last to the next, and from each but the first
            to the one before.
        errors: Two-way errors of these steps.
        knots: Times of the knots.
        times: When the flows are wanted.
        weights: The basis at these times; zero beyond two knots on either side.
    """
    return _flows_at(fields, *steps, *errors, knots, times, weights)


def _flows_at_reference(
    fields: Tensor,
    ahead: Tensor,
    behind: Tensor,
    ahead_error: Tensor,
    behind_error: Tensor,
    knots: Tensor,
    times: Tensor,
    weights: Tensor,
) -> Tensor:
    left = torch.searchsorted(knots, times, right=True).sub(1).clamp(0, knots.numel() - 2)
    share = ((times - knots[left]) / (knots[left + 1] - knots[left]))[:, None, None, None]
    opposite_before, opposite_after = share * behind[:, left], (1.0 - share) * ahead[:, left]
    total, flows = 0.0, 0.0
    for knot, proximity, shift, error, opposite_shift in (
        (left, 1.0 - share, _shift_from_left_knot(ahead, behind, left, weights), ahead_error, opposite_before),
        (left + 1, share, _shift_from_right_knot(ahead, behind, left + 1, weights), behind_error, opposite_after),
    ):
        inputs = torch.cat((fields[:, knot], shift, error[:, left]), dim=2)
        for guess in (-shift, opposite_shift):
            solved, trust = _solve_fixed_point(inputs, guess)
            trust = proximity * (trust + 1e-6)
            total, flows = total + trust, flows + trust * solved
    nearest = left + (times >= knots[left + 1])
    on_knot = (times == knots[nearest])[:, None, None, None]
    return torch.where(on_knot, fields[:, nearest], flows / total)


def _shift_from_left_knot(ahead: Tensor, behind: Tensor, at: Tensor, weights: Tensor) -> Tensor:
    """Shift of points of the left knot until each time, by the basis on up to four knots."""
    shift = _basis_weight(weights, at + 1) * ahead[:, at]
    if ahead.shape[1] > 1:
        two = _two_steps(ahead, at.clamp(max=ahead.shape[1] - 2), 1)
        shift = shift + _basis_weight(weights, at + 2) * two
        shift = shift + _basis_weight(weights, at - 1) * behind[:, (at - 1).clamp(min=0)]
    return shift


def _shift_from_right_knot(ahead: Tensor, behind: Tensor, at: Tensor, weights: Tensor) -> Tensor:
    """Shift of points of the right knot until each time."""
    shift = _basis_weight(weights, at - 1) * behind[:, at - 1]
    if behind.shape[1] > 1:
        two = _two_steps(behind, (at - 1).clamp(min=1), -1)
        shift = shift + _basis_weight(weights, at - 2) * two
        shift = shift + _basis_weight(weights, at + 1) * ahead[:, at.clamp(max=ahead.shape[1] - 1)]
    return shift


def _two_steps(single: Tensor, index: Tensor, direction: int) -> Tensor:
    """Shift over two intervals: the second is sampled at the target of the first."""
    first, second = single[:, index], single[:, (index + direction).clamp(min=0)]
    b, t = first.shape[:2]
    return first + backward_warp(second.flatten(0, 1), first.flatten(0, 1)).unflatten(0, (b, t))


def _basis_weight(weights: Tensor, knot: Tensor) -> Tensor:
    """The basis' weight of a knot for each time; zero for knots that do not exist."""
    count = weights.shape[1]
    inside = (knot >= 0) & (knot < count)
    rows = torch.arange(weights.shape[0], device=weights.device)
    return (weights[rows, knot.clamp(0, count - 1)] * inside)[:, None, None, None]


def _solve_fixed_point(inputs: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """One solution of the fixed-point equation: flows to both ends, and its confidence in (0, 1].

    ``inputs`` are, on a knot's grid, the flows to both ends, the shift of its points until the time,
    and the two-way error of its step to the other knot.
    """
    b, t = guess.shape[:2]
    flat_inputs, back = inputs.flatten(0, 1), guess.flatten(0, 1)
    for _ in range(2):
        back = -backward_warp(flat_inputs[:, 4:6], back)
    seen = backward_warp(flat_inputs, back)
    error = flow_length(back + seen[:, 4:6])
    flows = seen[:, :4] + back.repeat(1, 2, 1, 1)
    return flows.unflatten(0, (b, t)), torch.exp(-error - seen[:, 6:]).unflatten(0, (b, t))


_flows_at = inference_operator(
    "flows_at",
    _flows_at_reference,
    lambda fields, *rest: fields.new_empty((fields.shape[0], rest[-2].shape[0], *fields.shape[2:])),
    "paths",
    launches=2,
)
