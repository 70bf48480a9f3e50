"""The command ``rdvfi evaluate``: options, a progress bar, a table."""

import itertools
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdvfi_cli.options import Quiet, Threads, parse_dtype, use_threads
from rdvfi_cli.progress import Progress

if TYPE_CHECKING:
    from rdvfi.evaluation.results import Report


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
    report_page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Also a page to look at, as .html: table, plots, worst, median and best pairs (extra 'plot').",
        ),
    ] = None,
    report_gaps: Annotated[
        str, typer.Option(help="More gaps for the page's plot of quality against gap, separated by commas: 2,4,16.")
    ] = "",
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
    from rdvfi.evaluation.html_report import ExamplePairs, write_page
    from rdvfi.evaluation.metrics import metrics as known_metrics
    from rdvfi.evaluation.results import check_output

    if output is not None:
        check_output(output)
    gaps = _gaps(gap, report_gaps, report_page)
    use_threads(threads)
    names, groups = _listed(models), _listed(by)
    if not names:
        raise ValueError("--models names no method")
    if compare is not None and compare not in names:
        raise ValueError(f"--compare is {compare!r}; it must be one of --models: {', '.join(names)}")
    total = sum(protocol.count_windows(clip, gap=one, start=start, pairs=pairs) for one in gaps if one > 0)
    done = itertools.count(1)
    with Progress(quiet=quiet) as progress, ExamplePairs() as examples:
        progress.show(0, total)
        measure = partial(
            protocol.evaluate,
            clip,
            models=[*names, *(external or ())],
            start=start,
            pairs=pairs,
            max_size=max_size,
            skip_cuts=skip_cuts,
            metrics=sorted(known_metrics) if metrics == "all" else _listed(metrics),
            perceptual=perceptual,
            group_by=groups if report_page is None else list(dict.fromkeys((*groups, "motion"))),
            device=device,
            dtype=parse_dtype(dtype),
            on_window=lambda: progress.show(next(done), total),
        )
        report = measure(gap=gap, ablate=ablate, observe=None if report_page is None else examples)
        if report_page is not None:
            others = [measure(gap=one) for one in gaps[1:]]
            write_page(report_page, [report, *others], examples.chosen(_shown(report)))
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
    if report_page is not None:
        console.print(f"saved {report_page}", soft_wrap=True)


def _gaps(gap: int, more: str, page: Path | None) -> list[int]:
    """The gap of the table, and those that join in the page's plot."""
    if page is None:
        if more:
            raise ValueError("--report-gaps are gaps of the page's plot; name the page with --report")
        return [gap]
    from rdvfi.evaluation.html_report import check_page

    check_page(page)
    try:
        return list(dict.fromkeys((gap, *(int(one) for one in _listed(more)))))
    except ValueError:
        raise ValueError(f"--report-gaps is {more!r}; expected numbers with commas, such as 2,4,16") from None


def _shown(report: "Report") -> str:
    """The method whose pairs are shown: the first that made frames."""
    return next(score.method for score in report.scores if score.failed is None)


def _listed(text: str) -> list[str]:
    """What a text names, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
