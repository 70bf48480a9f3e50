"""The command ``rdvfi interpolate``: options, a progress bar, a closing line."""

import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import torch
import typer

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def interpolate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT",
            help="A video, a folder of images, or image files in order; then the output: .mp4, "
            ".mov, .mkv, .webm, or a folder for PNG images.",
        ),
    ],
    multiplier: Annotated[
        int | None,
        typer.Option(
            "--multiplier", "-x", help="New frame rate over the old one; 8 unless --fps is given."
        ),
    ] = None,
    fps: Annotated[
        str | None,
        typer.Option(help="Instead: constant frames per second, as 60, 59.94 or 60000/1001."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A name of `rdvfi models`, a folder or a hub id.")
    ] = "rdvfi-s",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1...; CUDA if there is one.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16 or bfloat16; float16 on CUDA, else float32."),
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Frames drawn at once; chosen by their size if unset.")
    ] = None,
    image_rate: Annotated[
        str | None,
        typer.Option(help="Images per second of image input; if unset, 24 come out per second."),
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="h264, hevc, vp9 or ffv1 (lossless); chosen by the suffix.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(help="Quality of the codec: lower is better and larger.")
    ] = None,
    audio: Annotated[bool, typer.Option(help="Copy the sound.")] = True,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(help="Also write a PNG of one pair and the frames between."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an existing output.")
    ] = False,
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Accept untrained parts; for development.")
    ] = False,
) -> None:
    """Make a video smoother: new frames between all frames, sound and timing kept."""
    from rdvfi.video import LowConfidenceWarning, interpolate_video

    if len(paths) < 2:
        raise ValueError("give one or more inputs and an output: rdvfi interpolate IN... OUT")
    *sources, destination = paths
    with warnings.catch_warnings(), _Progress() as progress:
        # The same is said below, once the progress bar is gone.
        warnings.simplefilter("ignore", LowConfidenceWarning)
        report = interpolate_video(
            sources,
            destination,
            model=model,
            multiplier=multiplier,
            target_fps=None if fps is None else parse_rate(fps, "--fps"),
            seed=seed,
            device=device,
            dtype=None if dtype is None else parse_dtype(dtype),
            chunk=chunk,
            image_rate=None if image_rate is None else parse_rate(image_rate, "--image-rate"),
            codec=codec,
            crf=crf,
            audio=audio,
            allow_untrained=allow_untrained,
            overwrite=overwrite,
            contact_sheet=contact_sheet,
            progress=progress.show,
        )
    made = max(1, report.frames_written - report.frames_read)
    typer.echo(
        f"{destination}: {report.frames_written} frames of {report.width}x{report.height} from "
        f"{report.frames_read} in {report.seconds:.1f} s ({report.seconds / made:.3f} s per new "
        f"frame), mean confidence {report.confidence:.2f}"
    )
    for line in (*report.notes, report.warning()):
        if line is not None:
            typer.echo(f"warning: {line}", err=True)


def parse_rate(text: str, option: str) -> Fraction:
    """A frame rate: 60, 59.94 or 60000/1001."""
    from rdvfi.video.timing import exact_rate

    try:
        return Fraction(text) if "/" in text else exact_rate(float(text))
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{option} is {text!r}; expected a frame rate such as 60, 59.94 or 60000/1001"
        ) from error


def parse_dtype(name: str) -> torch.dtype:
    """A floating point type by its name."""
    if name not in DTYPES:
        raise ValueError(f"--dtype is {name!r}; it must be one of {', '.join(DTYPES)}")
    return DTYPES[name]


class _Progress:
    """A bar with the time left, on the error stream, gone when the work is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("frames", total=None, rate="")
        self._begun = 0.0

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._begun:
            self._progress.stop()

    def show(self, written: int, total: int) -> None:
        """So many frames are written, of so many."""
        if not self._begun:  # no bar, not even an empty line, before there is something to show
            self._begun = time.monotonic()
            self._progress.start()
        rate = written / max(1e-9, time.monotonic() - self._begun)
        self._progress.update(self._task, completed=written, total=total, rate=f"{rate:.1f}/s")
