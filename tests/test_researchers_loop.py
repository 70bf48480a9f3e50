"""The program of the guide on combining parts runs as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_whole_loop_runs(tmp_path: Path) -> None:
    program, out = ROOT / "examples" / "researchers_loop.py", tmp_path / "loop"
    quick = ["engine.steps=2", "engine.warmup=1", "data.workers=0", "data.batch=1", "data.size=[64,96]"]
    run = [sys.executable, str(program), str(ROOT / "examples" / "clips"), str(out), *quick]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(f"{name}: " in done.stdout for name in ("as it is", "basis", "backbone", "both"))
    assert "saved multirun/" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Interpolator(backbone=compact, ")


@pytest.mark.slow
def test_the_small_edition_of_the_whole_recipe_beats_flow_and_warping(tmp_path: Path) -> None:
    import rdvfi
    from rdvfi.data.datasets.build import build
    from rdvfi.training.run import train

    build(None, tmp_path / "data", only_procedural=True)
    assert train("rdvfi_s_small", [f"data.folder={tmp_path / 'data'}", f"out={tmp_path / 'run'}"], report=print)
    made = rdvfi.create_model(tmp_path / "run")
    assert made.untrained_parts() == []
    report = rdvfi.evaluate("procedural", gap=4, pairs=8, models={"made": made, "dis": "dis"})
    assert report.score("made").psnr > report.score("dis").psnr + 0.5
