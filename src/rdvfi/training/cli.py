"""``rdvfi train``: train RDVFI-S from the data to the weights that ship."""

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from rdvfi.training.command import STAGES, run_stage, train_rdvfi_s


def _report(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train(
    data: Annotated[Path, typer.Argument(help="Folder made by python -m rdvfi.data.build.")],
    out: Annotated[Path, typer.Argument(help="Folder of checkpoints and results.")],
    stage: Annotated[
        str | None, typer.Option(help=f"One stage only, of: {', '.join(STAGES)}.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Limit of each stage.", min=0.0)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the one stage.", min=1)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1)] = None,
) -> None:
    """Train RDVFI-S, stage by stage; a stopped run goes on where it was."""
    if threads:
        torch.set_num_threads(threads)
    if stage is None and steps is not None:
        raise ValueError("--steps belongs to one stage; name it with --stage")
    if stage is None:
        train_rdvfi_s(data, out, report=_report, minutes=minutes)
    else:
        run_stage(stage, data, out, report=_report, minutes=minutes, steps=steps)
