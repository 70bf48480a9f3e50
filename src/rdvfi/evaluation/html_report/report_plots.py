"""The plots of a report as SVG: PSNR against gap, time, motion size and milliseconds per frame."""

import io
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rdvfi.compat import import_optional
from rdvfi.evaluation.intervals import weighted_mean
from rdvfi.evaluation.results import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "psnr"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
"""Colours of the methods, in order; colour-blind safe (Okabe and Ito, 2008)."""
_MARKERS = "osD^vPX*"
_MATPLOTLIB_MODULES = ("matplotlib", "matplotlib.figure")


def draw_plots(reports: Sequence[Report]) -> dict[str, str]:
    """SVG text by title, for every plot that the reports have values for; the first report is the main one."""
    main = reports[0]
    plots = {}
    if len({report.gap for report in reports}) > 1:
        plots["PSNR against gap"] = _svg(_plot_against_gap, reports)
    if main.gap > 2:
        plots["PSNR between the inputs"] = _svg(_plot_against_time, main)
    if any("motion" in row.properties for row in main.windows):
        plots["PSNR against motion size"] = _svg(_plot_against_motion, main)
    plots["PSNR against time per frame"] = _svg(_plot_against_milliseconds, main)
    return plots


def scored_methods(report: Report) -> list[str]:
    """Names of the methods with values, in order."""
    return [score.method for score in report.scores if METRIC in score.values]


def _svg(draw: Callable[["Axes", Any], None], argument: Any) -> str:
    matplotlib, figures = (import_optional(name, "plots need", "'rdvfi[plot]'") for name in _MATPLOTLIB_MODULES)
    # Text stays text, in the font of the page. The fixed salt makes the output deterministic.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rdvfi", "font.family": "sans-serif"}):
        figure = figures.Figure(figsize=(4.4, 3.1), layout="constrained")
        axes = figure.subplots()
        draw(axes, argument)
        axes.set_ylabel("PSNR in dB")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(fontsize=8, framealpha=0.9)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    document = text.getvalue()
    return document[document.index("<svg") :]


def _style(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": _MARKERS[index % len(_MARKERS)], "markersize": 5}


def _plot_against_gap(axes: "Axes", reports: Sequence[Report]) -> None:
    ordered = sorted(reports, key=lambda report: report.gap)
    for i, name in enumerate(scored_methods(reports[0])):
        points = [(r.gap, r.score(name).values[METRIC]) for r in ordered if name in scored_methods(r)]
        axes.plot(*zip(*points, strict=True), label=name, **_style(i))
    axes.set_xlabel("gap: frames from input to input")
    axes.set_xscale("log", base=2)
    axes.set_xticks([report.gap for report in ordered], [str(report.gap) for report in ordered])


def _plot_against_time(axes: "Axes", report: Report) -> None:
    times = [i / report.gap for i in range(1, report.gap)]
    for i, name in enumerate(scored_methods(report)):
        samples = [row.samples[name][METRIC] for row in report.windows if METRIC in row.samples.get(name, {})]
        curves = [sample.values for sample in samples if len(sample.values) == len(times)]
        if curves:
            axes.plot(times, [fmean(values) for values in zip(*curves, strict=True)], label=name, **_style(i))
    axes.set_xlabel("time between the two inputs")
    axes.set_xlim(0.0, 1.0)


def _plot_against_motion(axes: "Axes", report: Report) -> None:
    for i, name in enumerate(scored_methods(report)):
        points = [
            (row.properties["motion"], weighted_mean([row.samples[name][METRIC]]))
            for row in report.windows
            if "motion" in row.properties and METRIC in row.samples.get(name, {})
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, label=name, linestyle="none", alpha=0.75, **_style(i))
    axes.set_xlabel("motion of a pair: 95th percentile over pixels, px")
    axes.set_xlim(left=0.0)


def _plot_against_milliseconds(axes: "Axes", report: Report) -> None:
    from matplotlib.ticker import NullFormatter

    for i, name in enumerate(scored_methods(report)):
        score = report.score(name)
        if score.ms_per_frame is not None:
            axes.plot([score.ms_per_frame], [score.values[METRIC]], label=name, linestyle="none", **_style(i))
    axes.set_xlabel("milliseconds per new frame")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15, y=0.15)
