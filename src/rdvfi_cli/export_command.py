"""The command ``rdvfi export``."""

import re
from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.options import Model, Overwrite, Quiet, Threads, use_threads

application = typer.Typer(help="Write a model in another form.", no_args_is_help=True)


@application.callback()
def export() -> None:
    """Write a model in another form."""


@application.command()
def onnx(
    folder: Annotated[Path, typer.Argument(help="Folder of estimate.onnx and render.onnx; created if needed.")],
    model: Model = None,
    size: Annotated[
        str, typer.Option(help="WIDTHxHEIGHT of the expected frames, which sets the motion size.")
    ] = "1280x720",
    seed: Annotated[int, typer.Option(help="Seed of the noise, which is stored in the file.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Write both stages of a model as ONNX, for runtimes without torch (extra 'onnx'). Takes some minutes."""
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None:
        raise ValueError(f"--size is {size!r}; expected WIDTHxHEIGHT, such as 1280x720")
    use_threads(threads)
    from rdvfi.integrations.onnx import export_onnx
    from rdvfi.models import create_model
    from rdvfi.video.model_loading import DEFAULT_MODEL

    name = model or DEFAULT_MODEL
    files = export_onnx(create_model(name), folder, size=(int(match[2]), int(match[1])), seed=seed, overwrite=overwrite)
    for file in files if not quiet else ():
        typer.echo(f"{file}: {name}, {file.stat().st_size / 1e6:.1f} MB")
