"""The command ``rdvfi convert``."""

from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.options import Threads, use_threads


def convert(
    file: Annotated[Path, typer.Argument(help="The original Wan2.1-Fun-InP safetensors file.")],
    folder: Annotated[Path, typer.Argument(help="Output folder, in the format of diffusers.")],
    size: Annotated[str, typer.Option(help="Size of the architecture of the file.")] = "1.3b",
    vae: Annotated[
        str | None, typer.Option(help="Folder or hub id, in the format of diffusers, whose autoencoder is copied.")
    ] = None,
    vae_revision: Annotated[str | None, typer.Option(help="Full commit hash, for a hub id.")] = None,
    threads: Threads = None,
) -> None:
    """Convert the original file of Wan2.1-Fun-InP to the format of diffusers; values stay the same."""
    from rdvfi.backbones.wan.convert import convert_transformer, copy_autoencoder

    use_threads(threads)
    convert_transformer(file, folder, size=size)
    typer.echo(f"{folder / 'transformer'}: written")
    if vae is not None:
        copy_autoencoder(vae, folder, revision=vae_revision)
        typer.echo(f"{folder / 'vae'}: written")
    elif not (folder / "vae").exists():
        typer.echo(f"{folder / 'vae'}: missing; put Wan2.1's autoencoder there, or use --vae")
