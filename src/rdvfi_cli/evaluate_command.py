"""The command ``rdvfi evaluate``: options, a progress bar, a table."""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.options import Quiet, Threads, parse_dtype, use_threads
from rdvfi_cli.progress import Progress


def evaluate(
    clip: Annotated[
        str,
        typer.Argument(
            help="Video, folder of images, or generated scenes: 'procedural', 'procedural-limbs', "
            "'laboratory-determined', 'laboratory-undetermined'."
        ),
    ],
    gap: Annotated[int, typer.Option(help="Distance between input frames.")] = 9,
    models: Annotated[
        str,
        typer.Option(
            help="Models and baselines, separated by commas: rdvfi-s, a saved folder, blend, dis, "
            "dis-448, rife; add +blur1 to blur a method's frames."
        ),
    ] = "rdvfi-s,dis,blend",
    external: Annotated[
        list[str] | None,
        typer.Option(
            help="Another program: 'name=COMMAND {first} {last} {count} {out}', name=FOLDER with its frames, or "
            "name@FOLDER for a documented command. May be given several times."
        ),
    ] = None,
    start: Annotated[int, typer.Option(help="Number of the first input frame.")] = 0,
    pairs: Annotated[int | None, typer.Option(help="Number of input pairs; all if unset.")] = None,
    max_size: Annotated[int | None, typer.Option(help="Longest side in pixels; larger frames are reduced.")] = None,
    skip_cuts: Annotated[
        bool | None,
        typer.Option(
            "--skip-cuts/--keep-cuts",
            help="Leave out pairs with a scene cut between them. By default in long clips only.",
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Metrics, separated by commas: psnr, ssim, lpips-alex, fid, ...; 'all' are all.")
    ] = "psnr,ssim,gradient-energy",
    perceptual: Annotated[bool, typer.Option(help="Also FSIM, VIF and GMSD (extra 'metrics').")] = False,
    by: Annotated[str, typer.Option(help="Also by 'motion' (its size), 'occlusion', or both, with a comma.")] = "",
    compare: Annotated[
        str | None, typer.Option(help="Also paired differences of every method to this one, with 95 % intervals.")
    ] = None,
    ablate: Annotated[bool, typer.Option(help="Also each model with a learned part replaced.")] = False,
    output: Annotated[Path | None, typer.Option(help="Save the report here, as .json, .csv or .md.")] = None,
    device: Annotated[str, typer.Option(help="Device, such as cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Measure models and baselines against the true frames of a clip.

    Every GAP-th frame is an input; all frames between are made and compared.
    """
    from rich.console import Console

    from rdvfi.evaluation import protocol, result_tables
    from rdvfi.evaluation.metrics import metrics as known_metrics
    from rdvfi.evaluation.results import check_output

    if output is not None:
        check_output(output)
    use_threads(threads)
    names, groups = _listed(models), _listed(by)
    if not names:
        raise ValueError("--models names no method")
    if compare is not None and compare not in names:
        raise ValueError(f"--compare is {compare!r}; it must be one of --models: {', '.join(names)}")
    total = protocol.count_windows(clip, gap=gap, start=start, pairs=pairs) if gap > 0 else 0
    done = itertools.count(1)
    with Progress(quiet=quiet) as progress:
        progress.show(0, total)
        report = protocol.evaluate(
            clip,
            gap=gap,
            models=[*names, *(external or ())],
            start=start,
            pairs=pairs,
            max_size=max_size,
            skip_cuts=skip_cuts,
            metrics=sorted(known_metrics) if metrics == "all" else _listed(metrics),
            perceptual=perceptual,
            group_by=groups,
            ablate=ablate,
            device=device,
            dtype=parse_dtype(dtype),
            on_window=lambda: progress.show(next(done), total),
        )
    console = Console(quiet=quiet and output is not None)
    console.print(report.title(), report.table(), report.environment.line(), sep="\n")
    for line in result_tables.notes(report):
        console.print(line, soft_wrap=True, markup=False)
    if compare is not None:
        console.print(result_tables.difference_table(report, compare))
    for name in groups:
        console.print(result_tables.group_table(report, name))
    for loss in report.losses:
        console.print(
            f"{loss.method} with {loss.replaced} loses {loss.psnr_lost:.2f} dB, {loss.ssim_lost:.4f} SSIM",
            soft_wrap=True,
        )
    if output is not None:
        report.save(output)
        console.print(f"saved {output}", soft_wrap=True)


def _listed(text: str) -> list[str]:
    """What a text names, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
