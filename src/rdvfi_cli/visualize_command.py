"""The command ``rdvfi visualize``."""

from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.completion import model_names
from rdvfi_cli.options import AllowUntrained, Device, Overwrite, Quiet, Seed, Threads, use_threads


def visualize(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT", help="A video, a folder of images, or images; then a .png or a video file."
        ),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Panels: picture, paths, flow, confidence, occlusion, mask; all if unset. Repeatable."),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            help="A pixel of the first frame whose path is drawn, such as 120,80; a grid if unset. Repeatable."
        ),
    ] = None,
    start: Annotated[str, typer.Option(help="Start of the first pair: seconds, or h:mm:ss.")] = "0",
    end: Annotated[str | None, typer.Option(help="End of the last pair of a video.")] = None,
    time: Annotated[float, typer.Option(help="Time of the image between the two frames, 0 to 1.")] = 0.5,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A name of `rdvfi models`, or a folder.", autocompletion=model_names),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    overwrite: Overwrite = False,
    allow_untrained: AllowUntrained = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Visualise point paths, flow, confidence, occlusion and masks of a pair (PNG) or a range (video)."""
    from rdvfi.serve.visualize import LAYERS
    from rdvfi.serve.visualize import visualize as draw
    from rdvfi.video.model_loading import DEFAULT_MODEL
    from rdvfi.video.speed_curve import read_time

    if len(paths) < 2:
        raise ValueError("give an input and an output: rdvfi visualize IN... OUT")
    use_threads(threads)
    *sources, destination = paths
    pairs = draw(
        sources,
        destination,
        model=model or DEFAULT_MODEL,
        layers=layer or LAYERS,
        points=[parse_point(text) for text in point or ()],
        start=read_time("start", start),
        end=None if end is None else read_time("end", end),
        time=time,
        device=device,
        seed=seed,
        overwrite=overwrite,
        allow_untrained=allow_untrained,
    )
    if not quiet:
        typer.echo(f"{destination}: {pairs} pair{'' if pairs == 1 else 's'} of frames")


def parse_point(text: str) -> tuple[float, float]:
    """Column and row of a pixel, from a text such as 120,80; raises ValueError if it is not valid."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"--point is {text!r}; expected column and row of a pixel, such as 120,80") from error
    return x, y
