"""The program of the guide on combining parts runs as it stands."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import clips

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "examples" / "researchers_loop.py"
QUICK = ["engine.steps=2", "engine.warmup=1", "data.workers=0", "data.batch=1", "data.size=[64,96]"]


def _said(folder: Path, *settings: str) -> str:
    run = [sys.executable, str(PROGRAM), *settings]
    done = subprocess.run(run, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_has_at_most_30_lines() -> None:
    assert len([line for line in PROGRAM.read_text().splitlines() if line.strip()]) <= 30


def test_the_program_registers_exchanges_measures_sweeps_trains_and_loads(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clips.write_clip(tmp_path / "clips" / "clip.mp4", clips.moving(18, 64, 96))
    said = _said(tmp_path, *QUICK)
    measured, swept = said.split("point  basis", 1)
    rows = [line.split("|")[1].strip() for line in measured.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["as it is", "basis=two-point", "backbone=faded", "basis=two-point backbone=faded"]
    points = [line.split() for line in swept.splitlines()[1:5]]
    assert [point[1:3] for point in points] == [
        [basis, knots] for basis in ("two-point", "cubic") for knots in ("FIXED", "MOVED")
    ]
    assert all(float(point[3]) > 10 and float(point[5]) > 0 for point in points)
    assert said.splitlines()[-1].startswith("Interpolator(backbone=compact, ")


@pytest.mark.slow
def test_the_program_runs_as_it_stands_on_a_real_clip_and_trains_for_a_minute(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    shutil.copy(ROOT / "examples" / "clips" / "branch.mp4", tmp_path / "clips" / "clip.mp4")
    said = _said(tmp_path)
    assert "finetune: held-out frames, gap 2: before" in said
    assert said.splitlines()[-1].startswith("Interpolator(backbone=compact, ")


@pytest.mark.slow
def test_the_small_edition_of_the_whole_recipe_beats_flow_and_warping(tmp_path: Path) -> None:
    import rdvfi
    from rdvfi.data.datasets.build import build_training_data
    from rdvfi.training.run import train

    build_training_data(None, tmp_path / "data", only_procedural=True)
    assert train("rdvfi_s_small", [f"data.folder={tmp_path / 'data'}", f"out={tmp_path / 'run'}"], report=print)
    made = rdvfi.create_model(tmp_path / "run")
    assert made.untrained_parts() == []
    report = rdvfi.evaluate("procedural", gap=4, pairs=8, models={"made": made, "dis": "dis"})
    assert report.score("made").psnr > report.score("dis").psnr + 0.5
