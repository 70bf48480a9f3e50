"""The command ``rdvfi train``: a recipe, and overrides of its fields."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rdvfi_cli.completion import complete_training_setting
from rdvfi_cli.hydra_options import HydraOptions, show_sweep
from rdvfi_cli.options import ConfigDir, Multirun, ShowConfig, ShowInfo, Threads, use_threads


def _report(line: str) -> None:
    """Print a line at once, even if standard output is a file."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="recipe=NAME data.folder=DATA out=OUT [FIELD=VALUE]...",
            help="A recipe and overrides, for example losses.lpips=0.2 or engine.steps=100.",
            autocompletion=complete_training_setting,
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the stages that would be run, and exit.")] = False,
    multirun: Multirun = False,
    cfg: ShowConfig = None,
    info: ShowInfo = False,
    config_dir: ConfigDir = None,
    threads: Threads = None,
) -> None:
    """Train a model by a recipe; a stopped run is resumed."""
    import torch

    from rdvfi.training.recipes import compose_stages, expand_overrides, list_training_recipes, stage_yaml
    from rdvfi.training.run import train as run

    use_threads(threads)
    given = settings or []
    chosen = [word.removeprefix("recipe=") for word in given if word.startswith("recipe=")]
    overrides = expand_overrides([word for word in given if not word.startswith("recipe=")], config_dir)
    if len(chosen) != 1:
        known = ", ".join(list_training_recipes())
        raise ValueError(f"give one recipe=NAME (recipes: {known})")
    flags = HydraOptions(multirun, cfg, info).flags()
    if flags or multirun:
        _run_hydra(chosen[0], overrides, flags)
    elif show:
        tables = [stage_yaml(stage) for stage in compose_stages(chosen[0], overrides)]
        _report("---\n".join(tables).rstrip())
    else:
        run(chosen[0], overrides, report=_report)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # no process may exit while others communicate with it
            torch.distributed.destroy_process_group()


def _run_hydra(recipe: str, words: list[str], flags: list[str]) -> None:
    """Run a sweep, or let Hydra show the configuration of each stage."""
    from rdvfi.config.overrides import Overrides, is_hydra_setting
    from rdvfi.config.sweeps import run_hydra, sweep
    from rdvfi.training.recipes import config_folders, registered_stages

    settings = [word for word in words if is_hydra_setting(word)]
    overrides = [word for word in words if not is_hydra_setting(word)]
    folders = config_folders(overrides)
    with registered_stages(recipe) as stages:
        if flags:
            for path, own in stages:
                given = Overrides((*own, *overrides), folders)
                run_hydra(lambda cfg: None, path.parent, given, flags, name=path.stem, settings=settings)
            return
        out = [word.removeprefix("out=") for word in overrides if word.startswith("out=")]
        job, into = partial(_train_point, recipe), Path(out[-1]) if out else None
        path = stages[0][0]
        result = sweep(
            job,
            path.parent,
            Overrides(tuple(overrides), folders),
            name=path.stem,
            settings=settings,
            into=into,
            objective="loss",
        )
    show_sweep(result)


def _train_point(recipe: str, cfg: Mapping[str, Any], folder: Path, given: Sequence[str]) -> dict[str, Any]:
    """Train a point of a sweep in its own folder; returns the last loss, and PSNR on held-out frames if measured."""
    import csv
    import json

    from rdvfi.training.recipes import compose_stages
    from rdvfi.training.run import train as run

    overrides = [*(word for word in given if not word.startswith("out=")), f"out={folder}"]
    run(recipe, overrides, report=_report)
    row: dict[str, Any] = {"out": str(folder)}
    for stage in compose_stages(recipe, overrides):
        log, held_out = folder / f"{stage.stage}.csv", folder / f"{stage.stage}.held_out.json"
        if log.exists():
            with log.open(newline="") as stream:
                last = list(csv.DictReader(stream))[-1]
            row["loss"] = sum(float(last[name] or 0) for name in stage.losses if last.get(name))
        if held_out.exists():
            results = json.loads(held_out.read_text())
            row |= {f"PSNR, {gap}": result["after"]["psnr"] for gap, result in results.items()}
    return row
