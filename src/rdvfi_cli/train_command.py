"""``rdvfi train``: a recipe, and overrides of its fields."""

import sys
from typing import Annotated

import typer

from rdvfi_cli.options import Threads, use_threads


def _report(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="recipe=NAME data.folder=DATA out=OUT [FIELD=VALUE]...",
            help="A recipe and overrides, for example losses.lpips=0.2 or engine.steps=100.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the stages as they would be run, and stop.")] = False,
    threads: Threads = None,
) -> None:
    """Train a model by a recipe; a stopped run goes on where it was."""
    import torch

    from rdvfi.training.recipes import as_table, compose_stages, list_training_recipes
    from rdvfi.training.run import train as run

    use_threads(threads)
    given = settings or []
    chosen = [word.removeprefix("recipe=") for word in given if word.startswith("recipe=")]
    overrides = [word for word in given if not word.startswith("recipe=")]
    if len(chosen) != 1:
        known = ", ".join(list_training_recipes())
        raise ValueError(f"give one recipe=NAME (recipes: {known})")
    if show:
        tables = [as_table(stage) for stage in compose_stages(chosen[0], overrides)]
        _report("---\n".join(tables).rstrip())
    else:
        run(chosen[0], overrides, report=_report)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # nobody leaves while another still talks to it
            torch.distributed.destroy_process_group()
