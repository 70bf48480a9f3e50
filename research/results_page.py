"""Tables of the documentation, made from the committed results.

    python research/results_page.py [--check]

Every pair of lines ``<!-- table NAME -->`` and ``<!-- end of table -->`` in the pages is filled with the table of
this name. ``--check`` writes nothing and reports whether a page differs from the results.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "0.2.0"
PAGES = tuple(ROOT / name for name in ("README.md", "docs/experiments/claims.md", "docs/results.md", "docs/content.md"))
QUALITY = {
    "bikes": ("bikes", (2, 8, 9)),
    "carphone": ("carphone", (2, 8, 9)),
    "Big Buck Bunny from 3:00": ("bbb-4320", (2,)),
    "Big Buck Bunny from 7:00": ("bbb-10080", (2,)),
    "large curved motion (24 procedural scenes)": ("procedural", (9,)),
    "limbs of two links (12 procedural scenes)": ("procedural-limbs", (9,)),
}
"""Rows of the README's table, by label: name and gaps of the files of `benchmarks/quality.py`."""
COMPARED = {"rdvfi-s": "RDVFI-S", "rife": "RIFE 4.25", "dis": "DIS + warp", "blend": "cross-fade"}
GROUPS = ("determined", "undetermined")
"""Groups of scenes of the motion laboratory."""
_TABLE_MARKS = re.compile(r"(<!-- table (?P<name>[^>]+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


@cache
def read_results(name: str) -> dict[str, Any]:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    """A table with its first column aligned to the left and the others to the right."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def quality_table() -> str:
    """PSNR and SSIM by clip and gap, with the best of a row in bold."""
    rows = []
    for label, (clip, gaps) in QUALITY.items():
        for gap in gaps:
            results = {score["method"]: score for score in read_results(f"quality-{clip}-gap{gap}")["scores"]}
            pairs = [(f"{results[name]['psnr']:.2f}", f"{results[name]['ssim']:.3f}") for name in COMPARED]
            best = [max(values, key=float) for values in zip(*pairs, strict=True)]
            rows.append([f"{label}, {gap}", *(_bold(pair, best) for pair in pairs)])
    return markdown_table(["clip, gap", *COMPARED.values()], rows)


def _bold(pair: tuple[str, ...], best: list[str]) -> str:
    if list(pair) == best:
        return f"**{' / '.join(pair)}**"
    return " / ".join(f"**{value}**" if value == maximum else value for value, maximum in zip(pair, best, strict=True))


def claim_table(section: str) -> str:
    """A section of the claims: one row per variant, followed by the settings."""
    results = read_results("claims").get(section)
    if results is None:
        return "Not measured yet.\n"
    columns = list(dict.fromkeys(key for row in results["rows"].values() for key in row if not key.endswith(", range")))
    rows = [[name, *(_format_mean(row, column) for column in columns)] for name, row in results["rows"].items()]
    environment, budget = results["environment"], results["budget"]
    text = "; ".join(f"{key} {_format_setting(value)}" for key, value in budget.items() if key != "kinds")
    caption = f"{text}. {results['CPU seconds']} CPU seconds, "
    caption += f"{environment['threads']} thread, commit {environment['commit']}."
    return f"{markdown_table(['', *columns], rows)}\n{caption[0].upper()}{caption[1:]}\n"


def _format_mean(row: dict[str, float], column: str) -> str:
    if column not in row:
        return ""
    spread = row.get(f"{column}, range")
    return f"{row[column]:.2f}" + ("" if spread is None else f" ± {0.5 * spread:.2f}")


def _format_setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def laboratory_table(group: str) -> str:
    """PSNR and, if the method has flows, path error: one row per scene and one column per method."""
    if not (RESULTS / f"laboratory-{group}-gap8.json").exists():
        return "Not measured yet.\n"
    results = read_results(f"laboratory-{group}-gap8")
    methods = [score["method"] for score in results["scores"] if not score["failed"]]
    rows = [
        [_format_name(row["clip"]), *(_format_values(row["values"].get(method, {})) for method in methods)]
        for row in results["windows"]
    ]
    means = [score for score in results["scores"] if not score["failed"]]
    rows.append(["**mean**", *(f"**{_format_values(score)}**" for score in means)])
    return markdown_table(["scene", *methods], rows) + _conditions(results)


def _format_values(values: dict[str, float]) -> str:
    return f"{values['psnr']:.2f}" + (f" / {values['path-error']:.2f}" if "path-error" in values else "")


def _format_name(name: str) -> str:
    return f"`{name}`"


def laboratory_means_table(group: str) -> str:
    """All metrics by method, as means over the scenes of a group."""
    if not (RESULTS / f"laboratory-{group}-gap8.json").exists():
        return "Not measured yet.\n"
    results = read_results(f"laboratory-{group}-gap8")
    names = {"psnr": 2, "ssim": 4, "flicker": 2, "still-error": 2, "epe": 2, "path-error": 2}
    titles = ["PSNR", "SSIM", "flicker", "still error", "EPE px", "path error px"]
    rows = [
        [score["method"], *("" if score.get(n) is None else f"{score[n]:.{d}f}" for n, d in names.items())]
        for score in results["scores"]
    ]
    return markdown_table(["method", *titles], rows) + _conditions(results)


def _conditions(results: dict[str, Any]) -> str:
    environment, (h, w) = results["environment"], results["size"]
    return (
        f"\nGap {results['gap']}, {w}x{h}, {results['pairs']} scenes; "
        f"{environment['device']}, {environment['threads']} threads, "
        f"torch {environment['torch']}, commit {environment['commit']}.\n"
    )


def content_means_table() -> str:
    """Mean PSNR over the cases of `content_cases`, by gap."""
    rows = []
    for gap in (2, 8):
        scores = [
            row["scores"]
            for row in read_results("content-cpu-1-thread")["rows"]
            if row["gap"] == gap and row["source"] == "research/content_cases.py"
        ]
        rows.append(
            [f"x{gap}, {len(scores)} cases", *(f"{fmean(s[name]['psnr'] for s in scores):.2f}" for name in scores[0])]
        )
    environment = read_results("content-cpu-1-thread")["environment"]
    columns = list(read_results("content-cpu-1-thread")["rows"][0]["scores"])
    return (
        markdown_table(["", *columns], rows)
        + f"\n{environment['device']}, {environment['threads']} thread, commit {environment['commit']}.\n"
    )


def content_cases_table() -> str:
    """PSNR of every case at x2 and x8."""
    results = read_results("content-cpu-1-thread")["rows"]
    columns = list(results[0]["scores"])
    named = dict.fromkeys((row["case"], row["source"]) for row in results)
    rows = []
    for case, source in named:
        by_gap = {row["gap"]: row["scores"] for row in results if (row["case"], row["source"]) == (case, source)}
        mark = {"clip": "real clip ", "other generated cases": ""}.get(source, "")
        own = "" if source in ("clip", "research/content_cases.py") else " *"
        cells = ["; ".join(f"{by_gap[gap][name]['psnr']:.1f}" for gap in (2, 8)) for name in columns]
        rows.append([f"{mark}{_format_name(case)}{own}", *cells])
    return markdown_table(["case", *columns], rows)


TABLES: dict[str, Callable[[], str]] = {
    "quality": quality_table,
    **{f"claim: {name}": partial(claim_table, name) for name in (
        "knots and bases", "classical fusion", "shipped model", "decoded or warped", "motion size",
        "learned motion", "losses", "steps", "direct generation",
    )},
    **{f"laboratory: {group}": partial(laboratory_table, group) for group in GROUPS},
    **{f"laboratory means: {group}": partial(laboratory_means_table, group) for group in GROUPS},
    "content: means": content_means_table,
    "content: cases": content_cases_table,
}  # fmt: skip


def fill_tables(text: str) -> str:
    """The page with its tables filled in."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match['name']]()}\n{match[3]}"

    return _TABLE_MARKS.sub(table, text)


def main() -> None:
    """Fill the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (updated := fill_tables(text)) != text:
            stale.append(page.name)
            if not options.check:
                page.write_text(updated, encoding="utf-8")
    print(f"{'differ from the results' if options.check else 'written'}: {', '.join(stale) or 'none'}")
    sys.exit(1 if options.check and stale else 0)


if __name__ == "__main__":
    main()
