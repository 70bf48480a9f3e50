"""Means, bootstrap intervals over clips, paired differences, and what a method costs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from rdvfi.evaluation.baselines import CrossFade
from rdvfi.evaluation.cost import CostPoint, measure_cost, save_cost_sweep, sweep_cost
from rdvfi.evaluation.environment import read_environment
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.external import create_external_method
from rdvfi.evaluation.external_frames import FrameFolder, export_inputs
from rdvfi.evaluation.intervals import bootstrap_interval, middle_mean, paired_difference, weighted_mean
from rdvfi.evaluation.measurement import measure
from rdvfi.evaluation.method import Method
from rdvfi.evaluation.metrics.metric import Sample
from rdvfi.evaluation.output_paths import PLOT_SUFFIXES, check_output_path
from rdvfi.evaluation.result_tables import unavailable_lines
from rdvfi.evaluation.results import Report
from rdvfi.evaluation.window_properties import measure_properties, property_function
from rdvfi.media.image_files.images import write_png


def samples(values: np.ndarray) -> list[Sample]:
    return [Sample.of([value]) for value in values]


def test_means_are_weighted_and_middles_are_middles() -> None:
    pair = [Sample((1.0, 3.0), (1.0, 3.0)), Sample((5.0,), (4.0,))]
    assert weighted_mean(pair) == pytest.approx((1 + 9 + 20) / 8)
    assert middle_mean([Sample.of([1, 2, 9]), Sample.of([1, 4, 9])]) == 3.0
    assert middle_mean([Sample.of([1, 2])]) is None


def test_the_interval_is_the_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).normal(30.0, 2.0, 40)
    low, high = bootstrap_interval(samples(values), [str(i) for i in range(40)])
    reference = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.1)
    assert bootstrap_interval(samples(values), [str(i) for i in range(40)]) == (low, high)
    assert bootstrap_interval(samples(values[:3]), ["one"] * 3) is None


def test_clips_are_drawn_and_not_frames() -> None:
    """Frames of one clip that are alike carry no more than one of them: the interval stays as wide."""
    values = np.random.default_rng(2).normal(30.0, 2.0, 12)
    units = [str(i) for i in range(12)]
    single = bootstrap_interval(samples(values), units)
    repeated = bootstrap_interval(samples(np.repeat(values, 9)), list(np.repeat(units, 9)))
    assert repeated == pytest.approx(single)


def test_what_is_hard_for_both_cancels() -> None:
    hard = np.random.default_rng(3).normal(30.0, 5.0, 30)
    ours, other, units = samples(hard + 0.2), samples(hard), [str(i) for i in range(30)]
    difference, (low, high) = paired_difference(ours, other, units)
    assert difference == pytest.approx(0.2)
    assert low == pytest.approx(0.2)
    assert high == pytest.approx(0.2)
    assert paired_difference(other, ours, units)[0] == pytest.approx(-0.2)
    wide = bootstrap_interval(ours, units)
    assert wide[1] - wide[0] > 2.0


def test_the_motion_of_true_frames_is_measured() -> None:
    from skimage import data

    pan = np.stack([data.astronaut()[100:228, 200 - 4 * i : 360 - 4 * i] for i in range(6)]).copy()
    measured = measure_properties(EvaluationWindow(0, pan))
    assert measured["motion"] == pytest.approx(20.0, abs=2.0)
    assert measured["occlusion"] < 0.3
    still = measure_properties(EvaluationWindow(0, np.repeat(pan[:1], 6, 0)))
    assert still["motion"] < 0.5
    assert still["occlusion"] < measured["occlusion"]
    with pytest.raises(ValueError, match="cannot group by 'moton'; did you mean 'motion'"):
        property_function(["moton"])


class Sleepy(Method):
    """Takes 20 ms for a pair and 5 ms for each frame, and fails on wide frames."""

    name = "sleepy"

    def __call__(self, img0, img1, times):
        import time

        if img0.shape[-1] > 100:
            raise RuntimeError("out of memory\nand more")
        time.sleep(0.02 + 0.005 * len(times))
        return CrossFade()(img0, img1, times)


def test_cost_is_split_into_fixed_and_extra() -> None:
    img = torch.rand(1, 3, 32, 48)
    cost = measure_cost(Sleepy(), img, img, dtype="float32", frames=9)
    assert cost.extra_ms == pytest.approx(5.0, abs=4.0)
    assert cost.fixed_ms == pytest.approx(20.0, abs=15.0)
    assert (cost.size, cost.device, cost.dtype) == ((32, 48), "cpu", "float32")


def test_memory_of_a_call_and_of_a_program() -> None:
    class Hungry(CrossFade):
        def __call__(self, img0, img1, times):
            torch.ones(50_000_000).sum()  # 200 MB
            return super().__call__(img0, img1, times)

    img = torch.rand(1, 3, 32, 48)
    peak = measure_cost(Hungry(), img, img, dtype="float32", frames=2, rounds=1).peak_mb
    assert peak is None or 150.0 < peak < 400.0


HUNGRY = """import shutil, sys
kept = {megabytes}
for i in range(int(sys.argv[3])):
    shutil.copy(sys.argv[1], f"{{sys.argv[2]}}/{{i}}.png")
"""


def test_the_memory_of_each_program_is_its_own(tmp_path: Path) -> None:
    """The system's figure for all children is that of the largest, and begins with the memory of this process."""
    measured = []
    for megabytes in (200, 0):
        script = tmp_path / f"{megabytes}.py"
        script.write_text(HUNGRY.format(megabytes=f"b'x' * {megabytes}_000_000"))
        program = create_external_method(f"own={sys.executable} -S {script} {{first}} {{out}} {{count}} {{last}}")
        img = torch.rand(1, 3, 32, 48)
        measured.append(measure_cost(program, img, img, dtype="float32", frames=2, rounds=1).peak_mb)
    assert 200.0 < measured[0] < 500.0
    assert 1.0 < measured[1] < 100.0


def test_frames_that_lie_ready_are_not_timed_and_costs_say_what_failed(tmp_path: Path) -> None:
    class Seven(CrossFade):
        name = "seven"

        def __call__(self, img0, img1, times):
            if len(times) != 3:
                raise ValueError(f"makes 3 frames, not {len(times)}")
            return super().__call__(img0, img1, times)

    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    pair = EvaluationWindow(0, np.stack([picture] * 5))
    export_inputs([pair], tmp_path)
    for i in range(3):
        write_png(tmp_path / "000000" / f"{i}.png", picture)
    ready, seven, blend = measure(
        [pair],
        [FrameFolder("ready", tmp_path), Seven(), CrossFade()],
        device=torch.device("cpu"),
        cost_dtype="float32",
    ).scores
    assert ready.psnr == 60.0
    assert ready.ms_per_frame is None
    assert ready.no_cost == "its frames are read from files, so their computation cannot be timed"
    assert (seven.cost, seven.no_cost) == (None, "makes 3 frames, not 1")
    assert blend.ms_per_frame > 0.0
    assert blend.cost is not None
    (point,) = sweep_cost([FrameFolder("ready", tmp_path)], *pair.inputs(torch.device("cpu")), widths=(48,), counts=())
    assert point.failed == "its frames are read from files, so their computation cannot be timed"
    report = Report("c", 4, (32, 48), 1, 3, 0, (ready, seven, blend), (), read_environment(torch.device("cpu")))
    assert unavailable_lines(report)[1] == "no cost of seven: makes 3 frames, not 1"
    assert "| not timed |" in report.to_markdown()


def test_a_program_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdvfi.evaluation.external.TIMEOUT_SECONDS", 0.3)
    img = torch.rand(1, 3, 32, 48)
    with pytest.raises(RuntimeError, match=r"sh cannot be run: .*timed out after 0\.3 seconds"):
        create_external_method("slow=sh -c 'sleep 20' {pair} {out}")(img, img, torch.tensor([0.5]))


def test_only_metrics_with_a_value_per_frame_have_a_middle() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    (score,) = measure(
        [EvaluationWindow(0, frames)], [CrossFade()], device=torch.device("cpu"), metrics=("psnr", "warping-error")
    ).scores
    assert score.middle == {"psnr": pytest.approx(score.psnr)}


def test_a_sweep_goes_on_where_a_size_fails_and_is_drawn(tmp_path: Path) -> None:
    img = torch.rand(1, 3, 32, 64)
    sizes = {"widths": (48, 128), "counts": (1, 3), "rounds": 1}
    points = list(sweep_cost([Sleepy(), CrossFade()], img, img, **sizes))
    assert len(points) == 8
    failed = [point for point in points if point.failed]
    assert [(p.method, p.size, p.failed) for p in failed] == [("sleepy", (64, 128), "out of memory")]

    def run(method: Method, environment: str = "here") -> list[str]:
        """The points that are measured, not taken from the file."""
        fresh: list[CostPoint] = []
        options = {**sizes, "environment": environment, "on_point": fresh.append}
        save_cost_sweep([method], img, img, tmp_path / "times.png", **options)
        return [f"{p.method} {p.size[1]} {p.frames}" for p in fresh]

    assert len(run(CrossFade())) == 4
    assert (tmp_path / "times.png").stat().st_size > 5000
    assert run(CrossFade()) == []
    assert len(run(Sleepy())) == 4
    assert run(Sleepy()) == ["sleepy 128 7"]
    assert {p["method"] for p in json.loads((tmp_path / "times.json").read_text())["points"]} == {"blend", "sleepy"}
    assert len(run(CrossFade(), "elsewhere")) == 4
    assert len(json.loads((tmp_path / "times.json").read_text())["points"]) == 4
    (tmp_path / "times.json").write_text("{}")
    with pytest.raises(ValueError, match=r"times\.json exists and holds no sweep"):
        run(CrossFade())
    with pytest.raises(ValueError, match=r"must end in \.png, \.svg or \.pdf"):
        check_output_path(tmp_path / "times.jpg", PLOT_SUFFIXES)
