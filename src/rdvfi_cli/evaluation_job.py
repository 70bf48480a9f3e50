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
from rdvfi.evaluation.model_sweep import sweep_models
from rdvfi.evaluation.output_paths import PAGE_SUFFIXES, PLOT_SUFFIXES, TABLE_SUFFIXES, check_output_path
from rdvfi.evaluation.results import Report
from rdvfi_cli.hydra_options import HydraOptions, show_config, show_sweep
from rdvfi_cli.model_selections import split_list
from rdvfi_cli.progress import Progress

if TYPE_CHECKING:
    from rdvfi.video.model_selection import ModelSelection


@dataclass(frozen=True)
class MethodOptions:
    """The methods to compare, and how they are run."""

    names: Sequence[str]
    selections: "dict[str, ModelSelection]"
    external: Sequence[str]
    ablate: bool
    device: str
    dtype: torch.dtype

    def create(self) -> list[Method]:
        device = resolve_device(self.device)
        selected = [
            ModelMethod(model.build(device, self.dtype, seed=0), name=name) for name, model in self.selections.items()
        ]
        named = [name for name in self.names if name not in self.selections]
        return create_methods([*selected, *named, *self.external], device=device, dtype=self.dtype)


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
        for path, suffixes, title in (
            (self.table, TABLE_SUFFIXES, "a report"),
            (self.cost_plot, PLOT_SUFFIXES, "a plot"),
            (self.page, PAGE_SUFFIXES, "a report page"),
        ):
            if path is not None:
                check_output_path(path, suffixes, title)
        if self.page is None and self.page_gaps:
            raise ValueError("--report-gaps are gaps of the page's plot; name the page with --report")

    def all_gaps(self, gap: int | None) -> list[int | None]:
        """The gap of the table, and the further gaps of the page's plot."""
        try:
            return list(dict.fromkeys((gap, *map(int, split_list(self.page_gaps)))))
        except ValueError:
            message = f"--report-gaps is {self.page_gaps!r}; expected numbers with commas, such as 2,4,16"
            raise ValueError(message) from None


@dataclass(frozen=True)
class EvaluationJob:
    """One run of ``rdvfi evaluate``."""

    location: str | Path
    """The clip, or the folder of the protocol's clips."""
    gap: int | None
    frames: dict[str, Any]
    """Arguments of `rdvfi.evaluate` that select frames."""
    methods: MethodOptions
    scores: dict[str, Any]
    """Arguments of `rdvfi.evaluate` that select scores."""
    reference: str | None
    outputs: OutputOptions
    hydra: HydraOptions

    def run(self) -> None:
        """Check all options, then measure, print and save; or only show a configuration, sweep, or export inputs."""
        data, outputs = self._data(self.gap), self.outputs
        outputs.check()
        gaps = outputs.all_gaps(self.gap if self.frames["protocol"] else data.resolved_gap)
        if self.hydra.requested:
            return self._run_hydra()
        self._check_methods()
        if outputs.inputs is not None:
            count = export_inputs(data.windows(), outputs.inputs)
            return typer.echo(f"wrote the inputs of {count} pairs below {outputs.inputs}")
        created = self.methods.create()
        report = self._measure(created, gaps)
        console = Console(quiet=outputs.quiet and outputs.table is not None)
        self._print_report(console, report)
        if outputs.table is not None:
            report.save(outputs.table)
        for path in (outputs.table, outputs.page):
            if path is not None:
                console.print(f"saved {path}", soft_wrap=True)
        if outputs.cost_plot is not None:
            self._plot_cost(outputs.cost_plot, created, data, report)
            console.print(f"saved {outputs.cost_plot} and {outputs.cost_plot.with_suffix('.json')}", soft_wrap=True)
        return None

    def _data(self, gap: int | None) -> EvaluationData:
        return EvaluationData(self.location, gap=gap, **self.frames)

    def _run_hydra(self) -> None:
        """Show the configuration of the one model, or evaluate every point of a sweep over its parts."""
        methods, table = self.methods, self.outputs.table
        if len(methods.selections) != 1:
            raise ValueError(
                "--multirun, --cfg and --info are for one model: give overrides, and one --model or --recipe"
            )
        (chosen,) = methods.selections.values()
        if not show_config(chosen, self.hydra):
            result = sweep_models(
                chosen,
                str(self.location),
                gap=self.gap,
                device=methods.device,
                dtype=methods.dtype,
                into=None if table is None else table.with_name(f"{table.stem}.multirun"),
                **self.frames,
            )
            show_sweep(result, quiet=self.outputs.quiet)

    def _check_methods(self) -> None:
        names = [*self.methods.names, *self.methods.selections, *map(external_method_name, self.methods.external)]
        if not self.methods.names and not self.methods.selections:
            raise ValueError("--models names no method")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"--compare is {self.reference!r}; it must be one of the methods: {', '.join(names)}")

    def _measure(self, created: Sequence[Method], gaps: Sequence[int | None]) -> Report:
        """The report at the first gap; the page, with all gaps, is written if requested."""
        page, group_by = self.outputs.page, self.scores["group_by"]
        total = sum(self._data(gap).window_count() for gap in gaps)
        done = itertools.count(1)
        with Progress(quiet=self.outputs.quiet) as progress, ExamplePairs() as examples:
            progress.show(0, total)
            measure = partial(
                evaluate,
                self.location,
                **self.frames,
                **{**self.scores, "group_by": group_by if page is None else list(dict.fromkeys((*group_by, "motion")))},
                models=created,
                device=resolve_device(self.methods.device),
                dtype=self.methods.dtype,
                on_window=lambda: progress.show(next(done), total),
            )
            report = measure(gap=gaps[0], ablate=self.methods.ablate, on_result=None if page is None else examples)
            if page is not None:
                others = [measure(gap=gap) for gap in gaps[1:]]
                example_method = next(score.method for score in report.scores if score.failed is None)
                write_page(page, [report, *others], examples.select(example_method))
        return report

    def _print_report(self, console: Console, report: Report) -> None:
        reference = self.reference
        console.print(report.title(), report.table(), report.environment.line(), sep="\n")
        for line in (*result_tables.failure_lines(report), *result_tables.unavailable_lines(report)):
            console.print(line, soft_wrap=True, markup=False)
        if reference is not None and report.score(reference).failed is not None:
            console.print(f"no differences to {reference}: it failed", markup=False)
        elif reference is not None:
            console.print(result_tables.difference_table(report, reference))
        for name in self.scores["group_by"]:
            console.print(result_tables.group_table(report, name))
        for loss in report.losses:
            lost = f"{loss.psnr_lost:.2f} dB, {loss.ssim_lost:.4f} SSIM"
            console.print(f"{loss.method} with {loss.replaced} loses {lost}", soft_wrap=True)

    def _plot_cost(self, path: Path, created: Sequence[Method], data: EvaluationData, report: Report) -> None:
        pair = next(data.windows()).inputs(resolve_device(self.methods.device))
        environment = f"{report.environment.line()}, {str(self.methods.dtype).removeprefix('torch.')}"
        on_point = None if self.outputs.quiet else _print_cost_point
        costs.save_cost_sweep(created, *pair, path, environment=environment, on_point=on_point)


def _print_cost_point(point: costs.CostPoint) -> None:
    outcome = f"failed: {point.failed}" if point.ms is None else f"{point.ms:.0f} ms"
    typer.echo(f"{point.method}, {point.size[1]}x{point.size[0]}, {point.frames} new: {outcome}", err=True)
