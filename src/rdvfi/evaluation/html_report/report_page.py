"""The HTML report: table, plots, example pairs with a slider, and the data, in a single file.

The page needs no network, server or other file. Pictures are embedded as JPEG and plots as SVG; the data can be
downloaded from it as JSON, CSV and Markdown. Its layout adapts to phones.
"""

import base64
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from rdvfi._atomic import atomic
from rdvfi.evaluation.html_report.example_pairs import MAX_ERROR, Example
from rdvfi.evaluation.html_report.report_plots import draw_plots
from rdvfi.evaluation.intervals import weighted_mean
from rdvfi.evaluation.output_paths import PAGE_SUFFIXES, check_output_path
from rdvfi.evaluation.result_tables import format_value, score_cells, unavailable_lines
from rdvfi.evaluation.results import Report

_MAX_WINDOWS = 60
"""Maximum number of rows of the table of windows; the data contains all windows."""


def write_page(path: str | os.PathLike[str], reports: Sequence[Report], examples: Sequence[Example] = ()) -> None:
    """Write reports of the same clip as one page, atomically.

    Args:
        path: A file name that ends in ``.html``.
        reports: The main report, then reports at other gaps, which are used in the plot against gap.
        examples: Example pairs to show.

    Raises:
        ValueError: If the name does not end in .html, or there is no report.
        FileNotFoundError: If the folder does not exist.
        ImportError: If matplotlib is not installed.
    """
    target = check_output_path(path, PAGE_SUFFIXES, "a report page")
    if not reports:
        raise ValueError("there is no report to write a page of")
    text = render_page(reports, examples)
    with atomic(target) as partial:
        partial.write_text(text, encoding="utf-8")


def render_page(reports: Sequence[Report], examples: Sequence[Example] = ()) -> str:
    """The HTML text of the page."""
    main = reports[0]
    template = Template((files("rdvfi.evaluation.html_report") / "report_template.html").read_text(encoding="utf-8"))
    figures = "".join(
        f"<figure>{svg}<figcaption>{escape(title)}</figcaption></figure>" for title, svg in draw_plots(reports).items()
    )
    notes = (line for report in reports for line in unavailable_lines(report))
    return template.substitute(
        title=escape(main.title()),
        environment=escape(main.environment.line()),
        table=_table(*score_cells(main)),
        notes="".join(f"<li>{escape(line)}</li>" for line in dict.fromkeys(notes)),
        plots=figures,
        examples="".join(_example(number, example) for number, example in enumerate(examples)),
        full_scale=MAX_ERROR,
        windows=_windows(main),
        downloads=" ".join(
            _download(f"{name}.{suffix}", kind, text)
            for report in reports
            for name in [f"{Path(report.clip).stem}-gap{report.gap}"]
            for suffix, kind, text in (
                ("json", "application/json", report.to_json()),
                ("csv", "text/csv", report.to_csv()),
                ("md", "text/markdown", report.to_markdown()),
            )
        ),
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(map(_row, rows))
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _row(row: Sequence[str]) -> str:
    if row[-1].startswith("failed: "):
        return f"<tr><th>{escape(row[0])}</th><td class=failed colspan={len(row) - 1}>{escape(row[-1])}</td></tr>"
    return f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"


def _windows(report: Report) -> str:
    """Table of the PSNR of the first windows, by method."""
    methods = [score.method for score in report.scores if "psnr" in score.values]
    rows = []
    for row in report.windows[:_MAX_WINDOWS]:
        motion = f"{row.properties['motion']:.0f}" if "motion" in row.properties else ""
        samples = [row.samples.get(name, {}).get("psnr") for name in methods]
        values = [format_value("psnr", None if sample is None else weighted_mean([sample])) for sample in samples]
        rows.append([f"{row.clip} {row.first}".strip(), motion, *values])
    more = len(report.windows) - len(rows)
    left_out = f"<p>{more} more pairs are in the data.</p>" if more > 0 else ""
    return _table(["pair", "motion, px", *(f"{name}, dB" for name in methods)], rows) + left_out


def _example(number: int, example: Example) -> str:
    """One example pair: two selectable pictures with a slider, and the error maps of all methods."""
    methods = list(example.psnr)
    labels = {name: f"{name} ({example.psnr[name]:.2f} dB)" for name in methods}
    names = [*example.pictures]
    options = "".join(f"<option value={i}>{escape(labels.get(name, name))}</option>" for i, name in enumerate(names))
    after = names.index(methods[0])
    right = options.replace(f"<option value={after}>", f"<option value={after} selected>")
    pictures = "".join(f'<img alt="{escape(name)}" src="{_jpeg(data)}">' for name, data in example.pictures.items())
    maps = "".join(
        f'<figure><img alt="error of {escape(name)}" src="{_jpeg(data)}">'
        f"<figcaption>{escape(labels[name])}</figcaption></figure>"
        for name, data in example.errors.items()
    )
    return (
        f"<section class=pair data-after={after}><h3>{example.rank.capitalize()} pair: {escape(example.label)}</h3>"
        f"<div class=choice><label>left <select class=left>{options}</select></label>"
        f"<label>right <select class=right>{right}</select></label></div>"
        f'<div class=compare style="max-width: {max(480, 2 * example.width)}px">{pictures}<span class=line></span>'
        f'<input type=range min=0 max=1000 value=500 aria-label="where the two pictures meet, pair {number + 1}"></div>'
        f"<div class=maps>{maps}</div></section>"
    )


def _jpeg(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _download(name: str, kind: str, text: str) -> str:
    data = base64.b64encode(text.encode()).decode()
    return f'<a download="{escape(name)}" href="data:{kind};base64,{data}">{escape(name)}</a>'
