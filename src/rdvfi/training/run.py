"""Running the stages of a training recipe.

A stage starts from fresh weights or a saved model and the results of earlier stages, trains its parts, and writes
their averaged weights to ``<stage>.safetensors`` and its configuration to ``<stage>.yaml`` in the output folder.
A sequence skips stages whose result exists.
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
from rdvfi.training.engine.sharding import indivisible_blocks
from rdvfi.training.feeds import MixedFeed, open_feed
from rdvfi.training.held_out import select_better_model
from rdvfi.training.lora import lora_state, merge_lora_layers
from rdvfi.training.model_parts import get_part, mark_trained, prepare_model, save_parts
from rdvfi.training.objectives.objective import Report
from rdvfi.training.objectives.objective_factory import build_objective
from rdvfi.training.recipes import compose_stages, expand_overrides, stage_yaml
from rdvfi.training.stage import Stage, StageKind

_CALIBRATION_BATCHES = 16
"""Batches from which the statistics of a new autoencoder's latents are computed."""


def train(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    report: Report = print,
) -> bool:
    """Run a recipe: one stage, or all stages of a sequence that have no result yet.

    Args:
        recipe: Name of a recipe of this package, or path of a YAML file.
        overrides: ``field=value`` for every stage; ``data.folder`` (or ``data.clips``) and ``out`` are needed.
        config_dir: Folder of user-defined configuration groups, as for `rdvfi.build`.
        report: Receives progress lines.

    Returns:
        Whether all stages were completed; ``engine.pause_minutes`` may stop a run earlier. ``--model`` and
        `rdvfi.create_model` then accept the folder ``out``.

    Raises:
        ValueError: If the recipe or one of its values is not valid.
        FileNotFoundError: If data, or the result of an earlier stage, is missing.
        ImportError: If the teacher is not installed.
    """
    overrides = expand_overrides(overrides, config_dir)
    stages, began = compose_stages(recipe, overrides), time.monotonic()
    model = check_stages(stages, overrides, report)
    for planned in stages:
        stage = _limit_pause(planned, began)
        finished = Path(stage.out) / f"{stage.stage}.safetensors"
        if len(stages) > 1 and finished.exists():
            report(f"{stage.stage}: skipped, since {finished} exists")
        elif not run_stage(stage, prepare_model(stage, report) if model is None else model, report):
            report(f"{stage.stage}: paused; the same command resumes")
            return False
        model = None
    report(f"next: rdvfi evaluate CLIP --model mine={stages[-1].out} --models rdvfi-s,dis")
    report(f"      rdvfi interpolate IN OUT --model {stages[-1].out}")
    return True


def _limit_pause(stage: Stage, began: float) -> Stage:
    """The stage with the time that remains until the pause of the whole run."""
    if stage.engine.pause_minutes is None:
        return stage
    remaining = max(0.0, stage.engine.pause_minutes - (time.monotonic() - began) / 60.0)
    return replace(stage, engine=replace(stage.engine, pause_minutes=remaining))


def run_stage(stage: Stage, model: Interpolator, report: Report) -> bool:
    """Run one stage on its model from `prepare_model`; returns whether it was finished."""
    out = Path(stage.out)
    if stage.kind is StageKind.ship:
        return _ship(stage, model, out, report)
    for name in stage.train:
        get_part(model, name)
    processes = PartialState(cpu=stage.engine.device == "cpu")
    with processes.main_process_first():  # pools and caches are built by the main process only
        feed = open_feed(stage.data, model, out, report, processes.device)
    objective = build_objective(stage, model)
    out.mkdir(parents=True, exist_ok=True)
    blocks = indivisible_blocks(get_part(model, "denoiser")) if stage.shard else None
    trainer = Trainer(stage.stage, objective, feed, stage.engine, out, report=report, shard_blocks=blocks)
    finished = trainer.fit()
    if finished:
        _finish(stage, model, feed, trainer, report)
    return finished


def _finish(stage: Stage, model: Interpolator, feed: MixedFeed, trainer: Trainer, report: Report) -> None:
    out = Path(stage.out)
    if stage.kind is StageKind.autoencoder:
        stream = feed.batches(0)
        images = torch.cat([next(stream)["frames"][:, 0] for _ in range(_CALIBRATION_BATCHES)])
        get_part(model, "autoencoder").calibrate(images.to(trainer.device))  # pyright: ignore
    if stage.lora.rank:
        network = get_part(model, "denoiser")
        if trainer.is_main:
            write_weights(out / f"{stage.stage}.lora.safetensors", lora_state(network))
        merge_lora_layers(network)
    if trainer.is_main:
        # The file of weights marks a stage as done, so it is written last.
        (out / f"{stage.stage}.yaml").write_text(stage_yaml(stage))
        _save_model(stage, model, report)
        save_parts(model, stage.train, out / f"{stage.stage}.safetensors")
    trainer.accelerator.wait_for_everyone()


def _save_model(stage: Stage, model: Interpolator, report: Report) -> None:
    """Save the current model as a folder for ``--model``; its untrained parts stay marked as untrained."""
    mark_trained(model, [*stage.after, *stage.train], Path(stage.out))
    folder = Path(stage.out) / TRAINED_MODEL
    selected = select_better_model(stage, model, report) if stage.data.held_out else model
    selected.eval().save_pretrained(folder)
    untrained = ", ".join(selected.untrained_parts())
    report(f"{stage.stage}: saved {folder}" + (f"; untrained: {untrained}" if untrained else ""))


def _ship(stage: Stage, model: Interpolator, out: Path, report: Report) -> bool:
    if PartialState(cpu=stage.engine.device == "cpu").is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        _save_model(stage, model, report)
        if stage.bundle is not None:
            save_bundled(model.eval(), stage.bundle, out)
    return True
