"""Tables of a report: one row per method, for a terminal and for Markdown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rdvfi.evaluation.intervals import weighted_mean
from rdvfi.evaluation.metrics.metric import metric_class

if TYPE_CHECKING:
    from rich.table import Table

    from rdvfi.evaluation.results import Report, Score

_WIDEST = 8
"""Columns of a table of scores that a terminal holds."""
GROUPS = {
    "motion": (("motion < 10 px", 0.0, 10.0), ("10 to 40 px", 10.0, 40.0), ("> 40 px", 40.0, float("inf"))),
    "occlusion": (("occluded < 1 %", 0.0, 0.01), ("1 to 5 %", 0.01, 0.05), ("> 5 %", 0.05, float("inf"))),
}
"""Groups of windows: heading, least value, and the value from which on the next group begins. Those of motion
are those of MPI Sintel (Butler et al., 2012)."""


def cells(report: "Report") -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the scores; where a method failed, a last column says why."""
    names = list(dict.fromkeys(name for score in report.scores for name in score.values))
    heads = ["method", *(metric_class(name).title for name in names), "ms/frame"]
    heads += ["fixed ms", "extra ms", "peak MB"] if any(score.cost for score in report.scores) else []
    rows = [_row(score, names)[: len(heads)] for score in report.scores]
    if any(score.failed is not None for score in report.scores):
        heads.append("")
        rows = [
            [*row, "" if s.failed is None else f"failed: {s.failed}"]
            for row, s in zip(rows, report.scores, strict=True)
        ]
    return heads, rows


def _row(score: "Score", names: Sequence[str]) -> list[str]:
    values = [written(name, score.values.get(name)) for name in names]
    cost = score.cost
    times = (score.ms_per_frame, *((None,) * 3 if cost is None else (cost.fixed_ms, cost.extra_ms, cost.peak_mb)))
    row = [score.method, *values, *("" if value is None else f"{round(value, 1) + 0.0:.1f}" for value in times)]
    if score.failed is None and score.ms_per_frame is None:
        row[len(values) + 1] = "not timed"
    return row


def written(name: str, value: float | None, *, signed: bool = False) -> str:
    """The value of a metric with the decimals that it has."""
    decimals = metric_class(name).decimals
    return "" if value is None else f"{value:{'+' if signed else ''}.{decimals}f}"


def score_table(report: "Report") -> "Table":
    """The scores; with more metrics than a terminal is wide, a row for each of them. `failures` has the reasons."""
    heads, rows = cells(report)
    rows = [["failed" if cell.startswith("failed: ") else cell for cell in row] for row in rows]
    if len(heads) <= _WIDEST:
        return _table(heads, rows)
    columns = list(zip(heads, *rows, strict=True))
    return _table(columns[0], columns[1:])


def difference_table(report: "Report", than: str) -> "Table":
    """Paired differences to one method, with their 95 per cent intervals."""
    rows = []
    for one in report.differences(than):
        between = "" if one.interval is None else " to ".join(written(one.metric, v, signed=True) for v in one.interval)
        rows.append([one.method, one.metric, written(one.metric, one.mean, signed=True), between])
    return _table([f"against {than}", "metric", "difference", "95 % interval"], rows)


def group_table(report: "Report", name: str) -> "Table":
    """Means of every method by group of windows, for each metric that has values window by window."""
    heads, rows = ["method", "metric"], []
    for heading, low, high in GROUPS[name]:
        members = [row for row in report.windows if low <= row.properties[name] < high]
        heads.append(f"{heading} ({len(members)})")
        rows.append(members)
    table = []
    for score in report.scores:
        for metric in score.values:
            found = [
                [r.samples[score.method][metric] for r in part if metric in r.samples[score.method]] for part in rows
            ]
            if any(found):
                means = [written(metric, weighted_mean(samples)) if samples else "" for samples in found]
                table.append([score.method, metric, *means])
    return _table(heads, table)


def failures(report: "Report") -> list[str]:
    """Why each method failed that did, a line each."""
    return [f"{score.method} failed: {score.failed}" for score in report.scores if score.failed is not None]


def notes(report: "Report") -> list[str]:
    """The metrics and costs that could not be taken, and why, a line each."""
    costs = {f"cost of {score.method}": score.no_cost for score in report.scores if score.no_cost is not None}
    return [f"no {name}: {why}" for name, why in {**report.unavailable, **costs}.items()]


def markdown_table(report: "Report") -> str:
    """The scores as a Markdown table, and below it the metrics that could not be taken."""
    heads, rows = cells(report)
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return "\n\n".join([table, *notes(report)])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table()
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i and head else "left")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    return table
