"""The choices of RDVFI-S1's design that `search_design` compares, and what each of them changes."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

import rdvfi
from rdvfi.evaluation.ablation import GeneratorWrapper, replace_generator, use_plain_composition, use_straight_keyframes
from rdvfi.interfaces import Condition, Denoised
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.iterative import IterativeFusion
from rdvfi.motion.trajectory.knots import Knots

STEPS = {"motion": 260, "keyframes": 300, "refinement": 110}
"""Optimiser steps of each stage."""


@dataclass(frozen=True)
class Part:
    """One part trained from scratch.

    Attributes:
        stage: A stage of ``rdvfi_s1``.
        overrides: Of its recipe.
        model: Of the model's recipe.
        times: As many `STEPS` as this.
    """

    stage: str
    overrides: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    times: int = 1

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.times * STEPS[self.stage]

    @property
    def name(self) -> str:
        """Of the part that it trains."""
        return {"motion": "trajectory", "keyframes": "denoiser", "refinement": "renderer"}[self.stage]


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        group: What it is compared within.
        name: Its own.
        part: What is trained for it, if anything.
        uses: Variants whose trained parts it takes besides.
        change: What is done to the finished model.
    """

    group: str
    name: str
    part: Part | None = None
    uses: tuple[str, ...] = ()
    change: Callable[[Interpolator], Interpolator] = lambda model: model

    @property
    def key(self) -> str:
        """Its name in files."""
        return f"{self.group}-{self.name}".replace(" ", "_").replace("+", "and").replace(",", "")


class WithoutResidualMotion(GeneratorWrapper):
    """A generator that keeps its residual motion to itself."""

    def predict(self, noisy: Tensor, sigma: Tensor, condition: Condition) -> Denoised:
        """The generator's latents alone."""
        return Denoised(self.generator.denoise(noisy, sigma, condition))


def with_knots(kind: Knots) -> Callable[[Interpolator], Interpolator]:
    """What sets the kind of knots."""

    def change(model: Interpolator) -> Interpolator:
        model.trajectory.knots = kind  # pyright: ignore
        return model

    return change


def with_basis(name: str) -> Callable[[Interpolator], Interpolator]:
    """What sets the basis."""

    def change(model: Interpolator) -> Interpolator:
        model.trajectory.basis = rdvfi.bases.create(name)  # pyright: ignore[reportAttributeAccessIssue]
        return model

    return change


def without_residual_motion(model: Interpolator) -> Interpolator:
    """The model whose residual motion is not handed on."""
    return replace_generator(model, WithoutResidualMotion(model.generator))


def unlearned(model: Interpolator) -> Interpolator:
    """The model whose trajectory is the generator's own motion, as before training."""
    trajectory = model.trajectory
    assert isinstance(trajectory, IterativeFusion)
    for parameter in trajectory.fuse[-1].parameters():
        nn.init.zeros_(parameter)
    return model


def losses_of(**weights: float) -> tuple[str, ...]:
    """Overrides that give these weights to losses, and none to the others of a recipe."""
    given = {"theta": 0.0, "flow": 0.0, "l1": 0.0, "l2": 0.0, "edges": 0.0} | weights
    return tuple(f"losses.{name}={weight}" for name, weight in given.items())


ENDS = ("backbone=ends",)
NO_LINES = ("backbone.lines=false",)

VARIANTS = (
    Variant("shipped weights", "moved knots, cubic"),
    Variant("motion", "iterative", Part("motion")),
    Variant("motion", "direct", Part("motion", (), ("trajectory=direct",))),
    Variant("keyframes", "theta + flow + l2", Part("keyframes")),
    Variant("keyframes", "theta", Part("keyframes", losses_of(theta=1))),
    Variant("keyframes", "theta + l2", Part("keyframes", losses_of(theta=1, l2=10))),
    Variant(
        "keyframes",
        "theta + l2, no lines",
        Part("keyframes", losses_of(theta=1, l2=10), NO_LINES),
    ),
    Variant("keyframes", "ends", Part("motion", (), ENDS)),
    Variant("phi_s", "l1 + edges + l2", Part("refinement", losses_of(l1=1, edges=1, l2=20))),
    Variant("phi_s", "l2", Part("refinement", losses_of(l2=1))),
    Variant("shipped weights", "fixed knots, cubic", change=with_knots(Knots.FIXED)),
    Variant("shipped weights", "source knots, cubic", change=with_knots(Knots.SOURCE)),
    Variant("shipped weights", "straight keyframes", change=use_straight_keyframes),
    Variant("shipped weights", "bends not handed on", change=without_residual_motion),
    Variant("shipped weights", "plain composition", change=use_plain_composition),
    Variant("motion", "no network", change=unlearned),
    Variant("keyframes", "theta + flow", Part("keyframes", losses_of(theta=1, flow=1))),
    Variant(
        "keyframes",
        "theta + l2 + features",
        Part("keyframes", losses_of(theta=1, l2=10, features=2)),
    ),
    Variant("phi_s", "l2 + features", Part("refinement", losses_of(l2=1, features=0.2))),
    Variant("phi_s", "census", Part("refinement", losses_of(census=1))),
    Variant(
        "motion",
        "iterative, bends not handed on",
        uses=("motion-iterative",),
        change=without_residual_motion,
    ),
    Variant("motion", "direct, bends not handed on", uses=("motion-direct",), change=without_residual_motion),
    Variant("keyframes, longer", "theta + flow + l2", Part("keyframes", times=2)),
    Variant(
        "keyframes, longer",
        "theta + l2, no lines",
        Part("keyframes", losses_of(theta=1, l2=10), NO_LINES, times=2),
    ),
    Variant(
        "keyframes",
        "ends with a phi_s of its own",
        Part("refinement", ("predicted=false",), ENDS),
        uses=("keyframes-ends",),
    ),
    Variant(
        "keyframes",
        "all three parts retrained",
        uses=(
            "motion-iterative",
            "keyframes-theta_and_flow_and_l2",
            "phi_s-l1_and_edges_and_l2",
        ),
    ),
    Variant("shipped weights", "moved knots, linear", change=with_basis("linear")),
    Variant("shipped weights", "moved knots, constant-velocity", change=with_basis("constant-velocity")),
    Variant(
        "keyframes, longer",
        "theta + l2",
        Part("keyframes", losses_of(theta=1, l2=10), times=2),
    ),
)
"""In the order in which they run: what answers most comes first."""
