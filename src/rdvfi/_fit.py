"""Checks that three stages fit together, by their declarations.

Each stage declares its inputs and outputs (`rdvfi.interfaces`). A combination that cannot work is refused when the
model is built, with an error that names the broken contract, instead of a shape error in the middle of a video.
"""

from torch import nn

from rdvfi.interfaces import Basis, FlowEstimator, KeyframeGenerator, Reads, Renderer, TrajectoryModel
from rdvfi.motion.trajectory.flow_fields import check_reach


def check_fit(generator: KeyframeGenerator, trajectory: TrajectoryModel, renderer: Renderer) -> None:
    """Check that the stages fit together.

    Raises:
        ValueError: If they do not; the message names both stages and the broken contract.
    """
    channels = generator.latent_channels
    readers = [m for m in trajectory.modules() if isinstance(m, (TrajectoryModel, FlowEstimator))]
    for part in (*readers, renderer):
        if part.latent_channels not in (None, channels):
            raise ValueError(
                f"{_name(part)} reads latents of {part.latent_channels} channels, but "
                f"{_name(generator)} makes latents of {channels}: set its latent_channels to {channels}, "
                "and train it for them"
            )
    if trajectory.reads is Reads.PIXELS and not has_decoder(generator):
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


def has_decoder(generator: KeyframeGenerator) -> bool:
    """Whether a generator overrides ``decode``, which raises an error in the base class."""
    return type(generator).decode is not KeyframeGenerator.decode


def _name(part: nn.Module) -> str:
    return type(part).__name__
