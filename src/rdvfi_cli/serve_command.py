"""The command ``rdvfi serve``: the page in the browser."""

from typing import Annotated

import typer

from rdvfi_cli.completion import model_names, recipe_names
from rdvfi_cli.options import AllowUntrained, Device, DType, Threads, parse_dtype, use_threads


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A name of `rdvfi models`, a folder or a hub id; all installed models if unset. Repeatable.",
            autocompletion=model_names,
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            help="A recipe of `rdvfi models`, or a YAML file, to offer as well. Repeatable.",
            autocompletion=recipe_names,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 selects a free one.", min=0, max=65535)] = 7860,
    device: Device = None,
    dtype: DType = None,
    max_megapixels: Annotated[float, typer.Option(help="Largest image or frame, in millions of pixels.")] = 9.0,
    max_seconds: Annotated[float, typer.Option(help="Longest clip, in seconds.")] = 60.0,
    max_frames: Annotated[int, typer.Option(help="Maximum number of output frames of a clip.")] = 3000,
    max_megabytes: Annotated[float, typer.Option(help="Largest uploaded file, in megabytes.")] = 200.0,
    max_waiting: Annotated[
        int, typer.Option(help="Maximum number of waiting requests; further ones are refused.")
    ] = 16,
    allow_untrained: AllowUntrained = False,
    threads: Threads = None,
) -> None:
    """Serve a page in the browser: interpolate two images with a time slider, or a clip (extra 'demo')."""
    from rdvfi.serve import Limits
    from rdvfi.serve import serve as run

    use_threads(threads)
    run(
        models=model,
        recipes=recipe or (),
        host=host,
        port=port,
        device=device,
        dtype=None if dtype is None else parse_dtype(dtype),
        limits=Limits(max_megapixels, max_seconds, max_frames, max_megabytes, max_waiting),
        allow_untrained=allow_untrained,
        ready=lambda address: typer.echo(f"open {address} in a browser; Ctrl+C ends it"),
    )
