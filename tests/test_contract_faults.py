"""For every promise of `rdvfi.interfaces` a planted fault, and the check of `rdvfi.testing` that catches it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import toy
from rdvfi import testing
from rdvfi.backbones.compact.generator import CompactKeyframes
from rdvfi.interfaces import (
    Basis,
    Condition,
    Denoised,
    FlowEstimator,
    FlowGrid,
    KeyframeGenerator,
    Keyframes,
    Motion,
    MotionPrior,
    Reads,
    Renderer,
    Trajectory,
    TrajectoryModel,
)
from rdvfi.registry import backbones, create_sample, flows, renderers, trajectories

Fault = tuple[str, Callable[[], None], str]


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


class FaultyFlow(FlowEstimator):
    """A flow that is right, with its answer changed."""

    reads = Reads.PIXELS

    def __init__(self, change: Callable[[Tensor], Tensor], *, both: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.inner, self.change, self.both = flows.create("dis"), change, both

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.change(self.inner(source, target))

    def both_ways(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        onward, back = super().both_ways(first, second)
        return (onward, back) if self.both is None else self.both(onward, back)


def _flow_fault(change: Callable[[Tensor], Tensor], **more: Any) -> Callable[[], None]:
    return lambda: testing.check_flow(FaultyFlow(change, **more))


def _shift_half_a_pixel_down(flow: Tensor) -> Tensor:
    return flow + torch.tensor([0.0, 0.5])[:, None, None]


FLOWS: list[Fault] = [
    ("nothing", _flow_fault(torch.zeros_like), "content that moves by"),
    ("a constant", _flow_fault(lambda f: torch.full_like(f, 1.0)), "equal pictures have no flow"),
    ("the wrong sign", _flow_fault(torch.neg), "content that moves by"),
    ("x and y exchanged", _flow_fault(lambda f: f.flip(1)), "content that moves by"),
    (
        "x and y exchanged and a sign",
        _flow_fault(lambda f: f.flip(1) * torch.tensor([1.0, -1.0])[:, None, None]),
        "moves by",
    ),
    (
        "half a pixel across",
        _flow_fault(lambda f: f + torch.tensor([0.5, 0.0])[:, None, None]),
        "equal pictures have no",
    ),
    ("half a pixel down", _flow_fault(_shift_half_a_pixel_down), "equal pictures have no flow: dy is off by 0.5"),
    ("half its length", _flow_fault(lambda f: 0.5 * f), "content that moves by"),
    ("in parts of the picture", _flow_fault(lambda f: f / 64.0), "content that moves by"),
    ("back before onward", _flow_fault(lambda f: f, both=lambda a, b: (b, a)), "both_ways must give what forward"),
    ("at half size", _flow_fault(lambda f: f[..., ::2, ::2]), r"flow must be \(n, 2, h, w\)"),
    ("not a number", _flow_fault(lambda f: f * float("nan")), "flow must be finite"),
    ("double precision", _flow_fault(lambda f: f.double()), "flow must be float32"),
    (
        "the mean of the batch",
        _flow_fault(lambda f: f.mean(0, keepdim=True).expand_as(f).clone()),
        "a batch must not matter",
    ),
]


@dataclass(frozen=True, eq=False)
class FaultyTrajectory(testing.SmoothTrajectory):
    """A trajectory that is right, with one answer changed."""

    name: str = ""
    change: Callable[[Any], Any] = field(default=torch.clone)

    def at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        found = super().at(times)
        return self.change(found) if self.name == "at" else found

    def across(self, like: Tensor) -> tuple[Tensor, Tensor]:
        found = super().across(like)
        return self.change(found) if self.name == "across" else found

    def shift(self, start: Tensor, end: Tensor) -> Tensor:
        found = super().shift(start, end)
        return self.change(found) if self.name == "shift" else found

    def velocity(self, times: Tensor, *, step: float = 1e-3) -> Tensor:
        found = super().velocity(times, step=step)
        return self.change(found) if self.name == "velocity" else found

    def confidence(self, times: Tensor, *, flows: Any = None) -> Tensor:
        found = super().confidence(times, flows=flows)
        return self.change(found) if self.name == "confidence" else found


def _trajectory_fault(name: str, change: Callable[[Any], Any], grid: Any = FlowGrid.TARGET) -> Callable[[], None]:
    straight, curve = (2.0 * testing.smooth_noise(2, 2, 24, 32, seed=seed) + 16.0 for seed in (4, 5))
    return lambda: testing.check_trajectory(FaultyTrajectory(straight, curve, grid, name, change))


TRAJECTORIES: list[Fault] = [
    ("not zero at the start", _trajectory_fault("at", lambda f: (f[0] + 0.1, f[1])), "zero at time 0"),
    ("not zero at the end", _trajectory_fault("at", lambda f: (f[0], f[1] + 0.1)), "zero at time 1"),
    ("ends exchanged", _trajectory_fault("at", lambda f: f[::-1]), "zero at time 0"),
    ("other shapes", _trajectory_fault("at", lambda f: (f[0], f[1][..., :-1])), "both flows must have one shape"),
    ("half precision", _trajectory_fault("at", lambda f: (f[0].half(), f[1].half())), "must be float32"),
    (
        "ends exchanged in across",
        _trajectory_fault("across", lambda f: f[::-1]),
        "across must be the flows between both",
    ),
    ("shift the wrong way", _trajectory_fault("shift", torch.neg), "shift must be that of the flows"),
    (
        "shift where nothing moves",
        _trajectory_fault("shift", lambda f: f + 1.0),
        "from an instant to itself must be zero",
    ),
    ("velocity the wrong way", _trajectory_fault("velocity", torch.neg), "velocity must be that of the points"),
    ("velocity per frame", _trajectory_fault("velocity", lambda f: f / 8.0), "velocity must be that of the points"),
    (
        "trust without reason",
        _trajectory_fault("confidence", torch.ones_like),
        "confidence must be that of the forward",
    ),
    ("trust above one", _trajectory_fault("confidence", lambda f: f + 1.0), r"confidence must be in \[0, 1\]"),
    ("a grid by name", _trajectory_fault("", lambda f: f, grid="target"), "grid must be a FlowGrid"),
]


class FaultyTrajectoryModel(TrajectoryModel):
    """A trajectory model that is right, with its declaration or its input changed."""

    reads = Reads.LATENTS

    def __init__(self, change: Callable[[Keyframes], Keyframes], *, name: str = "straight", **declared: Any) -> None:
        super().__init__()
        self.inner, self.change = create_sample(trajectories, name), change
        for key, value in declared.items():
            setattr(self, key, value)

    def forward(self, keyframes: Keyframes) -> Trajectory:
        return self.inner(self.change(keyframes))


def _modify_prior(change: Callable[[Tensor], Tensor]) -> Callable[[Keyframes], Keyframes]:
    def changed(keyframes: Keyframes) -> Keyframes:
        assert keyframes.prior is not None
        return replace(keyframes, prior=replace(keyframes.prior, end_flows=change(keyframes.prior.end_flows)))

    return changed


def _model_fault(change: Callable[[Keyframes], Keyframes], *, images: bool = False, **more: Any) -> Callable[[], None]:
    keyframes = testing.some_keyframes((48, 64), images=images)
    return lambda: testing.check_trajectory_model(
        FaultyTrajectoryModel(change, **{"needs_prior": True, **more}), keyframes
    )


def _clip_in_place(keyframes: Keyframes) -> Keyframes:
    keyframes.latents.clamp_(-0.5, 0.5)
    return keyframes


def _scale_by_images(keyframes: Keyframes) -> Keyframes:
    if keyframes.images is None or keyframes.prior is None:
        return keyframes
    return replace(keyframes, prior=replace(keyframes.prior, end_flows=2 * keyframes.prior.end_flows))


MODELS: list[Fault] = [
    ("the wrong sign", _model_fault(_modify_prior(torch.neg)), "direction and length of the prior"),
    ("both ways exchanged", _model_fault(_modify_prior(lambda f: f.flip(1))), "direction and length of the prior"),
    ("x and y exchanged", _model_fault(_modify_prior(lambda f: f.flip(2))), "direction and length of the prior"),
    ("half the way", _model_fault(_modify_prior(lambda f: 0.5 * f)), "direction and length of the prior"),
    (
        "the mean of the batch",
        _model_fault(_modify_prior(lambda f: f.mean(0, True).expand_as(f))),
        "a batch must not matter",
    ),
    (
        "one way more than the other",
        _model_fault(_modify_prior(lambda f: f * torch.tensor([1.0, 1.5])[:, None, None, None])),
        "flipped",
    ),
    ("another grid than declared", _model_fault(lambda k: k, grid=FlowGrid.SOURCE), "declare the grid"),
    ("images, undeclared", _model_fault(_scale_by_images, images=True), "reads is LATENTS, so images must not matter"),
    ("arguments changed", _model_fault(_clip_in_place), "must not change its arguments"),
]


class FaultyRenderer(Renderer):
    """A renderer that is right, with one thing changed."""

    def __init__(
        self, change: Callable[[Motion], Motion], *, grids: frozenset[FlowGrid] | None = None, mean: bool = False
    ) -> None:
        super().__init__()
        self.inner, self.change, self.mean = renderers.create("warp"), change, mean
        if grids is not None:
            self.grids = grids

    def forward(self, img0: Tensor, img1: Tensor, motion: Motion, timesteps: Tensor) -> Tensor:
        frames = self.inner(img0, img1, self.change(motion), timesteps)
        e = (4 * timesteps * (1 - timesteps))[None, :, None, None, None]
        return torch.lerp(frames, frames.mean(1, keepdim=True), e) if self.mean else frames


@dataclass(frozen=True, eq=False)
class ModifiedTrajectory(Trajectory):
    """Another trajectory with its flows changed."""

    inner: Trajectory
    change: Callable[[Tensor], Tensor]
    grid: FlowGrid = FlowGrid.TARGET

    def at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        first, last = self.inner.at(times)
        return self.change(first), self.change(last)


def _modify_flows(change: Callable[[Tensor], Tensor]) -> Callable[[Motion], Motion]:
    return lambda motion: replace(motion, trajectory=ModifiedTrajectory(motion.trajectory, change))


def _one_scene(motion: Motion) -> Motion:
    weight = torch.ones_like(motion.scene.weight)
    return replace(motion, scene=replace(motion.scene, weight=weight, same_scene=weight > 0))


def _renderer_fault(change: Callable[[Motion], Motion], **more: Any) -> Callable[[], None]:
    return lambda: testing.check_renderer(FaultyRenderer(change, **more))


BOTH = frozenset(FlowGrid)
RENDERERS: list[Fault] = [
    ("the wrong sign", _renderer_fault(_modify_flows(torch.neg)), "the frame halfway must show content halfway"),
    (
        "x and y exchanged",
        _renderer_fault(_modify_flows(lambda f: f.flip(2))),
        "the frame halfway must show content halfway",
    ),
    ("no motion", _renderer_fault(_modify_flows(torch.zeros_like)), "the frame halfway must show content halfway"),
    ("a grid that it does not draw", _renderer_fault(lambda m: m, grids=BOTH), "SOURCE grid"),
    ("its own scene decision", _renderer_fault(_one_scene), "between two scenes it must cross-fade"),
    ("other instants", _renderer_fault(lambda m: m, mean=True), "a frame must not depend on others"),
]


class FaultyGenerator(toy.ToyGenerator):
    """The toy generator with one thing changed."""

    def __init__(self, **changed: Callable[..., Any]) -> None:
        super().__init__(3, 4, toy.Pooling.MEAN, None)
        self.changed = changed

    def condition(self, img0: Tensor, img1: Tensor, **known: Any) -> Condition:
        return self._now("condition", super().condition(img0, img1, **known))

    def predict(self, noisy: Tensor, sigma: Tensor, condition: Any) -> Denoised:
        return self._now("predict", super().predict(noisy, sigma, condition))

    def target_latents(self, latents: Tensor) -> Tensor:
        return self._now("target_latents", super().target_latents(latents))

    def decode(self, latents: Tensor) -> Tensor:
        return self._now("decode", super().decode(latents))

    def times(self, device: Any = None) -> Tensor:
        return self._now("times", super().times(device))

    def noise_shape(self, b: int, h: int, w: int) -> Any:
        return self._now("noise_shape", super().noise_shape(b, h, w))

    def _now(self, name: str, value: Any) -> Any:
        return self.changed.get(name, lambda same: same)(value)


def _generator_fault(**changed: Any) -> Callable[[], None]:
    return lambda: testing.check_generator(FaultyGenerator(**changed).requires_grad_(False))


class FaultyPriorGenerator(CompactKeyframes):
    """The compact backbone, with what it says of the coarse motion changed."""

    change: Callable[[Tensor], Tensor]
    deaf = False

    def condition(self, img0: Tensor, img1: Tensor, **known: Any) -> Any:
        if self.deaf:
            known.pop("prior", None)
        made = super().condition(img0, img1, **known)
        if known.get("prior") is not None or made.prior is None:
            return made
        return replace(made, prior=MotionPrior(self.change(made.prior.end_flows)))


def _prior_fault(change: Callable[[Tensor], Tensor], *, deaf: bool = False) -> Callable[[], None]:
    def check() -> None:
        made = create_sample(backbones, "compact").requires_grad_(False)
        assert isinstance(made, nn.Module)
        broken = FaultyPriorGenerator(made.autoencoder, made.denoiser, made.coarse)  # pyright: ignore
        broken.change, broken.deaf = change, deaf  # pyright: ignore
        testing.check_generator(broken)

    return check


def _scale_latents(denoised: Denoised) -> Denoised:
    return Denoised(denoised.latents + 0.1)


GENERATORS: list[Fault] = [
    (
        "another end",
        _generator_fault(condition=lambda c: replace(c, latent1=c.latent0)),
        "an end must be the frame's own",
    ),
    (
        "other latents from predict",
        _generator_fault(predict=_scale_latents),
        "predict must give the latents that denoise",
    ),
    (
        "targets of another shape",
        _generator_fault(target_latents=lambda x: x[:, :1]),
        "target_latents must have the shape",
    ),
    ("images beyond the range", _generator_fault(decode=lambda x: x + 1.0), r"decoded images must be in \[0, 1\]"),
    ("times that do not end at 1", _generator_fault(times=lambda t: 0.9 * t), "the last knot must be time 1"),
    ("times that fall", _generator_fault(times=lambda t: t.flip(0)), "the first knot must be time 0"),
    (
        "noise without a batch",
        _generator_fault(noise_shape=lambda s: (1, *s[1:])),
        "noise_shape must start with the batch",
    ),
    (
        "a coarse motion backwards",
        _prior_fault(lambda f: f.flip(1)),
        "end_flows from first to last must have the direction",
    ),
    ("a known prior that is not used", _prior_fault(lambda f: f, deaf=True), "a prior that is known must be used"),
]


class FaultyBasis(toy.ToyBasis):
    """The toy basis with one thing changed."""

    def __init__(self, change: Callable[[Tensor], Tensor] | None = None, **declared: Any) -> None:
        super().__init__()
        self.change = change
        for key, value in declared.items():
            setattr(self, key, value)

    def weights(self, knots: Tensor, times: Tensor) -> Tensor:
        found = super().weights(knots, times)
        return found if self.change is None else self.change(found)


def _basis_fault(change: Callable[[Tensor], Tensor] | None = None, **declared: Any) -> Callable[[], None]:
    return lambda: testing.check_basis(FaultyBasis(change, **declared))


BASES: list[Fault] = [
    ("rows that do not sum to one", _basis_fault(lambda w: 1.01 * w), "rows must sum to one"),
    ("transposed", _basis_fault(lambda w: w.mT), r"weights must have shape \(T, K\)"),
    ("knots in another order", _basis_fault(lambda w: w.roll(1, 1)), "a knot's time must return its value"),
    ("single precision", _basis_fault(lambda w: w.float()), "weights must have the type of the times"),
    ("a reach that is not kept", _basis_fault(reach=0), r"knots beyond `reach` \(0\) have weight"),
    ("an end that is not used", _basis_fault(used=lambda n: list(range(1, n))), "`used` must include both ends"),
    ("knots left out of `used`", _basis_fault(used=lambda count: [0, count - 1]), "outside `used` must have no weight"),
    ("chance", _basis_fault(lambda w: w + 1e-3 * torch.rand(len(w), 1) * (w - w.mean(1, True))),
     "repeat bit for bit|sum"),
]  # fmt: skip


def _parametrize(faults: list[Fault]) -> Any:
    return pytest.mark.parametrize(("fault", "law"), [pytest.param(f, law, id=name) for name, f, law in faults])


@_parametrize(FLOWS)
def test_faults_of_a_flow_are_caught(fault: Callable[[], None], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        fault()


@_parametrize(TRAJECTORIES)
def test_faults_of_a_trajectory_are_caught(fault: Callable[[], None], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        fault()


@_parametrize(MODELS)
def test_faults_of_a_trajectory_model_are_caught(fault: Callable[[], None], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        fault()


@_parametrize(RENDERERS)
def test_faults_of_a_renderer_are_caught(fault: Callable[[], None], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        fault()


@_parametrize(GENERATORS)
def test_faults_of_a_generator_are_caught(fault: Callable[[], None], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        fault()


@_parametrize(BASES)
def test_faults_of_a_basis_are_caught(fault: Callable[[], None], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        fault()


def test_without_the_fault_each_passes_and_says_what_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    testing.check_flow(FaultyFlow(lambda flow: flow))
    _trajectory_fault("", lambda found: found)()
    _model_fault(lambda keyframes: keyframes)()
    _renderer_fault(lambda motion: motion)()
    _generator_fault()()
    _basis_fault()()
    told = capsys.readouterr().out
    assert "check_flow FaultyFlow: 6 laws hold: shape, float32, finite; " in told
    assert "known motion to a quarter of a pixel" in told
    for name in ("check_trajectory ", "check_trajectory_model", "check_renderer", "check_generator", "check_basis"):
        assert name in told
    testing.check_flow(toy.ToyFlow(Reads.LATENTS, 5).requires_grad_(False))
    assert "not checked: known motion (its weights are not declared as trained" in capsys.readouterr().out


def test_every_interface_has_faults() -> None:
    held = {KeyframeGenerator, FlowEstimator, Basis, TrajectoryModel, Renderer, Trajectory}
    assert len(held) == len((GENERATORS, FLOWS, BASES, MODELS, RENDERERS, TRAJECTORIES))
