"""Checks of a training run before it starts.

A stage late in a recipe may need hours until its turn; so every stage is looked at first: its parts, its
losses and what they read, what its samples are made of, the results that it goes on from.
"""

from collections.abc import Sequence
from pathlib import Path

from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.interpolator import Interpolator
from rdvfi.training.feeds import check_material, film_pool
from rdvfi.training.losses.evidence import Needs, Terms
from rdvfi.training.model_parts import part_of, prepared_model
from rdvfi.training.objectives.coarse import ShowsEstimates, Wraps
from rdvfi.training.objectives.decoding import Fuses
from rdvfi.training.objectives.objective import Report
from rdvfi.training.stage import Kind, SourceKind, Stage
from rdvfi.training.teacher import check_answers

_READS = {
    Needs.FRAMES: "frames, which a stage of kind {kind} does not draw",
    Needs.DRAWING: "the flows of a teacher or exact flow, and data.source={source} has none (data.teacher)",
    Needs.FLOW: "exact flow, and data.source={source} has none in this stage (procedural samples have it)",
    Needs.ADJACENT: "exact flow from knot to knot, in a decoding stage of a trajectory model that finds it "
    f"(iterative) and of a backbone with {KNOTS - 2} keyframes",
    Needs.MATCHES: "matches, and this model's coarse flow makes none, or the stage is no coarse one",
    Needs.ESTIMATES: "the known flow of pairs, in a coarse stage (data.source=pairs)",
    Needs.VELOCITY: "noisy latents, which only a diffusion stage has",
    Needs.SAMPLER: "draws from noise, which only a diffusion stage has",
}
"""What each kind of loss reads, where there is none of it."""


def check_stages(stages: Sequence[Stage], overrides: Sequence[str], report: Report) -> Interpolator | None:
    """Look at every stage of a run; nothing is written.

    Args:
        stages: As they will be run.
        overrides: What was asked for beside the recipe.
        report: Receives what the first stage's model is made from.

    Returns:
        The model of the first stage, if that has no result yet.

    Raises:
        ValueError: If a part has nothing to train, or nothing gives what a loss reads.
        FileNotFoundError: If material, or the result of an earlier stage, is missing.
        ImportError: If a teacher that is asked is not installed.
    """
    first = stages[0]
    model = prepared_model(first, report)
    asked = {word.partition("=")[0].removeprefix("losses.") for word in overrides if word.startswith("losses.")}
    made: set[str] = set()
    for stage in stages:
        if stage.model == first.model:
            for name in stage.train:
                part_of(model, name)
        if stage.kind is not Kind.ship:
            if stage.data.teacher is not None:
                check_answers(film_pool(stage.data), stage.data.teacher)
            check_material(stage.data)
            _check_losses(stage, model, asked)
        for earlier in stage.after:
            if earlier not in made and stage is not first and not _result(stage, earlier).exists():
                raise FileNotFoundError(f"{_result(stage, earlier)} is missing: the result of stage {earlier!r}")
        made.add(stage.stage)
    return None if len(stages) > 1 and _result(first, first.stage).exists() else model


def _result(stage: Stage, name: str) -> Path:
    return Path(stage.out) / f"{name}.safetensors"


def _check_losses(stage: Stage, model: Interpolator, asked: set[str]) -> None:
    """Check that the inputs of every loss are available."""
    parts = Terms(stage.losses, stage.settings)._parts()
    given = _given(stage, model)
    unread = [name for name, loss in parts.items() if loss.needs not in given]
    alternatives = stage.kind is Kind.coarse and len(unread) < len(parts)
    wrong = [name for name in unread if not alternatives or name.replace("-", "_") in asked or name in asked]
    if wrong:
        reads = _READS[parts[wrong[0]].needs].format(kind=stage.kind.name, source=stage.data.source.name)
        raise ValueError(f"{stage.stage}: losses.{wrong[0]} reads {reads}; set losses.{wrong[0]}=0")


def _given(stage: Stage, model: Interpolator) -> set[Needs]:
    """Inputs of losses that an objective of this kind provides for these samples."""
    source = stage.data.source
    drawn = source in (SourceKind.pool, SourceKind.moving) and "procedural" in stage.data.kinds
    if stage.kind is Kind.autoencoder:
        return {Needs.FRAMES}
    if stage.kind is Kind.coarse:
        coarse = getattr(model.generator, "coarse", None)
        learns = coarse.learned if isinstance(coarse, Wraps) else coarse
        matches = {Needs.MATCHES} if isinstance(learns, ShowsEstimates) else set()
        pairs = source in (SourceKind.pairs, SourceKind.moving_pairs)
        return {Needs.ESTIMATES if pairs else Needs.FLOW if drawn else Needs.FRAMES} | matches
    taught = {Needs.DRAWING} if drawn or stage.data.teacher is not None else set()
    exact = {Needs.FLOW} if drawn else set()
    if stage.kind is Kind.diffusion:
        return {Needs.FRAMES, Needs.VELOCITY, Needs.SAMPLER} | taught | exact
    small = isinstance(model.trajectory, Fuses) and len(model.generator.times()) == KNOTS
    adjacent = {Needs.ADJACENT} if drawn and small else set()
    return {Needs.FRAMES} | taught | exact | adjacent
