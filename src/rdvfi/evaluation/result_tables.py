"""Tables of a report for a terminal and for Markdown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rdvfi.evaluation.intervals import weighted_mean
from rdvfi.evaluation.metrics.metric import metric_class

if TYPE_CHECKING:
    from rich.table import Table

    from rdvfi.evaluation.results import Report, Score

_MAX_COLUMNS = 8
"""Columns of a score table that fit a terminal; with more, rows and columns are exchanged."""
GROUPS = {
    "motion": (("motion < 10 px", 0.0, 10.0), ("10 to 40 px", 10.0, 40.0), ("> 40 px", 40.0, float("inf"))),
    "occlusion": (("occluded < 1 %", 0.0, 0.01), ("1 to 5 %", 0.01, 0.05), ("> 5 %", 0.05, float("inf"))),
}
"""Groups of windows by property: heading, lower bound (inclusive) and upper bound (exclusive). The groups of motion
are those of MPI Sintel (Butler et al., 2012)."""


def score_cells(report: "Report") -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the scores; if a method failed, the last column gives the reason."""
    names = list(dict.fromkeys(name for score in report.scores for name in score.values))
    heads = ["method", *(metric_class(name).title for name in names), "ms/frame"]
    heads += ["fixed ms", "extra ms", "peak MB"] if any(score.cost for score in report.scores) else []
    rows = [_row(score, names)[: len(heads)] for score in report.scores]
    if any(score.failed is not None for score in report.scores):
        heads.append("")
        rows = [
            [*row, "" if score.failed is None else f"failed: {score.failed}"]
            for row, score in zip(rows, report.scores, strict=True)
        ]
    return heads, rows


def _row(score: "Score", names: Sequence[str]) -> list[str]:
    values = [format_value(name, score.values.get(name)) for name in names]
    cost = score.cost
    times = (score.ms_per_frame, *((None,) * 3 if cost is None else (cost.fixed_ms, cost.extra_ms, cost.peak_mb)))
    row = [score.method, *values, *("" if value is None else f"{round(value, 1) + 0.0:.1f}" for value in times)]
    if score.failed is None and score.ms_per_frame is None:
        row[len(values) + 1] = "not timed"
    return row


def format_value(name: str, value: float | None, *, signed: bool = False) -> str:
    """The value with the number of decimals of the metric ``name``; empty for None."""
    decimals = metric_class(name).decimals
    return "" if value is None else f"{value:{'+' if signed else ''}.{decimals}f}"


def score_table(report: "Report") -> "Table":
    """The scores, one row per method, or one row per metric if there are many. For failures see `failure_lines`."""
    heads, rows = score_cells(report)
    rows = [["failed" if cell.startswith("failed: ") else cell for cell in row] for row in rows]
    if len(heads) <= _MAX_COLUMNS:
        return _table(heads, rows)
    columns = list(zip(heads, *rows, strict=True))
    return _table(columns[0], columns[1:])


def difference_table(report: "Report", than: str) -> "Table":
    """Paired differences to one method, with their 95 per cent intervals."""
    rows = []
    for one in report.differences(than):
        between = (
            "" if one.interval is None else " to ".join(format_value(one.metric, v, signed=True) for v in one.interval)
        )
        rows.append([one.method, one.metric, format_value(one.metric, one.mean, signed=True), between])
    return _table([f"against {than}", "metric", "difference", "95 % interval"], rows)


def group_table(report: "Report", name: str) -> "Table":
    """Means of every method by group of windows, for each metric with values per window."""
    heads, groups = ["method", "metric"], []
    for heading, low, high in GROUPS[name]:
        windows = [row for row in report.windows if low <= row.properties[name] < high]
        heads.append(f"{heading} ({len(windows)})")
        groups.append(windows)
    rows = []
    for score in report.scores:
        for metric in score.values:
            samples = [[row.samples[score.method].get(metric) for row in group] for group in groups]
            measured = [[sample for sample in group if sample is not None] for group in samples]
            if any(measured):
                means = [format_value(metric, weighted_mean(group)) if group else "" for group in measured]
                rows.append([score.method, metric, *means])
    return _table(heads, rows)


def failure_lines(report: "Report") -> list[str]:
    """One line for each method that failed, with the reason."""
    return [f"{score.method} failed: {score.failed}" for score in report.scores if score.failed is not None]


def unavailable_lines(report: "Report") -> list[str]:
    """One line for each metric or cost that could not be measured, with the reason."""
    costs = {f"cost of {score.method}": score.no_cost for score in report.scores if score.no_cost is not None}
    return [f"no {name}: {why}" for name, why in {**report.unavailable, **costs}.items()]


def markdown_table(report: "Report") -> str:
    """The scores as a Markdown table, followed by the metrics and costs that could not be measured."""
    heads, rows = score_cells(report)
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return "\n\n".join([table, *unavailable_lines(report)])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table()
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i and head else "left")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    return table
