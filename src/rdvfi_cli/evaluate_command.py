"""The command ``rdvfi evaluate``: options, a progress bar, a table."""

import itertools
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdvfi_cli.options import ConfigDir, Multirun, Quiet, ShowConfig, ShowInfo, Threads, parse_dtype, use_threads
from rdvfi_cli.progress import Progress
from rdvfi_cli.sweeping import Hydra, show_sweep, shown

if TYPE_CHECKING:
    from rdvfi.evaluation.cost import CostPoint
    from rdvfi.evaluation.results import Report
    from rdvfi.video.chosen_model import Chosen


def evaluate(
    clip: Annotated[
        str | None,
        typer.Argument(
            help="Video, folder of images, or generated scenes: 'procedural', 'procedural-limbs', "
            "'laboratory-determined', 'laboratory-undetermined'."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Overrides of RDVFI-S, or of the one --model or --recipe, such as basis=linear."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Instead of a clip: a published protocol, such as davis-7, or a YAML file.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the protocol's clips.")] = None,
    gap: Annotated[int | None, typer.Option(help="Distance between input frames; 9 if unset.")] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Models and baselines, separated by commas: rdvfi-s, a saved folder, blend, dis, "
            "dis-448, rife; add +blur1 to blur a method's frames. rdvfi-s,dis,blend without --model and --recipe."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model with parts exchanged: 'linear=rdvfi-s basis=linear'. May be given several times."),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="A recipe's model, of fresh weights: 'mine=my.yaml basis=linear'. May be given several times."
        ),
    ] = None,
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
    conversion: Annotated[
        str, typer.Option(help="Of video to RGB: ffmpeg, its default, as published figures are taken by; or exact.")
    ] = "ffmpeg",
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Metrics, separated by commas, or 'all': psnr, ssim, lpips-alex, fid, ... By default psnr, ssim and "
            "gradient-energy, or those of the protocol."
        ),
    ] = None,
    perceptual: Annotated[bool, typer.Option(help="Also FSIM, VIF and GMSD (extra 'metrics').")] = False,
    by: Annotated[str, typer.Option(help="Also by 'motion' (its size), 'occlusion', or both, with a comma.")] = "",
    compare: Annotated[
        str | None, typer.Option(help="Also paired differences of every method to this one, with 95 % intervals.")
    ] = None,
    ablate: Annotated[bool, typer.Option(help="Also each model with a learned part replaced.")] = False,
    cost: Annotated[
        bool, typer.Option(help="Also milliseconds per pair and per extra frame, and peak memory.")
    ] = False,
    sweep: Annotated[
        Path | None,
        typer.Option(help="Also a plot, .png, .svg or .pdf, of time against width (576 to 3840) and number of frames."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Only write the two inputs of every pair into this folder, for programs that run elsewhere."),
    ] = None,
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
    multirun: Multirun = False,
    cfg: ShowConfig = None,
    info: ShowInfo = False,
    config_dir: ConfigDir = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Measure models and baselines against the true frames of a clip.

    Every GAP-th frame is an input; all frames between are made and compared.
    """
    from rich.console import Console

    from rdvfi.evaluation import cost as costs
    from rdvfi.evaluation import evaluate as measure_all
    from rdvfi.evaluation import result_tables
    from rdvfi.evaluation.evaluation_data import EvaluationData
    from rdvfi.evaluation.external import external_method_name
    from rdvfi.evaluation.external_frames import export_inputs
    from rdvfi.evaluation.html_report import ExamplePairs, write_page
    from rdvfi.evaluation.measurement import resolve_device
    from rdvfi.evaluation.method_adapters import ModelMethod
    from rdvfi.evaluation.methods import create_methods
    from rdvfi.evaluation.metrics import metrics as known_metrics
    from rdvfi.evaluation.model_sweep import sweep_models
    from rdvfi.evaluation.output_paths import PAGE_SUFFIXES, PLOT_SUFFIXES, TABLE_SUFFIXES, check_output_path

    given: dict[str, Any] = {"start": start, "pairs": pairs, "max_size": max_size, "skip_cuts": skip_cuts}
    given |= {"conversion": conversion, "protocol": protocol}
    source = EvaluationData(_place(clip, protocol, root), gap=gap, **given)
    wanted = (
        (output, TABLE_SUFFIXES, "a report"),
        (sweep, PLOT_SUFFIXES, "a plot"),
        (report_page, PAGE_SUFFIXES, "a report page"),
    )
    for path, suffixes, what in wanted:
        if path is not None:
            check_output_path(path, suffixes, what)
    gaps = _gaps(gap if protocol else source.resolved_gap, report_gaps, report_page)
    use_threads(threads)
    selections = _selections(model or [], recipe or [], overrides or [], config_dir)
    if selections and shown(next(iter(selections.values())), Hydra(False, cfg, info, config_dir)):
        return
    if (multirun or cfg or info) and len(selections) != 1:
        raise ValueError("--multirun, --cfg and --info are for one model: give overrides, and one --model or --recipe")
    default = "" if model or recipe or multirun else ",".join((*(() if selections else ("rdvfi-s",)), "dis,blend"))
    names, groups = _listed(default if models is None else models), _listed(by)
    if not names and not selections:
        raise ValueError("--models names no method")
    if multirun:
        found = sweep_models(
            next(iter(selections.values())),
            str(source.clip),
            gap=gap,
            device=device,
            dtype=parse_dtype(dtype),
            into=_folder_of(output),
            **given,
        )
        show_sweep(found, quiet=quiet)
        return
    built = [ModelMethod(one.built(device, parse_dtype(dtype), seed=0), name=name) for name, one in selections.items()]
    names = [*names, *selections]
    compared = [*built, *(name for name in names if name not in selections), *(external or ())]
    names += [external_method_name(text) for text in external or ()]
    if compare is not None and compare not in names:
        raise ValueError(f"--compare is {compare!r}; it must be one of the methods: {', '.join(names)}")
    if export is not None:
        typer.echo(f"wrote the inputs of {export_inputs(source.windows(), export)} pairs below {export}")
        return
    total = sum(EvaluationData(source.clip, gap=one, **given).window_count() for one in gaps)
    where = resolve_device(device)
    methods = create_methods(compared, device=where, dtype=parse_dtype(dtype))
    done = itertools.count(1)
    with Progress(quiet=quiet) as progress, ExamplePairs() as examples:
        progress.show(0, total)
        measure = partial(
            measure_all,
            source.clip,
            **given,
            models=methods,
            metrics=sorted(known_metrics) if metrics == "all" else None if metrics is None else _listed(metrics),
            perceptual=perceptual,
            group_by=groups if report_page is None else list(dict.fromkeys((*groups, "motion"))),
            cost=cost,
            device=where,
            dtype=parse_dtype(dtype),
            on_window=lambda: progress.show(next(done), total),
        )
        report = measure(gap=gap, ablate=ablate, on_result=None if report_page is None else examples)
        if report_page is not None:
            others = [measure(gap=one) for one in gaps[1:]]
            write_page(report_page, [report, *others], examples.select(_shown(report)))
    console = Console(quiet=quiet and output is not None)
    console.print(report.title(), report.table(), report.environment.line(), sep="\n")
    for line in (*result_tables.failure_lines(report), *result_tables.unavailable_lines(report)):
        console.print(line, soft_wrap=True, markup=False)
    if compare is not None and report.score(compare).failed is not None:
        console.print(f"no differences to {compare}: it failed", markup=False)
    elif compare is not None:
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
    if sweep is not None:
        pair = next(source.windows()).inputs(where)
        environment = f"{report.environment.line()}, {dtype}"
        costs.save_cost_sweep(methods, *pair, sweep, environment=environment, on_point=None if quiet else _tell)
        console.print(f"saved {sweep} and {sweep.with_suffix('.json')}", soft_wrap=True)


def _selections(
    models: list[str], recipes: list[str], overrides: list[str], config_dir: Path | None
) -> "dict[str, Chosen]":
    """The models with parts exchanged, by their names; overrides alone are those of RDVFI-S."""
    from rdvfi.video.chosen_model import Chosen

    found: dict[str, Chosen] = {}
    for kind, texts in (("model", models), ("recipe", recipes)):
        for text in texts:
            name, chosen, own = _named(kind, text)
            if name in found:
                raise ValueError(f"--{kind} is {text!r}; there is another one named {name!r}")
            given = (chosen, None) if kind == "model" else (None, chosen)
            found[name] = Chosen(*given, own, config_dir)
    if not overrides:
        return found
    if len(found) > 1:
        raise ValueError(f"{overrides[0]} could be meant for each of {', '.join(found)}; write it inside --model '...'")
    name, one = next(iter(found.items())) if found else (" ".join(("rdvfi-s", *overrides)), Chosen("rdvfi-s", None))
    return {name: replace(one, overrides=(*one.overrides, *overrides), config_dir=config_dir)}


def _named(kind: str, text: str) -> tuple[str, str, tuple[str, ...]]:
    """The name, the model and the overrides of ``NAME=MODEL KEY=VALUE...``; the name may be left out or hold spaces."""
    from rdvfi.config.overrides import is_override

    before, equals, after = text.partition("=")
    words = before.split()
    named = bool(equals and words) and not (len(words) > 1 and is_override(f"{words[-1]}="))
    wrong = f"--{kind} is {text!r}; expected NAME={kind.upper()} [KEY=VALUE]..., as a shell reads what follows NAME"
    try:
        chosen, *own = shlex.split(after if named else text) or [""]
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from error
    if not chosen:
        raise ValueError(wrong)
    return before.strip() if named else text, chosen, tuple(own)


def _folder_of(output: Path | None) -> Path | None:
    return None if output is None else output.with_name(f"{output.stem}.multirun")


def _gaps(gap: int | None, more: str, page: Path | None) -> list[int | None]:
    """The gap of the table, and those that join in the page's plot."""
    if page is None:
        if more:
            raise ValueError("--report-gaps are gaps of the page's plot; name the page with --report")
        return [gap]
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


def _tell(point: "CostPoint") -> None:
    """A point of a sweep on the error stream, for they take a while."""
    took = f"failed: {point.failed}" if point.ms is None else f"{point.ms:.0f} ms"
    typer.echo(f"{point.method}, {point.size[1]}x{point.size[0]}, {point.frames} new: {took}", err=True)


def _place(clip: str | None, protocol: str | None, root: Path | None) -> str | Path:
    """The clip, or the folder of a protocol's clips: either."""
    if (clip is None) == (protocol is None):
        given = "neither is given" if clip is None else f"got {clip} and {protocol}"
        raise ValueError(f"name a clip, or a protocol with --protocol and --root; {given}")
    if (protocol is None) != (root is None):
        raise ValueError("--protocol and --root belong together: a protocol, and the folder of its clips")
    return clip or root or ""
