"""The variants of RDVFI-S1's design that `search_design` compares."""

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
        overrides: Overrides of the stage.
        model: Overrides of the model's recipe.
        times: Factor on the number of `STEPS`.
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
        """Name of the trained part of the model."""
        return {"motion": "trajectory", "keyframes": "denoiser", "refinement": "renderer"}[self.stage]


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        group: Group of variants that are compared with each other.
        name: Name within the group.
        part: The part to train, if any.
        uses: Keys of variants whose trained parts it uses.
        change: Function that changes the trained model.
    """

    group: str
    name: str
    part: Part | None = None
    uses: tuple[str, ...] = ()
    change: Callable[[Interpolator], Interpolator] = lambda model: model

    @property
    def key(self) -> str:
        """Name for files."""
        return f"{self.group}-{self.name}".replace(" ", "_").replace("+", "and").replace(",", "")


class WithoutResidualMotion(GeneratorWrapper):
    """Wraps a generator to return no residual motion."""

    def predict(self, noisy: Tensor, sigma: Tensor, condition: Condition) -> Denoised:
        """The generator's latents only."""
        return Denoised(self.generator.denoise(noisy, sigma, condition))


def with_knots(kind: Knots) -> Callable[[Interpolator], Interpolator]:
    """A function that sets the kind of knots of a model."""

    def change(model: Interpolator) -> Interpolator:
        model.trajectory.knots = kind  # pyright: ignore
        return model

    return change


def with_basis(name: str) -> Callable[[Interpolator], Interpolator]:
    """A function that sets the basis of a model."""

    def change(model: Interpolator) -> Interpolator:
        model.trajectory.basis = rdvfi.bases.create(name)  # pyright: ignore[reportAttributeAccessIssue]
        return model

    return change


def without_residual_motion(model: Interpolator) -> Interpolator:
    """The model without the residual motion of its generator."""
    return replace_generator(model, WithoutResidualMotion(model.generator))


def with_zero_fusion(model: Interpolator) -> Interpolator:
    """The model with the last layer of its iterative fusion set to zero, as before training."""
    trajectory = model.trajectory
    assert isinstance(trajectory, IterativeFusion)
    for parameter in trajectory.fuse[-1].parameters():
        nn.init.zeros_(parameter)
    return model


def loss_overrides(**weights: float) -> tuple[str, ...]:
    """Overrides that set the weights of these losses, and those of the recipe's other losses to 0."""
    all_weights = {"theta": 0.0, "flow": 0.0, "l1": 0.0, "l2": 0.0, "edges": 0.0} | weights
    return tuple(f"losses.{name}={weight}" for name, weight in all_weights.items())


ENDS = ("backbone=ends",)
NO_LINES = ("backbone.lines=false",)

VARIANTS = (
    Variant("shipped weights", "moved knots, cubic"),
    Variant("motion", "iterative", Part("motion")),
    Variant("motion", "direct", Part("motion", (), ("trajectory=direct",))),
    Variant("keyframes", "theta + flow + l2", Part("keyframes")),
    Variant("keyframes", "theta", Part("keyframes", loss_overrides(theta=1))),
    Variant("keyframes", "theta + l2", Part("keyframes", loss_overrides(theta=1, l2=10))),
    Variant(
        "keyframes",
        "theta + l2, no lines",
        Part("keyframes", loss_overrides(theta=1, l2=10), NO_LINES),
    ),
    Variant("keyframes", "ends", Part("motion", (), ENDS)),
    Variant("phi_s", "l1 + edges + l2", Part("refinement", loss_overrides(l1=1, edges=1, l2=20))),
    Variant("phi_s", "l2", Part("refinement", loss_overrides(l2=1))),
    Variant("shipped weights", "fixed knots, cubic", change=with_knots(Knots.FIXED)),
    Variant("shipped weights", "source knots, cubic", change=with_knots(Knots.SOURCE)),
    Variant("shipped weights", "straight keyframes", change=use_straight_keyframes),
    Variant("shipped weights", "bends not handed on", change=without_residual_motion),
    Variant("shipped weights", "plain composition", change=use_plain_composition),
    Variant("motion", "no network", change=with_zero_fusion),
    Variant("keyframes", "theta + flow", Part("keyframes", loss_overrides(theta=1, flow=1))),
    Variant(
        "keyframes",
        "theta + l2 + features",
        Part("keyframes", loss_overrides(theta=1, l2=10, features=2)),
    ),
    Variant("phi_s", "l2 + features", Part("refinement", loss_overrides(l2=1, features=0.2))),
    Variant("phi_s", "census", Part("refinement", loss_overrides(census=1))),
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
        Part("keyframes", loss_overrides(theta=1, l2=10), NO_LINES, times=2),
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
        Part("keyframes", loss_overrides(theta=1, l2=10), times=2),
    ),
)
"""Variants in the order in which they run, the most informative first."""
