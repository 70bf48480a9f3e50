"""Trajectories over knots: exact shifts, curved paths, files; and no ghosts between knots."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from layered_scene import background_layer, exact_flows, layer_labels, rectangle_layer, render_frame, single_scene
from rdvfi.data.synthetic.layered_scenes import SceneBatch
from rdvfi.data.synthetic.object_paths import LayerPath
from rdvfi.geometry import pixel_grid
from rdvfi.interfaces import Basis, Motion
from rdvfi.motion.trajectory.flow_reversal import SourceKnotTrajectory
from rdvfi.motion.trajectory.knots import KnotTrajectory, MovedKnotTrajectory, load_trajectory
from rdvfi.registry import bases, renderers
from rdvfi.testing import smooth_noise, some_keyframes

KNOTS = torch.arange(9) / 8
OFF_KNOTS = torch.tensor([i / 24 for i in range(1, 24) if i % 3])

ON_TARGET = [KnotTrajectory, MovedKnotTrajectory]
every_kind = pytest.mark.parametrize("kind", [*ON_TARGET, SourceKnotTrajectory])
every_target_kind = pytest.mark.parametrize("kind", ON_TARGET)


def _shifting(kind: type[KnotTrajectory], speed: tuple[float, float], basis: str = "cubic"):
    """A picture that is shifted as a whole by ``speed`` from the first frame to the last."""
    shift = torch.tensor(speed).view(1, 1, 2, 1, 1).expand(1, 9, 2, 20, 30)
    t = KNOTS.view(1, 9, 1, 1, 1)
    return kind(-t * shift, (1 - t) * shift, KNOTS, bases.create(basis))


def _wavy(kind: type[KnotTrajectory], basis: str = "cubic") -> KnotTrajectory:
    fields = smooth_noise(18, 2, 24, 32, seed=3).unflatten(0, (1, 18))
    first, last = fields[:, :9].clone(), fields[:, 9:].clone()
    first[:, 0], last[:, -1] = 0, 0
    return kind(first, last, KNOTS, bases.create(basis))


@pytest.mark.parametrize("basis", ["linear", "quadratic", "cubic"])
@every_target_kind
def test_a_knots_own_time_returns_its_field(kind: type[KnotTrajectory], basis: str) -> None:
    """Bit for bit, also beside times between knots, which take another way through the code."""
    trajectory = _wavy(kind, basis)
    for times in (KNOTS, torch.cat((KNOTS, OFF_KNOTS))):
        first, last = trajectory.at(times)
        tolerance = 1e-6 if kind is KnotTrajectory else 0.0  # a product with many columns rounds
        torch.testing.assert_close(first[:, :9], trajectory.from_first, rtol=0, atol=tolerance)
        torch.testing.assert_close(last[:, :9], trajectory.from_last, rtol=0, atol=tolerance)


@pytest.mark.parametrize("times", [KNOTS, OFF_KNOTS])
@every_kind
def test_flows_are_float32_under_autocast_too(kind: type[KnotTrajectory], times: Tensor) -> None:
    trajectory = _wavy(kind)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = trajectory.at(times)
        assert trajectory.shift(times, times.flip(0)).dtype == torch.float32
    torch.testing.assert_close(mixed, trajectory.at(times), rtol=0, atol=1e-5)


@pytest.mark.parametrize("basis", sorted(bases))
@every_kind
def test_a_constant_shift_is_exact_everywhere(kind: type[KnotTrajectory], basis: str) -> None:
    speed = (60.0, -17.0)  # twice the picture's width, almost
    first, last = _shifting(kind, speed, basis).at(OFF_KNOTS)
    t, shift = OFF_KNOTS.view(1, -1, 1, 1, 1), torch.tensor(speed).view(1, 1, 2, 1, 1)
    torch.testing.assert_close(first, (-t * shift).expand_as(first), rtol=0, atol=1e-4)
    torch.testing.assert_close(last, ((1 - t) * shift).expand_as(last), rtol=0, atol=1e-4)


@every_kind
def test_the_velocity_of_a_turn_is_that_of_its_points(kind: type[KnotTrajectory]) -> None:
    """Half a radian about the middle: the velocity at pixel y is ``angle (-(y_y - c_y), y_x - c_x)``."""
    size, angle = (48, 64), 0.5
    from_middle = pixel_grid(*size) - torch.tensor([31.5, 23.5])[:, None, None]

    def turned(by: Tensor) -> Tensor:
        x, y = from_middle
        return torch.stack((by.cos() * x - by.sin() * y, by.sin() * x + by.cos() * y))

    first = torch.stack([turned(-angle * t) - from_middle for t in KNOTS])
    last = torch.stack([turned(angle * (1 - t)) - from_middle for t in KNOTS])
    trajectory = kind(first[None], last[None], KNOTS, bases.create("cubic"))
    expected = angle * torch.stack((-from_middle[1], from_middle[0]))  # 10.8 px on average
    for time in (0.0, 0.29, 0.5):
        error = (trajectory.velocity(torch.tensor([time]))[0, 0] - expected).norm(dim=0)
        seen = (from_middle + first[round(8 * time)]).abs() < torch.tensor([31.5, 23.5])[:, None, None]
        error = error[seen.all(0)]
        assert error.median() < 0.02
        assert error.mean() < 0.15  # where points come from outside they are guessed


@every_kind
def test_the_velocity_of_a_shift_is_the_shift(kind: type[KnotTrajectory]) -> None:
    times = torch.tensor([0.0, 0.31, 0.5, 1.0])
    velocity = _shifting(kind, (30.0, -12.0)).velocity(times)
    expected = torch.tensor([30.0, -12.0]).view(1, 1, 2, 1, 1).expand_as(velocity)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=0.02)  # float32 differences


@every_kind
def test_points_are_shifted_between_any_two_times(kind: type[KnotTrajectory]) -> None:
    start, end = torch.tensor([0.1, 0.9]), torch.tensor([0.6, 0.2])
    shift = _shifting(kind, (30.0, -12.0)).shift(start, end)
    expected = (end - start).view(1, 2, 1, 1, 1) * torch.tensor([30.0, -12.0]).view(1, 1, 2, 1, 1)
    torch.testing.assert_close(shift, expected.expand_as(shift), rtol=0, atol=1e-3)


def _exact_knots(kind: type[KnotTrajectory], moving: SceneBatch, basis: str = "cubic") -> KnotTrajectory:
    """A trajectory whose knots are the exact flows of a scene."""
    fields = exact_flows(moving, KNOTS.tolist())[0][None]
    return kind(fields[:, :, 0], fields[:, :, 1], KNOTS, bases.create(basis))


def _turn(degrees: float = 40.0) -> SceneBatch:
    """The whole picture turns about a point at its left edge."""
    path = LayerPath(pivot=(0.0, 40.0), angle=float(np.radians(degrees)))
    return single_scene((80, 120), background_layer(data.coffee(), path))


@every_kind
def test_a_turn_stays_a_turn_between_knots(kind: type[KnotTrajectory]) -> None:
    turn, times = _turn(), [0.19, 0.5625, 0.9]
    first, last = _exact_knots(kind, turn).at(torch.tensor(times))
    exact = exact_flows(turn, times)[0]
    inner = (..., slice(16, -16), slice(16, -16))  # where steps between knots stay inside
    for got, expected in ((first[0], exact[:, 0]), (last[0], exact[:, 1])):
        # Paths that leave the picture are continued, not known: tenths of a pixel near its edge.
        limit = 0.25 if kind is SourceKnotTrajectory else 0.05
        assert (got - expected)[inner].abs().max() < limit


def test_the_velocity_of_a_turn_is_across_the_radius() -> None:
    velocity = _exact_knots(KnotTrajectory, _turn()).velocity(torch.tensor([0.5]))[0, 0]
    ys, xs = torch.meshgrid(torch.arange(80.0) - 40.0, torch.arange(120.0), indexing="ij")
    expected = float(np.radians(40.0)) * torch.stack((-ys, xs))
    # Fields are differentiated across pixels and in time: a hundredth is their own accuracy.
    assert (velocity - expected).abs().max() < 0.01 * expected.abs().max()


def _passing() -> SceneBatch:
    """A textured square of 40 pixels moves by 160 over a textured background that rests."""
    h, w = 96, 256
    square = rectangle_layer(data.astronaut()[20:60, 200:240], LayerPath(shift=(160.0, 0.0)), (28.0, 30.0))
    return single_scene((h, w), background_layer(data.coffee()[60 : 60 + h, 100 : 100 + w]), square)


def _wrong_pixels(moving: SceneBatch, trajectory: KnotTrajectory, times: Tensor) -> float:
    """Pixels, per frame, that are off by more than 5 % when the ends are warped to ``times``."""
    motion = Motion.of(some_keyframes(moving.size, batch=1), trajectory)
    ends = render_frame(moving, 0.0), render_frame(moving, 1.0)
    drawn = renderers.create("warp")(*ends, motion, times)[0]
    truth = torch.cat([render_frame(moving, time) for time in times.tolist()])
    return float(((drawn - truth).abs().mean(1) > 0.05).float().sum((1, 2)).mean())


def test_moved_knots_leave_no_ghost_of_a_small_fast_layer() -> None:
    """At x24, 16 of 23 times lie between knots, where the layer has moved by up to 20 pixels.

    Fixed pixels mix the layer with the background there, so most of the layer is lost. Followed
    points keep it: its flow is right, and hardly more pixels are wrong than on the knots, where
    only what the layer uncovers is.
    """
    passing = _passing()
    exact = exact_flows(passing, OFF_KNOTS.tolist())[0]
    layer = torch.stack([layer_labels(passing, t) == 1 for t in OFF_KNOTS.tolist()])
    errors, wrong = {}, {}
    for kind in (KnotTrajectory, MovedKnotTrajectory, SourceKnotTrajectory):
        trajectory = _exact_knots(kind, passing)
        got = torch.stack(trajectory.at(OFF_KNOTS), dim=2)[0]
        errors[kind] = float((got - exact).norm(dim=2).transpose(0, 1)[:, layer].mean())
        wrong[kind] = _wrong_pixels(passing, trajectory, OFF_KNOTS)
    assert errors[KnotTrajectory] > 10.0
    assert errors[MovedKnotTrajectory] < 1.0
    assert errors[SourceKnotTrajectory] < 1.0
    on_knots = _wrong_pixels(passing, _exact_knots(MovedKnotTrajectory, passing), KNOTS[1:-1])
    # Measured: 669 wrong pixels on the knots, from occlusion alone, and 992 off them.
    assert wrong[MovedKnotTrajectory] < 1.6 * on_knots
    assert wrong[SourceKnotTrajectory] < wrong[MovedKnotTrajectory]
    assert wrong[KnotTrajectory] > 2.0 * on_knots


def test_a_basis_may_look_at_all_knots_of_a_path() -> None:
    """Where moved knots refuse it: a parabola through all nine knots, least squares."""

    class Parabola(Basis):
        def weights(self, knots: Tensor, times: Tensor) -> Tensor:
            powers = torch.arange(3)
            known, asked = knots[:, None] ** powers, times[:, None] ** powers
            return asked @ torch.linalg.pinv(known)

    turn = _turn(10.0)
    fields = _exact_knots(KnotTrajectory, turn)
    arguments = (fields.from_first, fields.from_last, KNOTS, Parabola())
    with pytest.raises(ValueError, match="knots=SOURCE"):
        MovedKnotTrajectory(*arguments)
    got = SourceKnotTrajectory(*arguments).at(OFF_KNOTS)[0][0]
    exact = exact_flows(turn, OFF_KNOTS.tolist())[0][:, 0]
    assert (got - exact)[..., 16:-16, 16:-16].norm(dim=1).mean() < 0.05


def test_what_is_occluded_on_its_way_is_not_carried_off() -> None:
    """The background behind the square rests, also where the square passes over it."""
    first, _ = _exact_knots(SourceKnotTrajectory, _passing())._paths()
    behind = np.ix_(range(30, 70), range(90, 168))  # passed over, and free at both ends
    assert first.travel[0, :, :, *behind].abs().max() < 0.5
    assert first.uncertainty[0, 1:-1, 0, *behind].amax(0).min() > 5.0  # it is noticed to be occluded


@every_kind
def test_saved_and_loaded_it_is_the_same_bit_for_bit(kind: type[KnotTrajectory], tmp_path: Path) -> None:
    trajectory = _wavy(kind, "quadratic")
    trajectory.save(tmp_path / "path.safetensors")
    again = load_trajectory(tmp_path / "path.safetensors")
    assert type(again) is kind
    assert again.grid is trajectory.grid
    for got, expected in zip(again.at(OFF_KNOTS), trajectory.at(OFF_KNOTS), strict=True):
        assert torch.equal(got, expected)


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="expected a saved trajectory"):
        load_trajectory(tmp_path / "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_trajectory(tmp_path / "text.safetensors")
    with pytest.raises(FileNotFoundError):
        load_trajectory(tmp_path / "nothing.safetensors")


def test_it_can_be_looked_at(tmp_path: Path) -> None:
    import cv2

    _wavy(MovedKnotTrajectory).plot(tmp_path / "path.png", times=(0.2, 0.7))
    picture = cv2.imread(str(tmp_path / "path.png"))
    assert picture is not None
    assert picture.std() > 5.0
