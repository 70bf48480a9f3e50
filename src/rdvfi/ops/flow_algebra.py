"""Chaining flows on the TARGET grid, and the straight line between two frames.

Chaining. ``F_k`` is the flow from grid k to the first frame and ``l`` that from grid k+1 to grid k; then

    F_{k+1}(y) = l(y) + F_k(y + l(y)).

Straight line. A point at ``x`` in the first frame that moves uniformly along the end-to-end flow ``V(x)`` is at ``y =
x + t V(x)`` at time t. Seen from pixel y of that instant, ``x = y - t V(x)`` is found by fixed-point iteration, and
the flows to the ends are ``-t V(x)`` and ``(1 - t) V(x)``. The flow back from the last frame gives a second estimate;
both are joined with weights 1 - t and t, so that each end is exact at its own time. Without any iteration ``V`` is
taken at ``y``: the well-known approximation of Super SloMo (Jiang et al., 2018, https://arxiv.org/abs/1712.00080).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.inference import inference_operator
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow, Flows, Times


def chain(step: Flow, flow: Flow) -> Flow:
    """Follow ``step`` from grid k+1 to grid k, then ``flow`` from grid k onwards."""
    return step + backward_warp(flow, step)


def straight_flows(forward: Flow, backward: Flow, times: Times, *, iterations: int = 3) -> tuple[Flows, Flows]:
    """Flows of uniform straight motion, from every instant to both ends, on the TARGET grid.

    Args:
        forward: Flow from the first frame to the last, on the grid of the first.
        backward: Flow from the last frame to the first, on the grid of the last.
        times: Times in [0, 1].
        iterations: Fixed-point steps.
    """
    both = _straight_flows(forward, backward, times.to(forward), iterations)
    return both[:, :, :2], both[:, :, 2:]


def _straight_reference(forward: Tensor, backward: Tensor, times: Tensor, iterations: int) -> Tensor:
    b, t = forward.shape[0], times.numel()
    tau = times[None, :, None, None, None]
    from_first = _resample_straight_flow(forward, tau, b, t, iterations)
    from_last = _resample_straight_flow(backward, 1.0 - tau, b, t, iterations)
    to_first = (1.0 - tau) * (-tau * from_first) + tau * (tau * from_last)
    to_last = (1.0 - tau) * ((1.0 - tau) * from_first) + tau * (-(1.0 - tau) * from_last)
    return torch.cat((to_first, to_last), dim=2)


def _resample_straight_flow(flow: Flow, share: Float[Tensor, "1 t 1 1 1"], b: int, t: int, iterations: int) -> Flows:
    """``flow`` of the point that is at each pixel after ``share`` of its motion."""
    repeated = flow[:, None].expand(b, t, *flow.shape[1:])
    velocity = repeated
    flows = repeated.flatten(0, 1)
    for _ in range(iterations):
        velocity = backward_warp(flows, (-share * velocity).flatten(0, 1)).unflatten(0, (b, t))
    return velocity


_straight_flows = inference_operator(
    "straight_flows",
    _straight_reference,
    lambda forward, _, times, __: forward.new_empty((forward.shape[0], times.shape[0], 4, *forward.shape[2:])),
    "paths",
    supports=lambda forward, *_: forward.dtype == torch.float32,
)
