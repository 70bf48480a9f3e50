"""The steps of ``rdvfi evaluate``: choose frames and methods, measure, print the report, write files.

The command imports this module when it runs, so that its help needs no torch.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import typer
from rich.console import Console

from rdvfi.evaluation import cost as costs
from rdvfi.evaluation import evaluate, result_tables
from rdvfi.evaluation.evaluation_data import EvaluationData
from rdvfi.evaluation.external import external_method_name
from rdvfi.evaluation.external_frames import export_inputs
from rdvfi.evaluation.html_report import ExamplePairs, write_page
from rdvfi.evaluation.measurement import resolve_device
from rdvfi.evaluation.method import Method
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.methods import create_methods
from rdvfi.evaluation.metrics import metrics as known_metrics
from rdvfi.evaluation.model_sweep import sweep_models
from rdvfi.evaluation.output_paths import PAGE_SUFFIXES, PLOT_SUFFIXES, TABLE_SUFFIXES, check_output_path
from rdvfi.evaluation.results import Report
from rdvfi_cli.model_selections import split_list
from rdvfi_cli.progress import Progress
from rdvfi_cli.sweeping import Hydra, show_sweep, shown

if TYPE_CHECKING:
    from rdvfi.video.model_selection import ModelSelection


@dataclass(frozen=True)
class FrameOptions:
    """The frames to evaluate on; the fields are options of the command."""

    clip: str | None
    protocol: str | None
    root: Path | None
    gap: int | None
    start: int
    pairs: int | None
    max_size: int | None
    skip_cuts: bool | None
    conversion: str

    def location(self) -> str | Path:
        """The clip, or the folder of the protocol's clips; raises ValueError unless exactly one is given."""
        if (self.clip is None) == (self.protocol is None):
            given = "neither is given" if self.clip is None else f"got {self.clip} and {self.protocol}"
            raise ValueError(f"name a clip, or a protocol with --protocol and --root; {given}")
        if (self.protocol is None) != (self.root is None):
            raise ValueError("--protocol and --root belong together: a protocol, and the folder of its clips")
        return self.clip or self.root or ""

    def arguments(self) -> dict[str, Any]:
        """Arguments of `rdvfi.evaluate` other than the clip and the gap."""
        names = ("protocol", "start", "pairs", "max_size", "skip_cuts", "conversion")
        return {name: getattr(self, name) for name in names}

    def source(self, gap: int | None) -> EvaluationData:
        """The pairs of input frames at this gap; raises ValueError if an option does not apply."""
        return EvaluationData(self.location(), gap=gap, **self.arguments())


@dataclass(frozen=True)
class MethodOptions:
    """The methods to compare, and how they are run."""

    names: Sequence[str]
    selections: "dict[str, ModelSelection]"
    external: Sequence[str]
    ablate: bool
    device: str
    dtype: torch.dtype

    def reported_names(self) -> list[str]:
        """The names of all methods in the report."""
        return [*self.names, *self.selections, *map(external_method_name, self.external)]

    def create(self) -> list[Method]:
        """All methods, ready to run."""
        device = resolve_device(self.device)
        selected = [
            ModelMethod(one.build(device, self.dtype, seed=0), name=name) for name, one in self.selections.items()
        ]
        named = [name for name in self.names if name not in self.selections]
        return create_methods([*selected, *named, *self.external], device=device, dtype=self.dtype)


@dataclass(frozen=True)
class ScoreOptions:
    """The scores to compute and to show; the fields are options of the command."""

    metrics: Sequence[str] | None
    perceptual: bool
    group_by: Sequence[str]
    reference: str | None
    cost: bool

    def arguments(self, *, with_page: bool) -> dict[str, Any]:
        """Arguments of `rdvfi.evaluate`; the page has a plot of the scores by motion."""
        return {
            "metrics": sorted(known_metrics) if self.metrics == ["all"] else self.metrics,
            "perceptual": self.perceptual,
            "group_by": list(dict.fromkeys((*self.group_by, "motion"))) if with_page else self.group_by,
            "cost": self.cost,
        }


@dataclass(frozen=True)
class OutputOptions:
    """The files to write, all optional."""

    table: Path | None
    page: Path | None
    page_gaps: str
    cost_plot: Path | None
    inputs: Path | None
    quiet: bool

    def check(self) -> None:
        """Raise ValueError or FileNotFoundError if a file cannot be written."""
        outputs = (
            (self.table, TABLE_SUFFIXES, "a report"),
            (self.cost_plot, PLOT_SUFFIXES, "a plot"),
            (self.page, PAGE_SUFFIXES, "a report page"),
        )
        for path, suffixes, title in outputs:
            if path is not None:
                check_output_path(path, suffixes, title)
        if self.page is None and self.page_gaps:
            raise ValueError("--report-gaps are gaps of the page's plot; name the page with --report")

    def all_gaps(self, gap: int | None) -> list[int | None]:
        """The gap of the table, and the further ones of the page's plot."""
        try:
            return list(dict.fromkeys((gap, *map(int, split_list(self.page_gaps)))))
        except ValueError:
            raise ValueError(
                f"--report-gaps is {self.page_gaps!r}; expected numbers with commas, such as 2,4,16"
            ) from None


def run_job(
    frames: FrameOptions, methods: MethodOptions, scores: ScoreOptions, outputs: OutputOptions, hydra: Hydra
) -> None:
    """Check all options, then measure, print and save; or only show a configuration, sweep, or export inputs."""
    source = frames.source(frames.gap)
    outputs.check()
    gaps = outputs.all_gaps(frames.gap if frames.protocol else source.resolved_gap)
    if hydra.requested:
        _run_hydra(frames, methods, outputs, hydra)
        return
    names = methods.reported_names()
    if not names:
        raise ValueError("--models names no method")
    if scores.reference is not None and scores.reference not in names:
        raise ValueError(f"--compare is {scores.reference!r}; it must be one of the methods: {', '.join(names)}")
    if outputs.inputs is not None:
        count = export_inputs(source.windows(), outputs.inputs)
        typer.echo(f"wrote the inputs of {count} pairs below {outputs.inputs}")
        return
    created = methods.create()
    report = _measure(frames, gaps, methods, created, scores, outputs)
    console = Console(quiet=outputs.quiet and outputs.table is not None)
    _print_report(console, report, scores)
    _save_report(console, report, outputs)
    if outputs.cost_plot is not None:
        _plot_cost(console, report, source, created, methods, outputs)


def _run_hydra(frames: FrameOptions, methods: MethodOptions, outputs: OutputOptions, hydra: Hydra) -> None:
    """Show the configuration of the one model, or evaluate every point of a sweep over its parts."""
    if len(methods.selections) != 1:
        raise ValueError("--multirun, --cfg and --info are for one model: give overrides, and one --model or --recipe")
    (chosen,) = methods.selections.values()
    if shown(chosen, hydra):
        return
    table = outputs.table
    result = sweep_models(
        chosen,
        str(frames.location()),
        gap=frames.gap,
        device=methods.device,
        dtype=methods.dtype,
        into=None if table is None else table.with_name(f"{table.stem}.multirun"),
        **frames.arguments(),
    )
    show_sweep(result, quiet=outputs.quiet)


def _measure(
    frames: FrameOptions,
    gaps: Sequence[int | None],
    methods: MethodOptions,
    created: Sequence[Method],
    scores: ScoreOptions,
    outputs: OutputOptions,
) -> Report:
    """The report at the first gap; the page, with all gaps, is written if requested."""
    total = sum(frames.source(gap).window_count() for gap in gaps)
    done = itertools.count(1)
    with Progress(quiet=outputs.quiet) as progress, ExamplePairs() as examples:
        progress.show(0, total)
        measure = partial(
            evaluate,
            frames.location(),
            **frames.arguments(),
            **scores.arguments(with_page=outputs.page is not None),
            models=created,
            device=resolve_device(methods.device),
            dtype=methods.dtype,
            on_window=lambda: progress.show(next(done), total),
        )
        report = measure(gap=gaps[0], ablate=methods.ablate, on_result=None if outputs.page is None else examples)
        if outputs.page is not None:
            others = [measure(gap=gap) for gap in gaps[1:]]
            shown_method = next(score.method for score in report.scores if score.failed is None)
            write_page(outputs.page, [report, *others], examples.select(shown_method))
    return report


def _print_report(console: Console, report: Report, scores: ScoreOptions) -> None:
    console.print(report.title(), report.table(), report.environment.line(), sep="\n")
    for line in (*result_tables.failure_lines(report), *result_tables.unavailable_lines(report)):
        console.print(line, soft_wrap=True, markup=False)
    if scores.reference is not None:
        if report.score(scores.reference).failed is not None:
            console.print(f"no differences to {scores.reference}: it failed", markup=False)
        else:
            console.print(result_tables.difference_table(report, scores.reference))
    for name in scores.group_by:
        console.print(result_tables.group_table(report, name))
    for loss in report.losses:
        console.print(
            f"{loss.method} with {loss.replaced} loses {loss.psnr_lost:.2f} dB, {loss.ssim_lost:.4f} SSIM",
            soft_wrap=True,
        )


def _save_report(console: Console, report: Report, outputs: OutputOptions) -> None:
    if outputs.table is not None:
        report.save(outputs.table)
    for path in (outputs.table, outputs.page):
        if path is not None:
            console.print(f"saved {path}", soft_wrap=True)


def _plot_cost(
    console: Console,
    report: Report,
    source: EvaluationData,
    created: Sequence[Method],
    methods: MethodOptions,
    outputs: OutputOptions,
) -> None:
    """Measure and plot the time of every method against width and number of frames."""
    path = outputs.cost_plot
    assert path is not None
    img0, img1 = next(source.windows()).inputs(resolve_device(methods.device))
    dtype = str(methods.dtype).removeprefix("torch.")
    costs.save_cost_sweep(
        created,
        img0,
        img1,
        path,
        environment=f"{report.environment.line()}, {dtype}",
        on_point=None if outputs.quiet else _print_cost_point,
    )
    console.print(f"saved {path} and {path.with_suffix('.json')}", soft_wrap=True)


def _print_cost_point(point: costs.CostPoint) -> None:
    """Print one measurement to standard error: each takes a while."""
    outcome = f"failed: {point.failed}" if point.ms is None else f"{point.ms:.0f} ms"
    typer.echo(f"{point.method}, {point.size[1]}x{point.size[0]}, {point.frames} new: {outcome}", err=True)
