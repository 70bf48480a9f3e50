"""Checks of a training run before it starts.

The last stage of a recipe may start hours later, so all stages are checked first: their parts, their losses with
the inputs that these need, the source material of their samples, and the results of earlier stages.
"""

from collections.abc import Sequence
from pathlib import Path

from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.interpolator import Interpolator
from rdvfi.training.feeds import check_source_material
from rdvfi.training.losses.evidence import Needs, WeightedLosses
from rdvfi.training.model_parts import get_part, prepare_model
from rdvfi.training.objectives.coarse import ReturnsEstimates, WrapsLearnedFlow
from rdvfi.training.objectives.decoding import FusesAdjacentFlows
from rdvfi.training.objectives.objective import Report
from rdvfi.training.stage import SourceKind, Stage, StageKind
from rdvfi.training.teacher import check_teacher_available

_MISSING_INPUTS = {
    Needs.FRAMES: "rendered frames, which a stage of kind {kind} does not have",
    Needs.MAPS: "the flows of a teacher or exact flow, and data.source={source} has none (data.teacher)",
    Needs.FLOW: "exact flow, and data.source={source} has none in this stage (procedural samples have it)",
    Needs.ADJACENT: "exact flow from knot to knot, in a decoding stage of a trajectory model that estimates it "
    f"(iterative) and of a backbone with {KNOTS - 2} keyframes",
    Needs.MATCHES: "matches, and this model's coarse flow has none, or the stage is not of kind coarse",
    Needs.ESTIMATES: "the known flow of pairs, in a coarse stage (data.source=pairs)",
    Needs.VELOCITY: "noisy latents, which only a diffusion stage has",
    Needs.SAMPLER: "samples from noise, which only a diffusion stage has",
}
"""Error texts for losses whose input is not provided."""


def check_stages(stages: Sequence[Stage], overrides: Sequence[str], report: Report) -> Interpolator | None:
    """Check every stage of a run; nothing is written.

    ``overrides`` are those of the user, in addition to the recipe. Returns the model of the first stage if that has
    no result yet, else None.

    Raises:
        ValueError: If a part has no parameters, or the input of a loss is not provided.
        FileNotFoundError: If source material or the result of an earlier stage is missing.
        ImportError: If a teacher is not installed.
    """
    first = stages[0]
    model = prepare_model(first, report)
    requested = {text.partition("=")[0].removeprefix("losses.") for text in overrides if text.startswith("losses.")}
    earlier_stages: set[str] = set()
    for stage in stages:
        if stage.model == first.model:
            for name in stage.train:
                get_part(model, name)
        if stage.kind is not StageKind.ship:
            if stage.data.teacher is not None:
                check_teacher_available(Path(stage.data.folder) / "pool" / "film", stage.data.teacher)
            check_source_material(stage.data)
            _check_losses(stage, model, requested)
        for earlier in stage.after:
            if earlier not in earlier_stages and stage is not first and not _result_file(stage, earlier).exists():
                raise FileNotFoundError(f"{_result_file(stage, earlier)} is missing: the result of stage {earlier!r}")
        earlier_stages.add(stage.stage)
    return None if len(stages) > 1 and _result_file(first, first.stage).exists() else model


def _result_file(stage: Stage, name: str) -> Path:
    return Path(stage.out) / f"{name}.safetensors"


def _check_losses(stage: Stage, model: Interpolator, requested: set[str]) -> None:
    """Raise a ValueError for a loss whose input is not provided.

    The recipe of a coarse stage has losses for several sources: those without input are ignored there, unless
    the user requested them.
    """
    losses = WeightedLosses(stage.losses, stage.settings).by_name
    provided = provided_inputs(stage, model)
    unsupported = [name for name, loss in losses.items() if loss.needs not in provided]
    if stage.kind is StageKind.coarse and len(unsupported) < len(losses):
        unsupported = [name for name in unsupported if {name, name.replace("-", "_")} & requested]
    if unsupported:
        name = unsupported[0]
        missing = _MISSING_INPUTS[losses[name].needs].format(kind=stage.kind.name, source=stage.data.source.name)
        raise ValueError(f"{stage.stage}: losses.{name} needs {missing}; set losses.{name}=0")


def provided_inputs(stage: Stage, model: Interpolator) -> set[Needs]:
    """Inputs of losses that the objective of a stage provides for its samples."""
    source = stage.data.source
    is_procedural = source in (SourceKind.pool, SourceKind.moving) and "procedural" in stage.data.kinds
    if stage.kind is StageKind.autoencoder:
        return {Needs.FRAMES}
    if stage.kind is StageKind.coarse:
        coarse = getattr(model.generator, "coarse", None)
        trained = coarse.learned if isinstance(coarse, WrapsLearnedFlow) else coarse
        matches = {Needs.MATCHES} if isinstance(trained, ReturnsEstimates) else set()
        if source in (SourceKind.pairs, SourceKind.moving_pairs):
            return {Needs.ESTIMATES} | matches
        return {Needs.FLOW if is_procedural else Needs.FRAMES} | matches
    maps = {Needs.MAPS} if is_procedural or stage.data.teacher is not None else set()
    flow = {Needs.FLOW} if is_procedural else set()
    if stage.kind is StageKind.diffusion:
        return {Needs.FRAMES, Needs.VELOCITY, Needs.SAMPLER} | maps | flow
    has_adjacent = isinstance(model.trajectory, FusesAdjacentFlows) and len(model.generator.times()) == KNOTS
    adjacent = {Needs.ADJACENT} if is_procedural and has_adjacent else set()
    return {Needs.FRAMES} | maps | flow | adjacent
