"""Running the stages of a training recipe.

A stage starts from fresh weights (or a saved model) and the results of the stages before it, trains
its parts, and leaves ``<stage>.safetensors`` with their averaged weights in the output folder,
beside ``<stage>.yaml``, its configuration as it was run. A sequence skips the stages whose result
is there.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState

from rdvfi.interpolator import Interpolator
from rdvfi.models import save_bundled
from rdvfi.saved_models.model_names import TRAINED_MODEL
from rdvfi.saved_models.weight_files import write_weights
from rdvfi.training.checks import check_stages
from rdvfi.training.engine.loop import Trainer
from rdvfi.training.engine.sharding import blocks_of
from rdvfi.training.feeds import TakingTurns, open_feed
from rdvfi.training.held_out import keep_the_better
from rdvfi.training.lora import lora_state, merge
from rdvfi.training.model_parts import mark_trained, part_of, prepared_model, save_parts
from rdvfi.training.objectives.objective import Report
from rdvfi.training.objectives.select import make_objective
from rdvfi.training.recipes import as_table, compose_stages, written_out
from rdvfi.training.stage import Kind, Stage

_CALIBRATION = 16
"""Batches on which the statistics of a new autoencoder's latents are measured."""


def train(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    report: Report = print,
) -> bool:
    """Run a recipe: one stage, or all stages of a sequence that have no result yet.

    Args:
        recipe: A recipe of this package, or a YAML file of your own.
        overrides: ``field=value`` for every stage; ``data.folder`` (or ``data.clips``) and ``out`` are needed.
        config_dir: A folder with configuration groups of your own, as for `rdvfi.build`.
        report: Receives progress lines.

    Returns:
        Whether everything was done; a time limit may have ended it before. Then the folder ``out`` is
        one that ``--model`` and `rdvfi.create_model` take.

    Raises:
        ValueError: If the recipe or something that it names is not valid.
        FileNotFoundError: If data, or the result of an earlier stage, is missing.
        ImportError: If a teacher that it names is not installed.
    """
    overrides = written_out(overrides, config_dir)
    stages, began = compose_stages(recipe, overrides), time.monotonic()
    model = check_stages(stages, overrides, report)
    for planned in stages:
        stage = _within(planned, began)
        finished = Path(stage.out) / f"{stage.stage}.safetensors"
        if len(stages) > 1 and finished.exists():
            report(f"{stage.stage}: {finished} is there already")
        elif not run_stage(stage, report=report, model=model):
            report(f"{stage.stage}: paused; the same command goes on")
            return False
        model = None
    report(f"next: rdvfi evaluate CLIP --model mine={stages[-1].out} --models rdvfi-s,dis")
    report(f"      rdvfi interpolate IN OUT --model {stages[-1].out}")
    return True


def _within(stage: Stage, began: float) -> Stage:
    """The stage with the remaining time until the pause of the whole run."""
    if stage.engine.pause_minutes is None:
        return stage
    left = max(0.0, stage.engine.pause_minutes - (time.monotonic() - began) / 60.0)
    return replace(stage, engine=replace(stage.engine, pause_minutes=left))


def run_stage(stage: Stage, *, report: Report, model: Interpolator | None = None) -> bool:
    """Run one stage; returns whether it was finished.

    Args:
        stage: Which.
        report: Receives progress lines.
        model: What `rdvfi.training.model_parts.prepared_model` gave for it, if that was asked already.
    """
    out = Path(stage.out)
    model = prepared_model(stage, report) if model is None else model
    if stage.kind is Kind.ship:
        return _ship(stage, model, out, report)
    for name in stage.train:
        part_of(model, name)
    processes = PartialState(cpu=stage.engine.device == "cpu")
    with processes.main_process_first():  # it makes what is kept on disk; the others find it there
        feed = open_feed(stage.data, model, out, report, processes.device)
    objective = make_objective(stage, model)
    out.mkdir(parents=True, exist_ok=True)
    blocks = blocks_of(part_of(model, "denoiser")) if stage.shard else None
    trainer = Trainer(stage.stage, objective, feed, stage.engine, out, report=report, shard_blocks=blocks)
    finished = trainer.fit()
    if finished:
        _finish(stage, model, feed, trainer, report)
    return finished


def _finish(stage: Stage, model: Interpolator, feed: TakingTurns, trainer: Trainer, report: Report) -> None:
    out = Path(stage.out)
    if stage.kind is Kind.autoencoder:
        stream = feed.batches(0)
        images = torch.cat([next(stream)["frames"][:, 0] for _ in range(_CALIBRATION)])
        part_of(model, "autoencoder").calibrate(images.to(trainer.device))  # pyright: ignore
    if stage.lora.rank:
        network = part_of(model, "denoiser")
        if trainer.main:
            write_weights(out / f"{stage.stage}.lora.safetensors", lora_state(network))
        merge(network)
    if trainer.main:
        # The weights say that a stage is done, so they come last.
        (out / f"{stage.stage}.yaml").write_text(as_table(stage))
        _save_model(stage, model, report)
        save_parts(model, stage.train, out / f"{stage.stage}.safetensors")
    trainer.accelerator.wait_for_everyone()


def _save_model(stage: Stage, model: Interpolator, report: Report) -> None:
    """Save the current model as a folder for ``--model``; untrained parts are recorded as such."""
    mark_trained(model, [*stage.after, *stage.train], Path(stage.out))
    folder = Path(stage.out) / TRAINED_MODEL
    chosen = keep_the_better(stage, model, report) if stage.data.held_out else model
    chosen.eval().save_pretrained(folder)
    untrained = ", ".join(chosen.untrained_parts())
    report(f"{stage.stage}: saved {folder}" + (f"; untrained: {untrained}" if untrained else ""))


def _ship(stage: Stage, model: Interpolator, out: Path, report: Report) -> bool:
    if PartialState(cpu=stage.engine.device == "cpu").is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        _save_model(stage, model, report)
        if stage.bundle is not None:
            save_bundled(model.eval(), stage.bundle, out)
    return True
