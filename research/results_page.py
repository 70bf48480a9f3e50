"""Tables of the documentation, from the results that are committed.

    python research/results_page.py [--check]

Every pair of lines ``<!-- table NAME -->`` and ``<!-- end of table -->`` in the pages gets the table of this name
between them. ``--check`` writes nothing and says whether a page differs from the results.
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
"""Rows of the README's table: the files of each, made by `benchmarks/quality.py`, by name and gaps."""
COMPARED = {"rdvfi-s": "RDVFI-S", "rife": "RIFE 4.25", "dis": "DIS + warp", "blend": "cross-fade"}
_PLACE = re.compile(r"(<!-- table (?P<name>[^>]+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


@cache
def read(name: str) -> dict[str, Any]:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table, and its alignment: text to the left, figures to the right."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def quality() -> str:
    """PSNR and SSIM by clip and gap, the best of a row bold."""
    rows = []
    for label, (clip, gaps) in QUALITY.items():
        for gap in gaps:
            known = {score["method"]: score for score in read(f"quality-{clip}-gap{gap}")["scores"]}
            pairs = [(f"{known[name]['psnr']:.2f}", f"{known[name]['ssim']:.3f}") for name in COMPARED]
            best = [max(values, key=float) for values in zip(*pairs, strict=True)]
            rows.append([f"{label}, {gap}", *(_bold(pair, best) for pair in pairs)])
    return markdown(["clip, gap", *COMPARED.values()], rows)


def _bold(pair: tuple[str, ...], best: list[str]) -> str:
    if list(pair) == best:
        return f"**{' / '.join(pair)}**"
    return " / ".join(f"**{value}**" if value == most else value for value, most in zip(pair, best, strict=True))


def claim(section: str) -> str:
    """A section of the claims: a row for each variant, and under it what it took."""
    known = read("claims").get(section)
    if known is None:
        return "Not measured yet.\n"
    columns = list(dict.fromkeys(key for row in known["rows"].values() for key in row if not key.endswith(", range")))
    rows = [[name, *(_value(row, column) for column in columns)] for name, row in known["rows"].items()]
    where, budget = known["environment"], known["budget"]
    text = "; ".join(f"{key} {_plain(value)}" for key, value in budget.items() if key != "kinds")
    note = f"{text}. {known['CPU seconds']} CPU seconds, {where['threads']} thread, commit {where['commit']}."
    return f"{markdown(['', *columns], rows)}\n{note[0].upper()}{note[1:]}\n"


def _value(row: dict[str, float], column: str) -> str:
    if column not in row:
        return ""
    spread = row.get(f"{column}, range")
    return f"{row[column]:.2f}" + ("" if spread is None else f" ± {0.5 * spread:.2f}")


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def laboratory(group: str) -> str:
    """One scene a row, the methods as columns: PSNR, and path error where the method has flows."""
    if not (RESULTS / f"laboratory-{group}-gap8.json").exists():
        return "Not measured yet.\n"
    known = read(f"laboratory-{group}-gap8")
    methods = [score["method"] for score in known["scores"] if not score["failed"]]
    rows = [
        [_cell(row["clip"]), *(_both(row["values"].get(method, {})) for method in methods)] for row in known["windows"]
    ]
    means = [score for score in known["scores"] if not score["failed"]]
    rows.append(["**mean**", *(f"**{_both(score)}**" for score in means)])
    return markdown(["scene", *methods], rows) + _conditions(known)


def _both(values: dict[str, float]) -> str:
    return f"{values['psnr']:.2f}" + (f" / {values['path-error']:.2f}" if "path-error" in values else "")


def _cell(name: str) -> str:
    return f"`{name}`"


def laboratory_means(group: str) -> str:
    """Every metric of every method, means over the scenes of a group."""
    if not (RESULTS / f"laboratory-{group}-gap8.json").exists():
        return "Not measured yet.\n"
    known = read(f"laboratory-{group}-gap8")
    names = {"psnr": 2, "ssim": 4, "flicker": 2, "still-error": 2, "epe": 2, "path-error": 2}
    titles = ["PSNR", "SSIM", "flicker", "still error", "EPE px", "path error px"]
    rows = [
        [score["method"], *("" if score.get(n) is None else f"{score[n]:.{d}f}" for n, d in names.items())]
        for score in known["scores"]
    ]
    return markdown(["method", *titles], rows) + _conditions(known)


def _conditions(known: dict[str, Any]) -> str:
    where, (h, w) = known["environment"], known["size"]
    return (
        f"\nGap {known['gap']}, {w}x{h}, {known['pairs']} scenes; {where['device']}, {where['threads']} threads, "
        f"torch {where['torch']}, commit {where['commit']}.\n"
    )


def content_means() -> str:
    """PSNR over the generated cases that anybody can draw again, by gap."""
    rows = []
    for gap in (2, 8):
        chosen = [
            row["scores"]
            for row in read("content-cpu-1-thread")["rows"]
            if row["gap"] == gap and row["source"] == "research/content_cases.py"
        ]
        rows.append(
            [f"x{gap}, {len(chosen)} cases", *(f"{fmean(s[name]['psnr'] for s in chosen):.2f}" for name in chosen[0])]
        )
    where = read("content-cpu-1-thread")["environment"]
    columns = list(read("content-cpu-1-thread")["rows"][0]["scores"])
    return (
        markdown(["", *columns], rows) + f"\n{where['device']}, {where['threads']} thread, commit {where['commit']}.\n"
    )


def content_cases() -> str:
    """PSNR of every case, x2 and x8."""
    known = read("content-cpu-1-thread")["rows"]
    columns = list(known[0]["scores"])
    named = dict.fromkeys((row["case"], row["source"]) for row in known)
    rows = []
    for case, source in named:
        by_gap = {row["gap"]: row["scores"] for row in known if (row["case"], row["source"]) == (case, source)}
        mark = {"clip": "real clip ", "other generated cases": ""}.get(source, "")
        own = "" if source in ("clip", "research/content_cases.py") else " *"
        cells = ["; ".join(f"{by_gap[gap][name]['psnr']:.1f}" for gap in (2, 8)) for name in columns]
        rows.append([f"{mark}{_cell(case)}{own}", *cells])
    return markdown(["case", *columns], rows)


TABLES: dict[str, Callable[[], str]] = {
    "quality": quality,
    **{f"claim: {name}": partial(claim, name) for name in (
        "knots and bases", "classical fusion", "shipped model", "decoded or warped", "motion size",
        "learned motion", "losses", "steps", "direct generation",
    )},
    **{f"laboratory: {group}": partial(laboratory, group) for group in ("determined", "undetermined")},
    **{f"laboratory means: {group}": partial(laboratory_means, group) for group in ("determined", "undetermined")},
    "content: means": content_means,
    "content: cases": content_cases,
}  # fmt: skip


def filled(text: str) -> str:
    """A page with its tables."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found['name']]()}\n{found[3]}"

    return _PLACE.sub(table, text)


def main() -> None:
    """Fill the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            stale.append(page.name)
            if not options.check:
                page.write_text(new, encoding="utf-8")
    print(f"{'differ from the results' if options.check else 'written'}: {', '.join(stale) or 'none'}")
    sys.exit(1 if options.check and stale else 0)


if __name__ == "__main__":
    main()
