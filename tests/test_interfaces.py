"""The contracts themselves: what the abstract classes give, checked by hand-made motion."""

from dataclasses import replace

import pytest
import torch

from rdvfi.geometry import pixel_grid
from rdvfi.interfaces import (
    Basis,
    FlowEstimator,
    FlowGrid,
    KeyframeGenerator,
    Keyframes,
    MotionPrior,
    Renderer,
    Trajectory,
    TrajectoryModel,
)
from rdvfi.ops import backward_warp
from rdvfi.testing import SmoothTrajectory, assert_close, some_keyframes, some_motion
from rdvfi.types import Flows, Times
from toy import textured


class RotatingTrajectory(Trajectory):
    """Everything turns about the centre by a constant rate: an exact curved motion."""

    def __init__(self, size: int, angle: float, grid: FlowGrid) -> None:
        self.size, self.angle, self.grid = size, angle, grid

    def at(self, times: Times) -> tuple[Flows, Flows]:
        place = pixel_grid(self.size, self.size) - (self.size - 1) / 2

        def turned(angle: torch.Tensor) -> torch.Tensor:
            c, s = angle.cos(), angle.sin()
            return torch.stack((c * place[0] - s * place[1], s * place[0] + c * place[1]))

        def flows(angles: torch.Tensor) -> Flows:
            return torch.stack([turned(angle) - place for angle in angles])[None]

        if self.grid is FlowGrid.TARGET:
            return flows(-self.angle * times), flows(self.angle * (1 - times))
        return flows(self.angle * times), flows(-self.angle * (1 - times))


@pytest.mark.parametrize("interface", [Basis, FlowEstimator, KeyframeGenerator])
def test_stages_are_abstract(interface: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        interface()


@pytest.mark.parametrize("interface", [Renderer, TrajectoryModel, Trajectory])
def test_the_other_stages_are_abstract(interface: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        interface()


@pytest.mark.parametrize("grid", list(FlowGrid))
def test_velocity_of_a_turn_is_perpendicular_to_the_radius(grid: FlowGrid) -> None:
    size, angle = 33, 0.5
    times = torch.tensor([0.0, 0.4, 1.0])
    velocity = RotatingTrajectory(size, angle, grid).velocity(times)
    where = pixel_grid(size, size) - (size - 1) / 2
    if grid is FlowGrid.TARGET:
        expected = angle * torch.stack((-where[1], where[0])).expand_as(velocity)
        assert_close(velocity, expected, tolerance=2e-3)
    else:  # a pixel of the first frame carries its velocity along: its length stays
        speed = torch.linalg.vector_norm(velocity, dim=2)
        radius = torch.linalg.vector_norm(where, dim=0).expand_as(speed)
        assert_close(speed, angle * radius, tolerance=2e-3)


def test_confidence_is_one_where_motion_agrees_and_falls_by_the_error() -> None:
    times = torch.tensor([0.0, 0.3, 1.0])
    shift = torch.tensor([2.0, -1.0])[:, None, None].expand(2, 24, 32)[None]
    still = torch.zeros_like(shift)
    agreed = SmoothTrajectory(shift, still).confidence(times)
    inside = agreed[..., 3:-3, 3:-3]
    assert_close(inside, torch.ones_like(inside))
    # Half way, the rightmost pixels come from 0.7 * 2 px beyond the last frame's border.
    assert agreed[0, 1, 1, 10, -1] < 0.6
    # A bend that only the middle has is an error of the detour at the middle alone.
    bent = SmoothTrajectory(shift, shift).confidence(times)
    assert bent[:, 1].max() <= inside[:, 1].min() + 1e-6
    assert (bent > 0).all()


def test_a_target_flow_is_a_look_up() -> None:
    first = textured(1, 40, 48)
    flow = torch.tensor([3.0, -2.0])[:, None, None].expand(2, 40, 48)[None]
    drawn = backward_warp(first, flow)
    assert_close(drawn[..., 4:-4, 4:-4], first[..., 2:-6, 7:-1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"latents": torch.zeros(1, 3, 4, 8)},
        {"times": torch.zeros(2)},
        {"images": torch.zeros(1, 2, 3, 16, 16)},
        {"prior": torch.zeros(1, 2, 2, 16, 16)},
    ],
)
def test_keyframes_of_wrong_shape_are_refused_where_checks_are_on(wrong) -> None:
    right = {"latents": torch.zeros(1, 3, 4, 8, 8), "times": torch.linspace(0, 1, 3)}
    assert Keyframes(**right)
    with pytest.raises(TypeError):
        Keyframes(**{**right, **wrong})


@pytest.mark.parametrize("wrong", range(3))
def test_a_prior_of_wrong_shape_is_refused_where_checks_are_on(wrong) -> None:
    flows, residual = torch.zeros(1, 2, 2, 16, 16), torch.zeros(1, 3, 2, 2, 8, 8)
    assert MotionPrior(flows, residual)
    fields = (flows[:, :1], residual), (flows, residual[:, :, :1]), (flows, torch.cat((residual, residual)))
    with pytest.raises(TypeError):
        MotionPrior(*fields[wrong])


def test_keyframes_played_backwards_twice_are_the_same() -> None:
    made = some_keyframes((32, 48))
    assert made.prior is not None
    residual = torch.randn(2, 9, 2, 2, 4, 6)
    made = replace(made, prior=replace(made.prior, residual_motion=residual))
    once, twice = made.flipped(), made.flipped().flipped()
    assert once.prior is not None
    assert twice.prior is not None
    assert torch.equal(once.prior.end_flows[:, 0], made.prior.end_flows[:, 1])
    assert torch.equal(once.prior.residual_motion[:, 2, 0], residual[:, 6, 1])
    assert torch.equal(twice.latents, made.latents)
    assert torch.equal(twice.prior.residual_motion, residual)


@pytest.mark.parametrize(
    ("kind", "old"), [(KeyframeGenerator, "gives_end_flows"), (TrajectoryModel, "needs_end_flows")]
)
def test_what_components_of_0_1_declared_names_its_replacement(kind: type, old: str) -> None:
    with pytest.raises(TypeError, match=f"Mine.{old} is of rdvfi 0.1.0; it was replaced by .*prior"):
        type("Mine", (kind,), {old: True})


def test_values_cannot_be_changed() -> None:
    motion = some_motion((32, 32))
    with pytest.raises(AttributeError):
        motion.keyframes = some_keyframes((32, 32))  # pyright: ignore
    with pytest.raises(AttributeError):
        motion.keyframes.times = torch.zeros(9)  # pyright: ignore


def test_shift_follows_the_points_of_a_turn() -> None:
    turning = RotatingTrajectory(33, 0.4, FlowGrid.TARGET)
    start, end = torch.tensor([0.2, 0.5]), torch.tensor([0.5, 0.1])
    shift = turning.shift(start, end)
    place = pixel_grid(33, 33) - 16
    for i, angle in enumerate(0.4 * (end - start)):
        c, s = angle.cos(), angle.sin()
        there = torch.stack((c * place[0] - s * place[1], s * place[0] + c * place[1]))
        inside = (slice(None), slice(8, 25), slice(8, 25))
        assert_close((place + shift[0, i])[inside], there[inside], tolerance=0.05)
