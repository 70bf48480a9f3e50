"""The contract of a trajectory model, and of the trajectories that it returns."""

from dataclasses import replace

import torch
from torch import Tensor

from rdvfi.interfaces import FlowGrid, Keyframes, Reads, Trajectory, TrajectoryModel
from rdvfi.ops import backward_warp, paths
from rdvfi.testing.assertions import BATCH_TOLERANCE, CheckReport, assert_close, call_unchanged, check_field
from rdvfi.types import map_tensors


def check_trajectory(trajectory: Trajectory) -> None:
    """Check a trajectory: flows are float32, zero at their own end, continuous, and independent of the other times."""
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
    report = CheckReport("check_trajectory", trajectory)
    report.passed("shapes, float32, finite", "zero at its own end", "an instant needs no other", "continuous in time")
    report.passed("across, shift, velocity and confidence are those of the flows")
    report.print()


def _check_continuity(trajectory: Trajectory) -> None:
    """Assert that flows change little in 0.0002 of the time: by at most a twentieth of the largest flow."""
    times = torch.tensor([0.1249, 0.1251, 0.4999, 0.5001, 0.3, 0.3002])
    first, last = trajectory.at(times)
    largest = max(1.0, float(first.abs().max()), float(last.abs().max()))
    for flow in (first, last):
        jump = float((flow[:, 1::2] - flow[:, ::2]).abs().max())
        assert jump <= 0.05 * largest, f"flows must be continuous in time: a jump of {jump:.3g} px"


def _check_derived(trajectory: Trajectory, times: Tensor) -> None:
    """Assert that quantities derived from ``at`` are those of the interface, in case a class overrides them."""
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
    largest = max(1.0, float(first.abs().max()))
    assert float(moved[:, 1].abs().max()) <= 0.02 * largest, "shift from an instant to itself must be zero"
    assert_close(moved, Trajectory.shift(trajectory, start, end), tolerance=1e-3, law="shift must be that of the flows")
    error, size = _velocity_error(trajectory, 0.25, 0.005)
    assert error <= 0.1 * size + 0.001, f"velocity must be that of the points: off by {error:.3g} of {size:.3g} px"


def _velocity_error(trajectory: Trajectory, time: float, step: float) -> tuple[float, float]:
    """Median error, in pixels, of points moved by their velocity, and their median displacement."""
    moved = step * trajectory.velocity(torch.tensor([time]))[:, 0]
    before, after = (trajectory.at(torch.tensor([time + way]))[0][:, 0] for way in (-step, step))
    if trajectory.grid is FlowGrid.SOURCE:  # a pixel is a point
        error = after - before - 2 * moved
    else:  # a point keeps its origin in the first frame
        error = backward_warp(after, moved) - backward_warp(before, -moved) + 2 * moved
    return float(error.abs().median()), float(2 * moved.abs().median())


def check_trajectory_model(model: TrajectoryModel, keyframes: Keyframes) -> None:
    """Check a trajectory model: reversed keyframes give the same flows, swapped and mirrored; results repeat.

    Args:
        model: The trajectory model to check.
        keyframes: Keyframes with the inputs that it reads; see `some_keyframes`.
    """
    inputs = [keyframes.latents, keyframes.times]
    inputs += [] if keyframes.images is None else [keyframes.images]
    trajectory = call_unchanged(lambda *same: model(keyframes), *inputs)
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
    report = CheckReport("check_trajectory_model", model)
    report.passed("a Trajectory on the declared grid", "repeats", "arguments stay", "a batch does not matter")
    report.passed("time-symmetric")
    _check_declared_inputs(model, keyframes, times, first, report)
    _check_prior_direction(model, keyframes, first, report)
    report.print()


def _check_declared_inputs(
    model: TrajectoryModel, keyframes: Keyframes, times: Tensor, first: Tensor, report: CheckReport
) -> None:
    """Assert that the model reads no other inputs than it declares."""
    if model.reads is Reads.LATENTS and keyframes.images is not None:
        bare = model(replace(keyframes, images=None)).at(times)[0]
        assert torch.equal(bare, first), "reads is LATENTS, so images must not matter"
        report.passed("reads latents alone")
    if keyframes.prior is not None and not model.needs_prior:
        bare = model(replace(keyframes, prior=None)).at(times)[0]
        assert torch.isfinite(bare).all(), "needs_prior is False, so keyframes without one must do"
        report.passed("does without a prior")


def _check_prior_direction(model: TrajectoryModel, keyframes: Keyframes, first: Tensor, report: CheckReport) -> None:
    """Assert that the flows have the direction and length of a prior's motion, if the model follows it."""
    if keyframes.prior is None:
        report.skipped("direction of the motion", "these keyframes have no prior")
        return
    # On the TARGET grid, content that moves right is looked up to the left, so F_0 is negative at the end.
    known = torch.zeros_like(keyframes.prior.end_flows)
    known[:, 0, 0], known[:, 1, 0] = 6.0, -6.0
    known[:, 0, 1], known[:, 1, 1] = -3.0, 3.0
    ends = []
    for end_flows in (known, -known):
        prior = replace(keyframes.prior, end_flows=end_flows, residual_motion=None)
        trajectory = model(replace(keyframes, prior=prior))
        ends.append(trajectory.at(torch.ones(1))[0][:, 0].flatten(2).median(-1).values.mean(0))
    motion = (ends[0] - ends[1]) / 2  # the contribution of the latents is the same in both
    expected = first.shape[-1] / known.shape[-1] * torch.tensor([6.0, -3.0])
    expected = expected if model.grid is FlowGrid.SOURCE else -expected
    if float(motion.abs().max()) < 0.1 * float(expected.abs().max()):
        report.skipped("direction of the motion", "it does not follow the prior")
        return
    wrong = (-expected, expected.flip(0), -expected.flip(0), expected / 2)
    error = float((motion - expected).abs().max())
    assert error < min(float((motion - other).abs().max()) for other in wrong), (
        f"flows must have the direction and length of the prior: {motion.tolist()}, not {expected.tolist()}"
    )
    report.passed("direction and length of a prior's motion")
