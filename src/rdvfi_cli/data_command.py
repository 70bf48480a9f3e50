"""``rdvfi data``: build the training data."""

from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.options import Threads, use_threads

application = typer.Typer(help="Build the training data.", no_args_is_help=True)


@application.callback()
def group() -> None:
    """Build the training data."""


@application.command()
def build(
    packages: Annotated[Path, typer.Argument(help="Folder of the downloaded packages.")],
    data: Annotated[Path, typer.Argument(help="Where the data goes.")],
    threads: Threads = None,
) -> None:
    """Build the training data from packages of public registries; a stopped build goes on."""
    from rdvfi.data.datasets.build import build as run

    use_threads(threads)
    run(packages, data, report=typer.echo)
