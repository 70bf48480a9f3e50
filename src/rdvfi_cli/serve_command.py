"""The command ``rdvfi serve``: the page in the browser."""

from typing import Annotated

import typer

from rdvfi_cli.options import AllowUntrained, Device, DType, Threads, parse_dtype, use_threads


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="A name of `rdvfi models`, a folder or a hub id; repeat it. All installed ones if unset."
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe", "-r", help="A recipe of `rdvfi models`, or a YAML file, to choose besides; repeat it."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any that is free.", min=0, max=65535)] = 7860,
    device: Device = None,
    dtype: DType = None,
    max_megapixels: Annotated[float, typer.Option(help="Largest picture or frame, in millions of pixels.")] = 9.0,
    max_seconds: Annotated[float, typer.Option(help="Longest clip.")] = 60.0,
    max_frames: Annotated[int, typer.Option(help="Most frames that come out of a clip.")] = 3000,
    max_megabytes: Annotated[float, typer.Option(help="Largest file.")] = 200.0,
    max_waiting: Annotated[int, typer.Option(help="Most requests that wait; later ones are told to try again.")] = 16,
    allow_untrained: AllowUntrained = False,
    threads: Threads = None,
) -> None:
    """Serve a page in the browser: two pictures with a time slider, or a clip before and after (extra 'demo')."""
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
