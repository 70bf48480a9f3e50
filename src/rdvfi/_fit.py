"""Checks that three stages fit together, as far as their declarations tell.

Each stage declares what it gives and what it needs (`rdvfi.interfaces`). A combination that cannot
work is refused when it is put together, with the contract that does not hold, and not with a shape
error in the middle of a film.
"""

from collections.abc import Iterator

from torch import nn

from rdvfi.interfaces import Basis, FlowEstimator, KeyframeGenerator, Reads, Renderer, TrajectoryModel
from rdvfi.motion.trajectory.flow_fields import check_reach


def check_fit(generator: KeyframeGenerator, trajectory: TrajectoryModel, renderer: Renderer) -> None:
    """The stages can work together.

    Raises:
        ValueError: If they cannot; it names both stages and the contract.
    """
    made = generator.latent_channels
    for part in (*_readers(trajectory), renderer):
        if part.latent_channels not in (None, made):
            raise ValueError(
                f"{_name(part)} reads latents of {part.latent_channels} channels, but "
                f"{_name(generator)} makes latents of {made}: set its latent_channels to {made}, "
                "and train it for them"
            )
    if trajectory.reads is Reads.PIXELS and not decodes(generator):
        raise ValueError(
            f"{_name(trajectory)} reads pixels (its flow estimator does), but {_name(generator)} "
            "has no decoder: choose a flow that reads latents, or a backbone that decodes"
        )
    if trajectory.needs_prior and not generator.gives_prior:
        raise ValueError(
            f"{_name(trajectory)} starts from a coarse end-to-end motion, but the keyframes of "
            f"{_name(generator)} carry none (Keyframes.prior): choose a trajectory that does without, "
            "or a backbone with a coarse flow"
        )
    if trajectory.basis_reach is not None and generator.keyframe_count is not None:
        for basis in (part for part in trajectory.modules() if isinstance(part, Basis)):
            check_reach(basis, generator.keyframe_count, trajectory.basis_reach)
    if trajectory.grid not in renderer.grids:
        drawn = ", ".join(sorted(grid.name for grid in renderer.grids))
        raise ValueError(
            f"{_name(renderer)} draws trajectories on the {drawn} grid, but those of "
            f"{_name(trajectory)} are on the {trajectory.grid.name} grid"
        )


def decodes(generator: KeyframeGenerator) -> bool:
    """Whether it has a decoder: the interface's own ``decode`` only says that there is none."""
    return type(generator).decode is not KeyframeGenerator.decode


def _readers(trajectory: TrajectoryModel) -> Iterator[TrajectoryModel | FlowEstimator]:
    """The trajectory model and the flow estimators inside it."""
    for module in trajectory.modules():
        if isinstance(module, (TrajectoryModel, FlowEstimator)):
            yield module


def _name(part: nn.Module) -> str:
    return type(part).__name__
