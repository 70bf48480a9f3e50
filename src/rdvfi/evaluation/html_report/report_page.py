"""One HTML file that holds everything: table, plots, pairs of frames with a slider, and the data itself.

It needs no network, no server and no other file. Pictures are JPEG and plots SVG inside it; the data can be
saved from it as JSON, CSV and Markdown. It is read on a phone as on a desk.
"""

import base64
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from rdvfi._atomic import atomic
from rdvfi.evaluation.html_report.example_pairs import FULL_SCALE, Example
from rdvfi.evaluation.html_report.report_plots import plots
from rdvfi.evaluation.intervals import weighted_mean
from rdvfi.evaluation.result_tables import cells, notes, written
from rdvfi.evaluation.results import Report
from rdvfi.evaluation.written_files import PAGES, check_output

_PER_CLIP = 60
"""Windows in the table by window, at most; the data holds all of them."""


def write_page(path: str | os.PathLike[str], reports: Sequence[Report], examples: Sequence[Example] = ()) -> None:
    """Write reports of the same clip as one page; it appears when it is complete.

    Args:
        path: A file whose name ends in ``.html``.
        reports: The first is the main one; further ones, at other gaps, join in the plot by gap.
        examples: Pairs of frames to show.

    Raises:
        ValueError: If the name does not end in .html, or there is no report.
        FileNotFoundError: If the folder does not exist.
        ImportError: If matplotlib is not installed.
    """
    target = check_output(path, PAGES, "a report page")
    if not reports:
        raise ValueError("there is no report to write a page of")
    text = page(reports, examples)
    with atomic(target) as partial:
        partial.write_text(text, encoding="utf-8")


def page(reports: Sequence[Report], examples: Sequence[Example] = ()) -> str:
    """The text of the page."""
    main = reports[0]
    template = Template((files("rdvfi.evaluation.html_report") / "report_template.html").read_text(encoding="utf-8"))
    figures = "".join(
        f"<figure>{svg}<figcaption>{escape(title)}</figcaption></figure>" for title, svg in plots(reports).items()
    )
    return template.substitute(
        title=escape(main.title()),
        environment=escape(main.environment.line()),
        table=_table(*cells(main)),
        notes="".join(
            f"<li>{escape(note)}</li>" for note in dict.fromkeys(note for report in reports for note in notes(report))
        ),
        plots=figures,
        examples="".join(_example(number, example) for number, example in enumerate(examples)),
        full_scale=FULL_SCALE,
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
    if row[-1].startswith("failed: "):  # it has nothing else to say
        return f"<tr><th>{escape(row[0])}</th><td class=failed colspan={len(row) - 1}>{escape(row[-1])}</td></tr>"
    return f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"


def _windows(report: Report) -> str:
    """PSNR of every window by method, where there are not too many."""
    methods = [score.method for score in report.scores if "psnr" in score.values]
    rows = []
    for row in report.windows[:_PER_CLIP]:
        moved = f"{row.properties['motion']:.0f}" if "motion" in row.properties else ""
        found = [row.samples.get(name, {}).get("psnr") for name in methods]
        values = [written("psnr", None if sample is None else weighted_mean([sample])) for sample in found]
        rows.append([f"{row.clip} {row.first}".strip(), moved, *values])
    more = len(report.windows) - len(rows)
    left_out = f"<p>{more} more pairs are in the data.</p>" if more > 0 else ""
    return _table(["pair", "motion, px", *(f"{name}, dB" for name in methods)], rows) + left_out


def _example(number: int, example: Example) -> str:
    """A pair: a slider over two pictures to choose, and the error maps of all methods."""
    methods = list(example.psnr)
    labels = {name: f"{name} ({example.psnr[name]:.2f} dB)" for name in methods}
    names = [*example.pictures]
    options = "".join(f"<option value={i}>{escape(labels.get(name, name))}</option>" for i, name in enumerate(names))
    after = names.index(methods[0])
    right = options.replace(f"<option value={after}>", f"<option value={after} selected>")
    images = "".join(f'<img alt="{escape(name)}" src="{_jpeg(data)}">' for name, data in example.pictures.items())
    maps = "".join(
        f'<figure><img alt="error of {escape(name)}" src="{_jpeg(data)}">'
        f"<figcaption>{escape(labels[name])}</figcaption></figure>"
        for name, data in example.errors.items()
    )
    return (
        f"<section class=pair data-after={after}><h3>{example.rank.capitalize()} pair: {escape(example.place)}</h3>"
        f"<div class=choice><label>left <select class=left>{options}</select></label>"
        f"<label>right <select class=right>{right}</select></label></div>"
        f'<div class=compare style="max-width: {max(480, 2 * example.width)}px">{images}<span class=line></span>'
        f'<input type=range min=0 max=1000 value=500 aria-label="where the two pictures meet, pair {number + 1}"></div>'
        f"<div class=maps>{maps}</div></section>"
    )


def _jpeg(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _download(name: str, kind: str, text: str) -> str:
    data = base64.b64encode(text.encode()).decode()
    return f'<a download="{escape(name)}" href="data:{kind};base64,{data}">{escape(name)}</a>'
