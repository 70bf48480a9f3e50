"""The page of benchmark results: ``python benchmarks/report.py`` rewrites docs/benchmarks.md.

Every table is of one run on one device. *x ours* is a median divided by that of the library's
default for the same work, in the same run. *Of copy* is the counted bytes per second relative to
a plain copy of memory, which every run measures.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "benchmarks.md"

SECTIONS = {
    "Warping": ("warp", "warp with gradients"),
    "Splatting": ("splat",),
    "Drawing frames": ("render of",),
    "RDVFI-S": ("whole pair", "estimate", "render by the model", "coarse flow"),
    "One component exchanged": tuple(
        f"{place} of" for place in ("backbone", "coarse", "flow", "basis", "trajectory", "renderer")
    ),
}
"""Headings, and prefixes of the names of the operations in each section."""

INTRODUCTION = """\
# Benchmarks

<!-- Made by benchmarks/report.py from the files in benchmarks/results; do not edit. -->

`benchmarks/README.md` in the repository explains how to run the benchmarks and what is timed. Every table names the
commit that was measured.

- **x ours**: the median divided by that of our default implementation, for the same work in the same run. Faster
  alternatives are below 1 and **bold**.
- Times are the **median** of several rounds after a warm-up, with the interquartile range (IQR) and the fastest round
  (min). Inputs rotate through copies that together exceed every cache.
- **MB counted**: for `render`, two image reads and one write per new frame, and the small maps once; for all other
  operations, the least amount that has to be moved.
- **MB compulsory**: every input read once and every output written once.
- **Of copy**: counted bytes per second divided by the bandwidth of a plain copy in the same run. Data that stay in a
  cache can raise it above 1.
- **Peak**: memory that one call takes in addition to its inputs, results included; on CUDA only.
"""

NO_CPU_RESULTS = "Not yet measured on a CPU.\n"
NO_GPU_RESULTS = "Not yet measured on a GPU.\n"


def main() -> None:
    """Rewrite the page, or another file, from the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "results")
    parser.add_argument("--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    partial = arguments.output.with_suffix(".partial")
    partial.write_text(render_page(arguments.results), encoding="utf-8")
    partial.replace(arguments.output)


def render_page(results: Path) -> str:
    """The text of the page, from all benchmark files below a folder."""
    runs = list(_read_runs(results))
    sections = (_section(*section, runs) for section in SECTIONS.items())
    return "\n".join([INTRODUCTION, *sections, *_history_section(results), *_quality_section(results)])


def _quality_section(results: Path) -> Iterator[str]:
    """A table of the reports of `rdvfi evaluate`: one row for each method, clip and gap."""
    lines = []
    for path in sorted(results.rglob("quality-*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        clip = path.stem.removeprefix("quality-").rsplit("-gap", 1)[0]
        for score in report["scores"]:
            figures = (f"{score['psnr']:.2f}", f"{score['ssim']:.4f}")
            labels = (clip, str(report["gap"]), str(report["pairs"]), score["method"])
            lines.append(_row([*labels, *figures, f"`{report['environment']['commit']}`"]))
    if lines:
        yield "## Quality\n"
        yield "Reports of `rdvfi evaluate` on one thread of a CPU, float32. Times in these files mean little.\n"
        heads = ["clip", "gap", "pairs", "method", "PSNR dB", "SSIM", "commit"]
        yield "\n".join([_row(heads), _row(["---", "--:", "--:", "---", "--:", "--:", "---"]), *lines]) + "\n"


def _history_section(results: Path) -> Iterator[str]:
    """The results of ``gpu-history.json``, with one row per figure and one column per commit."""
    for path in sorted(results.rglob("gpu-history.json")):
        runs = json.loads(path.read_text(encoding="utf-8"))["history"]
        yield "## History on a GPU\n"
        yield "Batch 1, medians. Each column is one commit on one card; compare columns of the same card only.\n"
        heads = (f"`{x['commit']}`, {x['date']}, {x['device']}, torch {x['versions']['torch']}" for x in runs)
        lines = [_row(["what", "unit", *heads]), _row(["---", "---", *("--:" for _ in runs)])]
        by_run = [{(what, unit): f"{value:g}" for what, unit, value in run["figures"]} for run in runs]
        rows = dict.fromkeys(key for run in by_run for key in run)
        yield "\n".join([*lines, *(_row([*key, *(run.get(key, "") for run in by_run)]) for key in rows)]) + "\n"


def _read_runs(results: Path) -> Iterator[list[dict[str, Any]]]:
    """The entries of every file of pytest-benchmark; other JSON files are ignored."""
    for path in sorted(results.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "benchmarks" in content:
            entries = (x for x in content["benchmarks"] if x["extra_info"].get("operation"))
            yield [{**entry, "datetime": content["datetime"]} for entry in entries]


def _section(heading: str, operations: tuple[str, ...], runs: list[list[dict[str, Any]]]) -> str:
    parts = [f"## {heading}\n"]
    device_types = set()
    for run in runs:
        selected = [x for x in run if x["extra_info"]["operation"].startswith(operations)]
        for device, entries in _group(selected, _device_label):
            device_types.add(entries[0]["extra_info"]["device_type"])
            parts += [f"### {device}\n", _caption(entries), _table(entries), *_per_frame(entries)]
    if "cpu" not in device_types:
        parts.append(NO_CPU_RESULTS)
    if "cuda" not in device_types:
        parts.append(NO_GPU_RESULTS)
    return "\n".join(parts)


def _group(entries: Iterable[dict[str, Any]], key: Any) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Entries with equal keys, in order of the keys."""
    for name, group in groupby(sorted(entries, key=key), key=key):
        yield name, list(group)


def _device_label(entry: Mapping[str, Any]) -> str:
    info = entry["extra_info"]
    threads = f", {info['threads']} thread{'s' * (info['threads'] != 1)}"
    return info["device"] + (threads if info["device_type"] == "cpu" else "")


def _caption(entries: list[dict[str, Any]]) -> str:
    info = entries[0]["extra_info"]
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items() if name != "rdvfi")
    bandwidth = info["copy_bytes_per_second"] / 1e9
    note = f" {info['note'][:1].upper()}{info['note'][1:].rstrip('.')}." if info.get("note") else ""
    return (
        f"Commit `{info['commit']}`, {entries[0]['datetime'][:10]}; {versions}. "
        f"A plain copy moves {bandwidth:.1f} GB/s.{note}{_common_settings(entries)}\n"
    )


def _common_settings(entries: list[dict[str, Any]]) -> str:
    """Size and data type, if they are equal in all rows of a table."""
    settings = {(x["extra_info"]["size"], x["extra_info"]["dtype"]) for x in entries}
    return "" if len(settings) > 1 else " All rows: {}, {}.".format(*settings.pop())


_COLUMNS = {
    "work": "---",
    "size": "---",
    "dtype": "---",
    "implementation": "---",
    "x ours": "--:",
    "median ms": "--:",
    "IQR": "--:",
    "min": "--:",
    "rounds": "--:",
    "of copy": "--:",
    "MB counted / compulsory": "--:",
    "Gop": "--:",
    "peak MB": "--:",
}
"""Headings and alignment. The ratio comes first, so that it is visible on narrow screens."""


def _table(entries: list[dict[str, Any]]) -> str:
    """The table of one run, without columns that are empty or equal in every row."""
    rows = []
    for _, group in _group(entries, lambda x: (*_comparison_key(x), "")):
        ours = next((x for x in group if _is_ours(x["extra_info"])), None)
        rows += [_cells(entry, ours) for entry in sorted(group, key=_median)]
    in_caption = ("size", "dtype") if _common_settings(entries) else ()
    columns = [name for name in _COLUMNS if name not in in_caption and any(row[name] for row in rows)]
    lines = [_row(columns), _row(_COLUMNS[name] for name in columns)]
    return "\n".join([*lines, *(_row(row[name] for name in columns) for row in rows)]) + "\n"


def _is_ours(info: Mapping[str, Any]) -> bool:
    return info["implementation"] == info["ours"]


def _comparison_key(entry: Mapping[str, Any]) -> tuple[str, int, str, str]:
    """Operation, number of pixels, size and data type: equal for times that can be compared."""
    info = entry["extra_info"]
    width, height = map(int, info["size"].split("x"))
    return info["operation"], width * height, info["size"], info["dtype"]


def _cells(entry: dict[str, Any], ours: dict[str, Any] | None) -> dict[str, str]:
    """The cells of a row, by column of `_COLUMNS`."""
    info, stats = entry["extra_info"], entry["stats"]
    ratio = None if ours is None else _median(entry) / _median(ours)
    moved = (_number(info.get(f"bytes_{x}"), 1e6, 1) for x in ("counted", "compulsory"))
    return {
        "work": info["operation"],
        "size": info["size"],
        "dtype": info["dtype"],
        "implementation": info["implementation"],
        "x ours": "" if ratio is None else f"**{ratio:.2f}**" if ratio < 0.995 else f"{ratio:.2f}",
        "median ms": _milliseconds(stats["median"]),
        "IQR": _milliseconds(stats["iqr"]),
        "min": _milliseconds(stats["min"]),
        "rounds": str(stats["rounds"]),
        "of copy": _number(share_of_copy(entry), 1.0, 2),
        "MB counted / compulsory": " / ".join(moved) if info.get("bytes_counted") else "",
        "Gop": _number(info.get("operations"), 1e9, 2),
        "peak MB": _number(info.get("peak_memory_bytes") if info["device_type"] == "cuda" else None, 1e6, 0),
    }


def share_of_copy(entry: Mapping[str, Any]) -> float | None:
    """Counted bytes per second relative to a plain copy in the same run."""
    info = entry["extra_info"]
    if not info.get("bytes_counted"):
        return None
    return info["bytes_counted"] / _median(entry) / info["copy_bytes_per_second"]


def _per_frame(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Fixed cost per pair and cost per extra frame, from pairs with few and with many frames."""
    pairs = [x for x in entries if x["extra_info"]["operation"].startswith("whole pair")]
    names = ("size", "dtype", "implementation")
    rows = []
    for key, group in _group(pairs, lambda x: (*_comparison_key(x)[1:], x["extra_info"][names[2]])):
        costs = fixed_and_extra(group)
        if costs is not None:
            rows.append(_row([*key[1:], *(_milliseconds(seconds) for seconds in costs)]))
    if rows:
        yield "From the medians of the whole pair with one and with many new frames:\n"
        head = _row([*names, "fixed cost per pair, ms", "cost per extra frame, ms"])
        yield "\n".join([head, _row(["---", "---", "---", "--:", "--:"]), *rows]) + "\n"


def fixed_and_extra(entries: list[dict[str, Any]]) -> tuple[float, float] | None:
    """Fixed seconds per pair, and seconds per frame; None if all pairs have the same number of frames."""
    by_count = {x["extra_info"]["frames"]: _median(x) for x in entries}
    few, many = min(by_count), max(by_count)
    if few == many:
        return None
    extra = (by_count[many] - by_count[few]) / (many - few)
    return by_count[few] - few * extra, extra


def _median(entry: Mapping[str, Any]) -> float:
    return entry["stats"]["median"]


def _milliseconds(seconds: float) -> str:
    """Milliseconds with three significant digits."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
