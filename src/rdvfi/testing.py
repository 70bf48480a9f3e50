"""Checks of the contracts: what every registered component promises, as plain functions.

A plug-in is tested by one line in its own repository::

    def test_my_flow():
        rdvfi.testing.check_flow(rdvfi.flows.create("mine"))

Each check raises `AssertionError` with the law that was broken, and prints which laws hold and which it
could not look at (pytest shows that with ``-s`` or ``-rP``). They hold for any weights, so run
them on fresh and on trained components alike; inputs are small and a check takes well under a
second for a small network.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from rdvfi._generator_laws import (
    check_decoder,
    check_denoising,
    check_keyframes,
    check_known_latents,
    check_noise_process,
    noise_for,
)
from rdvfi._known_motion import check_drawn_motion, check_known_flow, check_prior, estimates_at_once
from rdvfi._laws import BATCH_TOLERANCE, Account, check_field, unchanged
from rdvfi._laws import TOLERANCE as TOLERANCE
from rdvfi._laws import assert_close as assert_close
from rdvfi._samples import SmoothTrajectory as SmoothTrajectory
from rdvfi._samples import smooth_noise as smooth_noise
from rdvfi._samples import some_keyframes as some_keyframes
from rdvfi._samples import some_motion as some_motion
from rdvfi.interfaces import (
    Basis,
    FlowEstimator,
    FlowGrid,
    KeyframeGenerator,
    Keyframes,
    Motion,
    Reads,
    Renderer,
    Trajectory,
    TrajectoryModel,
)
from rdvfi.ops import backward_warp, paths
from rdvfi.scene_decision import SceneDecision


def check_basis(basis: Basis, *, interpolates: bool = True) -> None:
    """Rows of the weight matrix sum to one; interpolating bases return the knots' own values.

    Args:
        basis: What is checked.
        interpolates: Whether it passes through every knot; if not, through both ends at least.
    """
    times = torch.linspace(0, 1, 23, dtype=torch.float64)
    uneven = torch.tensor([0.0, 0.1, 0.35, 0.5, 0.6, 0.9, 1.0], dtype=torch.float64)
    for knots in (torch.linspace(0, 1, 9, dtype=torch.float64), uneven, uneven[[0, -1]]):
        count = len(knots)
        weights = unchanged(basis.weights, knots, times)
        assert torch.equal(weights, basis.weights(knots, times)), "weights must repeat bit for bit"
        assert weights.dtype == times.dtype, f"weights must have the type of the times, got {weights.dtype}"
        assert {0, count - 1} <= set(basis.used(count)), "`used` must include both ends"
        assert set(basis.used(count)) <= set(range(count)), "`used` must be indices of knots"
        assert weights.shape == (len(times), count), "weights must have shape (T, K)"
        assert_close(weights.sum(1), torch.ones_like(times), law="rows must sum to one")
        unused = sorted(set(range(count)) - set(basis.used(count)))
        assert not weights[:, unused].any(), "knots outside `used` must have no weight"
        _check_reach(basis, weights, knots, times)
        kept = torch.arange(count) if interpolates else torch.tensor([0, count - 1])
        at_knots = basis.weights(knots, knots[kept])
        identity = torch.eye(count, dtype=knots.dtype)[kept]
        assert_close(at_knots, identity, law="a knot's time must return its value")
        # Played backwards; at generic times, since at a tie either neighbour may be taken.
        generic = torch.tensor([0.013, 0.21, 0.47, 0.66, 0.98], dtype=torch.float64)
        mirrored = basis.weights(1 - knots.flip(0), 1 - generic).flip(1)
        assert_close(mirrored, basis.weights(knots, generic), law="must be time-symmetric")
    said = Account("check_basis", basis)
    ends = "every knot's time returns its value" if interpolates else "both ends' times return their values"
    said.holds("rows sum to one", ends, "`used` and `reach` are kept to", "time-symmetric", "repeats")
    said.tell()


def _check_reach(basis: Basis, weights: Tensor, knots: Tensor, times: Tensor) -> None:
    """Among the knots that it uses, those further away than `reach` have no weight."""
    if basis.reach is None:
        return
    used = basis.used(len(knots))
    ahead = (knots[used] > times[:, None]).cumsum(1)
    behind = (knots[used] <= times[:, None]).flip(1).cumsum(1).flip(1)
    far = (ahead > basis.reach) | (behind > basis.reach)
    assert not (weights[:, used] * far).any(), f"knots beyond `reach` ({basis.reach}) have weight"


def check_flow(flow: FlowEstimator, *, channels: int | None = None, accurate: bool | None = None) -> None:
    """Flow comes in float32 on the source's grid, repeats, agrees both ways, and is that of known motion.

    Args:
        flow: What is checked.
        channels: Channels of what it reads; by default 3 for pixels, and for latents those that it
            declares, or 16.
        accurate: Whether it is held to motion that is known: translations by fractions of a pixel,
            and none between equal pictures. By default if it is pretrained or has nothing to learn;
            say True for one that you have trained.
    """
    assert isinstance(flow.reads, Reads), f"reads must be a Reads, got {flow.reads!r}"
    if channels is None:
        channels = 3 if flow.reads is Reads.PIXELS else flow.latent_channels or 16
    for h, w in ((48, 64), (40, 24)):
        source, target = (smooth_noise(2, channels, h, w, seed=seed) for seed in (0, 1))
        if flow.reads is Reads.PIXELS:
            source, target = source.sigmoid(), target.sigmoid()
        found = unchanged(flow, source, target)
        assert found.shape == (2, 2, h, w), f"flow must be (n, 2, h, w), got {tuple(found.shape)}"
        check_field(found, "flow")
        assert torch.equal(found, flow(source, target)), "flow must repeat bit for bit"
        alone = flow(source[1:], target[1:])
        assert_close(alone, found[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")
        onward, back = flow.both_ways(source, target)
        law = "both_ways must give what forward finds"
        assert_close(onward, found, tolerance=BATCH_TOLERANCE, law=law)
        assert_close(back, flow(target, source), tolerance=BATCH_TOLERANCE, law=law)
    said = Account("check_flow", flow)
    said.holds("shape, float32, finite", "arguments stay", "repeats", "a batch does not matter", "both ways as forward")
    if estimates_at_once(flow) if accurate is None else accurate:
        check_known_flow(flow, channels)
        said.holds("known motion to a quarter of a pixel: sign, order of x and y, no flow between equal pictures")
    else:
        said.skips("known motion", "it has weights that nobody says are trained; accurate=True once they are")
    said.tell()


def check_generator(generator: KeyframeGenerator) -> None:
    """Keyframes hold both ends as they are, noise has the promised shape, and results repeat.

    Of a generator that diffuses, the parts that training uses are checked too: its noise process,
    and that it denoises any level, sample by sample, with gradients.
    """
    unit = math.lcm(generator.size_multiple, generator.stride)
    sides = [max(1, -(-least // unit)) * unit for least in (64, 48)]
    for h, w in ((sides[1], sides[0]), (sides[0], sides[1])):
        img0, img1 = (smooth_noise(2, 3, h, w, seed=seed).sigmoid() for seed in (0, 1))
        noise = noise_for(generator, 2, h, w)
        before = torch.random.get_rng_state()
        keyframes = unchanged(generator, img0, img1, noise)
        assert torch.equal(before, torch.random.get_rng_state()), "all noise must be the argument"
        check_keyframes(generator, keyframes, img0, img1)
        again = generator(img0, img1, noise)
        assert torch.equal(keyframes.latents, again.latents), "keyframes must repeat bit for bit"
        alone = generator(img0[1:], img1[1:], noise[1:])
        assert_close(
            alone.latents,
            keyframes.latents[1:],
            tolerance=BATCH_TOLERANCE,
            law="a batch must not matter",
        )
        if generator.time_symmetric:
            flipped = generator(img1, img0, noise.flip(1)).flipped()
            assert_close(flipped.latents, keyframes.latents, tolerance=1e-4, law="must be time-symmetric")
        check_decoder(generator, keyframes.latents, h, w)
    check_known_latents(generator, img0, img1)
    said = Account("check_generator", generator)
    said.holds("keyframes: shapes, times, both ends the frames' own latents")
    said.holds("all noise is the argument", "arguments stay", "repeats", "a batch does not matter")
    said.holds("known latents and priors are used")
    if generator.time_symmetric:
        said.holds("time-symmetric")
    if generator.gives_prior:
        check_prior(generator)
        said.holds("end_flows: shape, float32, direction where any is found")
    if generator.noise_process is not None:
        check_noise_process(generator.noise_process, generator.target_latents(keyframes.latents))
        check_denoising(generator, img0, img1, noise)
        said.holds("noise process: clean, noise and velocity determine each other; level 1 is pure noise")
        said.holds("denoise: every sample at its own level, forward is condition, sample, keyframes; it can learn")
    else:
        said.skips("denoising", "it has no noise_process")
    said.tell()


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


def _check_derived(trajectory: Trajectory, times: Tensor) -> None:
    """What is derived from ``at`` is what the interface says, where a class computes it in its own way."""
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
    """How far points that move by their velocity miss what the flows say, and how far they move; medians, for folds."""
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
    one = _sample(keyframes, 1)
    for alone, both in zip(model(one).at(times), (first, last), strict=True):
        assert_close(alone, both[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")
    said = Account("check_trajectory_model", model)
    said.holds("a Trajectory on the declared grid", "repeats", "arguments stay", "a batch does not matter")
    said.holds("time-symmetric")
    _check_reading(model, keyframes, times, first, said)
    said.tell()


def _sample(keyframes: Keyframes, number: int) -> Keyframes:
    """One sample of a batch."""
    own, prior = slice(number, number + 1), keyframes.prior
    if prior is not None:
        residual = None if prior.residual_motion is None else prior.residual_motion[own]
        prior = replace(prior, end_flows=prior.end_flows[own], residual_motion=residual)
    images = None if keyframes.images is None else keyframes.images[own]
    return Keyframes(keyframes.latents[own], keyframes.times, images, prior)


def _check_reading(model: TrajectoryModel, keyframes: Keyframes, times: Tensor, first: Tensor, said: Account) -> None:
    """It reads what it declares and nothing else."""
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


def check_renderer(renderer: Renderer, *, latent_channels: int | None = None, stride: int = 8) -> None:
    """Times 0 and 1 return the inputs, times next to them are next to them, sizes are kept.

    Args:
        renderer: What is checked.
        latent_channels: Channels of the keyframes' latents; by default those that it declares.
        stride: Motion-size pixels per latent pixel.
    """
    channels = latent_channels or renderer.latent_channels or 16
    for motion_size, size in (((48, 64), (48, 64)), ((64, 48), (131, 97)), ((32, 32), (33, 63))):
        img0, img1 = (smooth_noise(2, 3, *size, seed=seed).sigmoid() for seed in (2, 3))
        for flow_size in (motion_size, tuple(side // stride for side in motion_size)):
            for grid in sorted(renderer.grids, key=lambda grid: grid.name):
                motion = some_motion(motion_size, flow_size=flow_size, channels=channels, stride=stride, grid=grid)
                _check_frames(renderer, img0, img1, motion)
    _check_scenes(renderer, channels, stride)

    def halfway(first: Tensor, last: Tensor, shift: tuple[float, float], grid: FlowGrid) -> Tensor:
        h, w = first.shape[-2:]
        straight = torch.tensor(shift)[None, :, None, None].expand(1, 2, h, w)
        # On the SOURCE grid a pixel of the first frame moves by the shift; on the TARGET grid it is looked up there.
        straight = straight if grid is FlowGrid.TARGET else -straight
        keyframes = some_keyframes((h, w), batch=1, channels=channels, stride=stride)
        trajectory = SmoothTrajectory(straight, torch.zeros_like(straight), grid)
        motion = Motion.of(keyframes, trajectory, same_scene=True)
        return renderer(first, last, motion, torch.tensor([0.5]))[:, 0]

    said = Account("check_renderer", renderer)
    if renderer.follows_motion:
        check_drawn_motion(renderer, halfway)
        said.holds("what moves is drawn in the motion's direction")
    else:
        said.skips("direction of the motion", "its follows_motion says that it follows none")
    said.holds("times 0 and 1 return the inputs", "next to them it is next to them", "sizes and types stay", "repeats")
    said.holds(f"draws on the {', '.join(sorted(grid.name for grid in renderer.grids))} grid")
    said.holds("two scenes get a cross-fade, one scene none")
    said.holds("a frame needs no other, a batch does not matter, arguments stay")
    said.tell()


def _check_scenes(renderer: Renderer, channels: int, stride: int) -> None:
    """It obeys the scene decision: a cross-fade between two scenes."""
    img0, img1 = (smooth_noise(2, 3, 48, 64, seed=seed).sigmoid() for seed in (2, 3))
    times = torch.tensor([0.25, 0.5])
    grid = min(renderer.grids, key=lambda grid: grid.name)
    motion = some_motion((48, 64), channels=channels, stride=stride, grid=grid, same_scene=False)
    assert isinstance(motion.scene, SceneDecision)
    share = times[None, :, None, None, None]
    faded = torch.lerp(img0[:, None], img1[:, None], share)
    frames = renderer(img0, img1, motion, times)
    assert_close(frames, faded, tolerance=0.02, law="between two scenes it must cross-fade, as the motion says")


def _check_frames(renderer: Renderer, img0: Tensor, img1: Tensor, motion: Motion) -> None:
    times = torch.tensor([0.0, 0.001, 0.31, 0.5, 0.999, 1.0])
    frames = unchanged(lambda *images: renderer(*images, motion, times), img0, img1)
    expected = (img0.shape[0], len(times), *img0.shape[1:])
    assert frames.shape == expected, f"frames must be {expected}, got {tuple(frames.shape)}"
    assert frames.dtype == img0.dtype, "frames must have the type of the images"
    assert torch.isfinite(frames).all(), "frames must be finite"
    assert_close(frames[:, 0], img0, law="time 0 must return the first frame")
    assert_close(frames[:, -1], img1, law="time 1 must return the last frame")
    for near, image in ((frames[:, 1], img0), (frames[:, -2], img1)):
        distance = float((near - image).abs().max())
        assert distance < 0.05, f"times next to an end must look like it: off by {distance:.3g}"
    assert torch.equal(frames, renderer(img0, img1, motion, times)), "frames must repeat"
    alone = renderer(img0, img1, motion, times[2:3])
    assert_close(alone, frames[:, 2:3], tolerance=BATCH_TOLERANCE, law="a frame must not depend on others")


def _check_continuity(trajectory: Trajectory) -> None:
    """A thousandth of the time moves nothing further than a hundredth of the whole way."""
    times = torch.tensor([0.1249, 0.1251, 0.4999, 0.5001, 0.3, 0.3002])
    first, last = trajectory.at(times)
    whole = max(1.0, float(first.abs().max()), float(last.abs().max()))
    for flow in (first, last):
        jump = float((flow[:, 1::2] - flow[:, ::2]).abs().max())
        assert jump <= 0.05 * whole, f"flows must be continuous in time: a jump of {jump:.3g} px"
