"""The contract of a trajectory model, and of the trajectories that it makes."""

from dataclasses import replace

import torch
from torch import Tensor

from rdvfi.interfaces import FlowGrid, Keyframes, Reads, Trajectory, TrajectoryModel
from rdvfi.ops import backward_warp, paths
from rdvfi.testing.assertions import BATCH_TOLERANCE, Account, assert_close, check_field, unchanged
from rdvfi.types import map_tensors


def check_trajectory(trajectory: Trajectory) -> None:
    """Flows are float32, zero at their own end, continuous, and one instant needs no other."""
    times = torch.tensor([0.0, 0.123, 0.5, 0.77, 1.0])
    first, last = trajectory.at(times)
    assert first.shape == last.shape, "both flows must have one shape"
    assert first.shape[1:3] == (5, 2), f"flows must be (b, t, 2, h, w), got {tuple(first.shape)}"
    check_field(first, "flow to the first frame")
    check_field(last, "flow to the last frame")
    zero = torch.zeros_like(first[:, 0])
    assert_close(first[:, 0], zero, law="flow to the first frame must be zero at time 0")
    assert_close(last[:, -1], zero, law="flow to the last frame must be zero at time 1")
    one = trajectory.at(times[1:2])
    assert_close(one[0], first[:, 1:2], law="an instant must not depend on the others")
    assert_close(one[1], last[:, 1:2], law="an instant must not depend on the others")
    _check_continuity(trajectory)
    confidence = trajectory.confidence(times)
    assert confidence.shape == (*first.shape[:3], *first.shape[3:]), "confidence: (b, t, 2, h, w)"
    assert ((confidence >= 0) & (confidence <= 1)).all(), "confidence must be in [0, 1]"
    velocity = trajectory.velocity(times)
    assert velocity.shape == first.shape, "velocity must have the shape of a flow"
    assert torch.isfinite(velocity).all(), "velocity must be finite"
    _check_derived(trajectory, times)
    said = Account("check_trajectory", trajectory)
    said.holds("shapes, float32, finite", "zero at its own end", "an instant needs no other", "continuous in time")
    said.holds("across, shift, velocity and confidence are those of the flows")
    said.tell()


def _check_continuity(trajectory: Trajectory) -> None:
    """A thousandth of the time moves nothing further than a hundredth of the whole way."""
    times = torch.tensor([0.1249, 0.1251, 0.4999, 0.5001, 0.3, 0.3002])
    first, last = trajectory.at(times)
    whole = max(1.0, float(first.abs().max()), float(last.abs().max()))
    for flow in (first, last):
        jump = float((flow[:, 1::2] - flow[:, ::2]).abs().max())
        assert jump <= 0.05 * whole, f"flows must be continuous in time: a jump of {jump:.3g} px"


def _check_derived(trajectory: Trajectory, times: Tensor) -> None:
    """Quantities derived from ``at`` agree with the interface, where a class overrides their computation."""
    assert isinstance(trajectory.grid, FlowGrid), f"grid must be a FlowGrid, got {trajectory.grid!r}"
    to_first, to_last = trajectory.at(torch.tensor([0.0, 1.0]))
    onward, back = trajectory.across(times)
    law = "across must be the flows between both ends, each on its own grid"
    assert_close(onward, to_last[:, 0], tolerance=1e-4, law=law)
    assert_close(back, to_first[:, 1], tolerance=1e-4, law=law)
    first, last = trajectory.at(times)
    expected = paths.confidence(first, last, onward, back)
    law = "confidence must be that of the forward-backward error"
    assert_close(trajectory.confidence(times), expected, tolerance=1e-3, law=law)
    assert_close(trajectory.confidence(times, flows=(first, last)), expected, tolerance=1e-3, law=law)
    start, end = torch.tensor([0.2, 0.5]), torch.tensor([0.3, 0.5])
    moved = trajectory.shift(start, end)
    whole = max(1.0, float(first.abs().max()))
    assert float(moved[:, 1].abs().max()) <= 0.02 * whole, "shift from an instant to itself must be zero"
    assert_close(moved, Trajectory.shift(trajectory, start, end), tolerance=1e-3, law="shift must be that of the flows")
    off, size = _off_by_velocity(trajectory, 0.25, 0.005)
    assert off <= 0.1 * size + 0.001, f"velocity must be that of the points: off by {off:.3g} of {size:.3g} px"


def _off_by_velocity(trajectory: Trajectory, time: float, step: float) -> tuple[float, float]:
    """Median error of points moved by their velocity against the flows, and their median displacement."""
    moved = step * trajectory.velocity(torch.tensor([time]))[:, 0]
    before, after = (trajectory.at(torch.tensor([time + way]))[0][:, 0] for way in (-step, step))
    if trajectory.grid is FlowGrid.SOURCE:  # a pixel is a point
        missed = after - before - 2 * moved
    else:  # a point keeps its origin in the first frame
        missed = backward_warp(after, moved) - backward_warp(before, -moved) + 2 * moved
    return float(missed.abs().median()), float(2 * moved.abs().median())


def check_trajectory_model(model: TrajectoryModel, keyframes: Keyframes) -> None:
    """Keyframes played backwards give the same flows, swapped and mirrored; results repeat.

    Args:
        model: What is checked.
        keyframes: Of the kind that it reads; see `some_keyframes`.
    """
    inputs = [keyframes.latents, keyframes.times]
    inputs += [] if keyframes.images is None else [keyframes.images]
    trajectory = unchanged(lambda *same: model(keyframes), *inputs)
    assert isinstance(trajectory, Trajectory), "a trajectory model must return a Trajectory"
    assert trajectory.grid is model.grid, "a model must declare the grid of its trajectories"
    check_trajectory(trajectory)
    times = torch.tensor([0.0, 0.1, 0.43, 0.5, 0.81, 1.0])
    first, last = trajectory.at(times)
    again = model(keyframes).at(times)
    assert torch.equal(first, again[0]), "a trajectory must repeat bit for bit"
    assert torch.equal(last, again[1]), "a trajectory must repeat bit for bit"
    flipped_first, flipped_last = model(keyframes.flipped()).at(1 - times.flip(0))
    law = "flipped keyframes must give swapped, mirrored flows"
    assert_close(flipped_last.flip(1), first, law=law)
    assert_close(flipped_first.flip(1), last, law=law)
    one = map_tensors(keyframes, lambda part: part[1:2] if part.dim() > 1 else part)
    for alone, both in zip(model(one).at(times), (first, last), strict=True):
        assert_close(alone, both[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")
    said = Account("check_trajectory_model", model)
    said.holds("a Trajectory on the declared grid", "repeats", "arguments stay", "a batch does not matter")
    said.holds("time-symmetric")
    _check_reading(model, keyframes, times, first, said)
    said.tell()


def _check_reading(model: TrajectoryModel, keyframes: Keyframes, times: Tensor, first: Tensor, said: Account) -> None:
    """The model reads the inputs that it declares, and no others."""
    if model.reads is Reads.LATENTS and keyframes.images is not None:
        bare = model(replace(keyframes, images=None)).at(times)[0]
        assert torch.equal(bare, first), "reads is LATENTS, so images must not matter"
        said.holds("reads latents alone")
    if keyframes.prior is not None and not model.needs_prior:
        bare = model(replace(keyframes, prior=None)).at(times)[0]
        assert torch.isfinite(bare).all(), "needs_prior is False, so keyframes without one must do"
        said.holds("does without a prior")
    if keyframes.prior is None:
        said.skips("direction of the motion", "these keyframes have no prior")
        return
    # Content that goes right by the known shift is looked up to its left at the end, so F_0 is negative there.
    known = torch.zeros_like(keyframes.prior.end_flows)
    known[:, 0, 0], known[:, 1, 0] = 6.0, -6.0
    known[:, 0, 1], known[:, 1, 1] = -3.0, 3.0
    ends = []
    for way in (known, -known):
        made = model(replace(keyframes, prior=replace(keyframes.prior, end_flows=way, residual_motion=None)))
        ends.append(made.at(torch.ones(1))[0][:, 0].flatten(2).median(-1).values.mean(0))
    found = (ends[0] - ends[1]) / 2  # what comes of the latents is the same in both
    wanted = first.shape[-1] / known.shape[-1] * torch.tensor([6.0, -3.0])
    wanted = wanted if model.grid is FlowGrid.SOURCE else -wanted
    if float(found.abs().max()) < 0.1 * float(wanted.abs().max()):
        said.skips("direction of the motion", "it does not follow the prior")
        return
    right = float((found - wanted).abs().max())
    others = [float((found - wrong).abs().max()) for wrong in (-wanted, wanted.flip(0), -wanted.flip(0), wanted / 2)]
    assert right < min(others), (
        f"flows must have the direction and length of the prior: {found.tolist()}, not {wanted.tolist()}"
    )
    said.holds("direction and length of a prior's motion")
