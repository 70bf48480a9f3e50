"""The command ``rdvfi export``."""

import re
from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.options import Quiet, Threads, use_threads

application = typer.Typer(help="Write a model in another form.", no_args_is_help=True)


@application.callback()
def export() -> None:
    """Write a model in another form."""


@application.command()
def onnx(
    folder: Annotated[Path, typer.Argument(help="Where estimate.onnx and render.onnx go; made if needed.")],
    model: Annotated[
        str | None, typer.Option(help="A name of `rdvfi models`, a folder or a hub id; the one that ships if unset.")
    ] = None,
    size: Annotated[
        str, typer.Option(help="WIDTHxHEIGHT of the frames that it is meant for; others are shrunk like these.")
    ] = "1280x720",
    seed: Annotated[int, typer.Option(help="Of the noise, which becomes part of the file.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-y", help="Replace files that are there.")] = False,
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
    from rdvfi.video.ready import DEFAULT_MODEL

    name = model or DEFAULT_MODEL
    files = export_onnx(create_model(name), folder, size=(int(match[2]), int(match[1])), seed=seed, overwrite=overwrite)
    for file in files if not quiet else ():
        typer.echo(f"{file}: {name}, {file.stat().st_size / 1e6:.1f} MB")
