"""What the benchmarks count and report, by hand-computed cases, and the page that is published."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
import torch

import rdvfi

ROOT = Path(__file__).parent.parent
COPY = 10e9


@pytest.fixture(scope="module")
def benchmarks() -> Any:
    """Modules of the benchmarks' folder, which is no package, by name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield module
    sys.path.remove(str(ROOT / "benchmarks"))


def _entry(
    operation: str, implementation: str, milliseconds: float, *, ours: str = "rdvfi", **info: Any
) -> dict[str, Any]:
    seconds = milliseconds / 1e3
    return {
        "stats": {"median": seconds, "iqr": seconds / 10, "min": seconds / 2, "rounds": 5},
        "extra_info": {
            "operation": operation,
            "implementation": implementation,
            "ours": ours,
            "size": "1024x576",
            "dtype": "float32",
            "frames": 1,
            "device": "Some CPU",
            "device_type": "cpu",
            "threads": 2,
            "versions": {"torch": "2.13.0"},
            "commit": "abcdef0123",
            "copy_bytes_per_second": COPY,
            "note": "It was busy.",
            **info,
        },
    }


def _page(benchmarks: Any, folder: Path, *entries: dict[str, Any]) -> str:
    run = {"benchmarks": list(entries), "datetime": "2026-11-22T12:00:00"}
    (folder / "run.json").write_text(json.dumps(run))
    return benchmarks("report").render_page(folder)


def _rows(page: str, implementation: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in x.split("|")[1:-1]] for x in page.splitlines() if "|" in x]
    return [row for row in rows if implementation in row]


def test_ratios_of_a_small_report_are_those_computed_by_hand(benchmarks: Any, tmp_path: Path) -> None:
    moved = {"bytes_counted": 10_000_000, "bytes_compulsory": 6_000_000}
    page = _page(
        benchmarks,
        tmp_path,
        _entry("warp", "rdvfi", 2.0, operations=3_000_000_000, **moved),
        _entry("warp", "slower", 5.0, **moved),
        _entry("warp", "faster", 1.5, **moved),
        _entry("warp", "elsewhere", 1.0, size="1920x1080"),
    )
    # 10 MB in 2 ms are 5 GB/s, half of a copy at 10 GB/s; in 5 ms a fifth; in 1.5 ms two thirds.
    ((*_, ratio, time, iqr, least, rounds, share, moved_mb, gop),) = _rows(page, "rdvfi")
    assert (time, iqr, least, rounds) == ("2", "0.2", "1", "5")
    assert (ratio, share, moved_mb, gop) == ("1.00", "0.50", "10.0 / 6.0", "3.00")
    assert [_rows(page, "slower")[0][i] for i in (4, 9)] == ["2.50", "0.20"]
    assert [_rows(page, "faster")[0][i] for i in (4, 9)] == ["**0.75**", "0.67"]
    assert [_rows(page, "elsewhere")[0][i] for i in (4, 9)] == ["", ""]  # nothing of the same size is ours
    assert "### Some CPU, 2 threads" in page
    assert "Commit `abcdef0123`, 2026-11-22; torch 2.13.0." in page
    assert "A plain copy moves 10.0 GB/s. It was busy." in page


def test_a_pair_with_one_and_with_many_frames_gives_fixed_and_extra_cost(benchmarks: Any, tmp_path: Path) -> None:
    page = _page(
        benchmarks,
        tmp_path,
        _entry("whole pair, 1 new", "rdvfi-s", 100.0, frames=1, ours="rdvfi-s"),
        _entry("whole pair, 5 new", "rdvfi-s", 180.0, frames=5, ours="rdvfi-s"),
        _entry("whole pair, 5 new", "rife-4.25", 900.0, frames=5, ours="rdvfi-s"),
    )
    # Four frames more take 80 ms: 20 ms each, and 80 ms are left for the pair.
    assert ["1024x576", "float32", "rdvfi-s", "80.0", "20.0"] in _rows(page, "rdvfi-s")
    assert [row[2] for row in _rows(page, "rife-4.25")] == ["5.00"]


def test_sections_without_a_gpu_file_say_so(benchmarks: Any, tmp_path: Path) -> None:
    cuda = _entry("splat sum", "rdvfi", 1.0, device_type="cuda", device="Some GPU")
    page = _page(benchmarks, tmp_path, _entry("warp", "rdvfi", 2.0), cuda)
    sections = {part.split("\n")[0]: part for part in page.split("\n## ")[1:]}
    assert "### Some GPU\n" in sections["Splatting"]
    silent = {name for name, part in sections.items() if "Not yet measured on a GPU" not in part}
    assert silent == {"Splatting"}


def test_what_all_rows_share_is_said_once_above_the_table(benchmarks: Any, tmp_path: Path) -> None:
    page = _page(benchmarks, tmp_path, _entry("warp", "rdvfi", 2.0), _entry("warp", "faster", 1.0))
    assert "It was busy. All rows: 1024x576, float32." in page
    assert _rows(page, "faster") == [["warp", "faster", "**0.50**", "1", "0.1", "0.5", "5"]]


def test_the_history_has_a_column_for_each_commit(benchmarks: Any, tmp_path: Path) -> None:
    def run(commit: str, *figures: list[Any]) -> dict[str, Any]:
        return {"commit": commit, "date": "d", "device": "GPU", "versions": {"torch": "2"}, "figures": figures}

    runs = [run("abc", ["x8", "ms", 39], ["x24", "ms", 12.5]), run("def", ["x8", "ms", 2.25])]
    (tmp_path / "gpu-history.json").write_text(json.dumps({"history": runs}))
    page = benchmarks("report").render_page(tmp_path)
    assert "`abc`, d, GPU, torch 2 | `def`, d, GPU, torch 2" in page
    assert _rows(page, "x8") == [["x8", "ms", "39", "2.25"]]
    assert _rows(page, "x24") == [["x24", "ms", "12.5", ""]]


def test_reports_of_evaluations_are_no_benchmarks(benchmarks: Any, tmp_path: Path) -> None:
    (tmp_path / "quality.json").write_text('{"methods": []}')
    assert "|" not in benchmarks("report").render_page(tmp_path)


def test_all_results_are_of_this_version() -> None:
    assert [folder.name for folder in (ROOT / "benchmarks" / "results").iterdir()] == [rdvfi.__version__]


def test_the_published_page_is_made_from_the_committed_files(benchmarks: Any) -> None:
    page = benchmarks("report").render_page(ROOT / "benchmarks" / "results")
    published = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert published == page, "run: python benchmarks/report.py"


def test_methods_in_turn_make_a_file_that_the_page_shows(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    options = ["--size", "64x48", "--frames", "1,3", "--rounds", "2", "--threads", "1", "--note", "tiny"]
    monkeypatch.setattr(sys, "argv", ["in_turn.py", str(tmp_path / "turns.json"), "dis", "blend", *options])
    benchmarks("in_turn").main()
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    page = benchmarks("report").render_page(tmp_path)
    assert [row[0] for row in _rows(page, "blend")][:2] == ["whole pair, 1 new, in turn", "whole pair, 3 new, in turn"]
    assert "fixed cost per pair, ms" in page
    assert "Tiny." in page


def test_every_operation_that_is_timed_has_a_section(benchmarks: Any) -> None:
    beginnings = tuple(x for names in benchmarks("report").SECTIONS.values() for x in names)
    time_call = [
        "warp",
        "splat sum",
        "render of 7 frames",
        "whole pair, 7 new",
        "estimate",
        "render by the model, 7 new",
        *(f"{place} of RDVFI-S" for place in benchmarks("bench_components").PLACES),
    ]
    for operation in time_call:
        sections = [heading for heading, names in benchmarks("report").SECTIONS.items() if operation.startswith(names)]
        assert operation.startswith(beginnings)
        assert len(sections) == 1, operation


def test_bytes_of_render_are_counted_per_frame_and_compulsory_ones_once(benchmarks: Any) -> None:
    image = torch.zeros(1, 3, 8, 10, dtype=torch.float16)  # 480 bytes
    flow, mask, residual = (torch.zeros(1, 5, c, 2, 2) for c in (2, 1, 3))  # 8 maps: 640 bytes
    work = benchmarks("work").render(image, image, flow, flow, mask, residual)
    assert work.bytes_counted == 5 * 3 * 480 + 640
    assert work.bytes_compulsory == 2 * 480 + 5 * 480 + 640
    assert work.frames == 5


def test_bytes_of_warp_and_splat(benchmarks: Any) -> None:
    image, flow = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)  # 480 and 320 bytes
    weights = torch.zeros(2, 1, 4, 5)  # 160 bytes
    assert benchmarks("work").warp(image, flow).bytes_compulsory == 480 + 320 + 480
    assert benchmarks("work").splat(image, flow, weights).bytes_counted == 2 * (480 + 160) + 320


def test_inputs_rotate_through_more_than_the_cache(benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = benchmarks("machine")
    monkeypatch.setattr(machine, "cache_bytes", lambda device: 1000)
    tensors = (torch.rand(100), torch.rand(25))  # 500 bytes
    rotation = machine.RotatingInputs(tensors)
    seen = [next(rotation) for _ in range(rotation.count + 1)]
    assert rotation.bytes == 500 * rotation.count > 2000
    assert len({part[0].data_ptr() for part in seen}) == rotation.count
    assert seen[-1][0].data_ptr() == tensors[0].data_ptr()
    for copy in seen:
        torch.testing.assert_close(copy, tensors)


def test_the_suite_for_a_gpu_fits_into_nine_minutes(benchmarks: Any) -> None:
    suite = benchmarks("gpu_suite")
    parts = [part.seconds for part in suite.FULL] + [suite.TEST_SECONDS]
    assert sum(parts) + 10 * len(parts) < 9 * 60  # ten seconds to interrupt each
    for part in (*suite.FULL, *suite.QUICK):
        assert all((ROOT / "benchmarks" / name).is_file() for name in part.files)


def test_motions_are_compared_by_what_they_say(benchmarks: Any) -> None:
    """What a trajectory computes when frames are first drawn by it is no part of it."""
    times, model = benchmarks("gpu_times"), rdvfi.create_model("rdvfi-s")
    first = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    motion, again = (model.estimate(first, first.roll(2, -1)) for _ in range(2))
    model.render(first, first.roll(2, -1), motion, [0.3])
    assert times._are_equal(motion, again)
    assert not times._are_equal(motion, model.estimate(first, first.roll(3, -1)))


def test_peak_memory_sees_what_a_call_allocates() -> None:
    """In a process of its own: memory that other tests freed would be used again, unseen."""
    program = (
        "import torch\n"
        "from machine import peak_memory\n"
        "call = lambda: torch.ones(64 * 2**20, dtype=torch.uint8)\n"
        "print(peak_memory(call, torch.device('cpu')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "benchmarks", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "None":
        pytest.skip("this system does not tell the peak of a process's memory")
    assert 0.9 * 64 < int(done.stdout) / 2**20 < 1.5 * 64


def test_what_a_job_costs_beside_its_model_is_taken_from_its_parts(benchmarks: Any, tmp_path: Path) -> None:
    overhead = benchmarks("engine_overhead")
    overhead.write_source(tmp_path / "in.mp4", None, 96, 64, 4)
    results = overhead.measure_overhead(tmp_path / "in.mp4", tmp_path, 1, segments=False)
    job, model, alone = (results["seconds"][k]["wall"] for k in ("job", "model within job", "decode and encode alone"))
    assert 0 < model < job
    assert results["job"]["overhead, wall"] == pytest.approx(
        (job - model) / alone - 1, rel=0.05, abs=0.1
    )  # of times that were rounded


@pytest.mark.slow
def test_render_is_faster_than_the_composition_by_hand(benchmarks: Any) -> None:
    """One run, both in turn, the fastest of each: with much room for a busy machine."""
    import time

    bench = benchmarks("bench_render")
    arguments = bench._arguments((576, 1024), torch.device("cpu"), torch.float32, 7)
    best = {"rdvfi": float("inf"), "naive": float("inf")}
    with torch.inference_mode():
        for _ in range(5):
            for name in best:
                start = time.perf_counter()
                bench.IMPLEMENTATIONS[name]()(*arguments)
                best[name] = min(best[name], time.perf_counter() - start)
    assert best["naive"] > 1.2 * best["rdvfi"]
