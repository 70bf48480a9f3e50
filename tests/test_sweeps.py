"""Combinations of parts at the command and in Python: measured side by side, swept, shown."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig
from omegaconf import OmegaConf as Omega

import clips
import rdvfi
from rdvfi.config import recipe_in_store
from rdvfi.config.sweeps import run_hydra, sweep
from rdvfi.evaluation import evaluate
from rdvfi_cli.main import main

PLAIN = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
"""RDVFI-S's recipe with parts that need no training and no time."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for k, picture in enumerate(clips.moving(5, 48, 64)):
        clips.write_png(folder / f"{k}.png", picture)
    return folder


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_models_and_recipes_are_measured_in_one_run(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    saved = rdvfi.build("rdvfi_s", *PLAIN)
    saved.save_pretrained(tmp_path / "plain")
    code = _run(
        "evaluate", clip, "--gap", 4, "--output", out, "--quiet",
        "--model", f"cubic={tmp_path / 'plain'}", "--model", f"linear={tmp_path / 'plain'} basis=linear",
        "--recipe", f"mine=rdvfi_s {' '.join(PLAIN)} trajectory.knots=FIXED",
    )  # fmt: skip
    assert code == 0
    report = json.loads(out.read_text())
    assert [score["method"] for score in report["scores"]] == ["cubic", "linear", "mine"]
    assert all(score["ms_per_frame"] > 0 for score in report["scores"])
    ours = evaluate(clip, gap=4, models={"cubic": saved, "cross-fade": "blend"})
    assert [score.method for score in ours.scores] == ["cubic", "cross-fade"]
    assert ours.score("cubic").psnr == pytest.approx(report["scores"][0]["psnr"], abs=1e-4)


def test_a_sweep_finishes_and_lists_the_point_that_fails(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = tmp_path / "sweep"
    words = (*PLAIN, "basis=linear,cubic", "motion_area=0,4096", f"hydra.sweep.dir={swept}")
    assert _run("evaluate", clip, "--gap", 4, "--recipe", "mine=rdvfi_s", "-m", *words) == 2
    with (swept / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["basis"] for row in rows] == ["linear", "linear", "cubic", "cubic"]
    assert [bool(row["error"]) for row in rows] == [True, False, True, False]
    assert all(float(row["psnr"]) > 10 for row in rows if not row["error"])
    captured = capsys.readouterr()
    assert "2 of 4 points failed: point 0 (" in captured.err
    assert "motion_area must be a number of pixels; got 0" in captured.err


def test_a_sweep_of_videos_names_each_by_its_point(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    started = ("interpolate", clip / "0.png", clip / "1.png", out.with_suffix(""), "-x", 2, "--recipe", "rdvfi_s")
    assert _run(*started, "--allow-untrained", "--quiet", "-m", *PLAIN, "basis=linear,cubic") == 0
    fixed = ",".join(PLAIN)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"out.multirun", f"out-{fixed},basis=cubic", f"out-{fixed},basis=linear"}


def test_the_configuration_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("interpolate", "--recipe", "rdvfi_s", "--cfg", "job", "basis=linear") == 0
    report = Omega.create(capsys.readouterr().out)
    assert report.basis._name_ == "linear"
    assert report.renderer.one_light is True
    assert _run("interpolate", "--recipe", "rdvfi_s", "--cfg", "job", "--info", "basis=linear") == 2
    assert "give one of --multirun, --cfg and --info" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "in.mp4", "out.mp4"), "takes overrides with several values"),
        (("in.mp4", "out.mp4", "basis=linear,cubic"), "gives several values, which is a sweep"),
        (("in.mp4", "out.mp4", "basis=linea"), "no basis named 'linea'; did you mean 'linear'"),
    ],
)
def test_what_is_no_sweep_is_said(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("interpolate", *words) == 2
    assert message in capsys.readouterr().err


def test_a_program_with_its_own_main_builds_from_what_hydra_composed(tmp_path: Path) -> None:
    written = []

    def program(cfg: DictConfig) -> None:
        written.append(rdvfi.build_from(cfg))
        written.append(rdvfi.build("rdvfi_s", *PLAIN))  # inside a job, Hydra's state is another's

    with recipe_in_store("rdvfi_s", [*PLAIN, "basis=linear"]) as (folder, overrides_given):
        run_hydra(program, folder, overrides_given, [], settings=[f"hydra.run.dir={tmp_path}"])
    first, second = written
    assert first.pretrained().trajectory["config"]["basis"]["name"] == "linear"
    assert second.pretrained().trajectory["config"]["basis"]["name"] == "cubic"
    with pytest.raises(ValueError, match=r"has bais; did you mean 'basis'"):
        rdvfi.build_from({"bais": 1})
    with pytest.raises(ValueError, match="lacks motion_area"):
        rdvfi.build_from({"backbone": {"_name_": "ends"}})


def test_a_sweeper_gets_the_objective_and_a_failure_is_no_number(tmp_path: Path) -> None:
    def job(cfg: DictConfig, folder: Path, overrides_given: list[str]) -> dict[str, float]:
        assert folder.is_dir()
        return {"score": float(cfg.motion_area) if cfg.motion_area > 1 else 1 / 0}

    overrides_given = ["motion_area=1,2"]
    with recipe_in_store("rdvfi_s", overrides_given, sweeps=True) as (folder, overrides):
        result = sweep(job, folder, overrides, into=tmp_path / "own", objective="score")
    assert [point.row for point in result.points] == [{}, {"score": 2.0}]
    assert [point.error for point in result.points] == ["ZeroDivisionError: division by zero", None]
    assert str(result.failed[0]) == "point 0 (motion_area=1)"
    assert (tmp_path / "own" / "0" / "sweeps.log").is_file()  # Hydra names a job after the task's module


def _command(*words: object) -> int:
    """The command in a process of its own: plug-ins of Hydra are older than what they stand on, and warn."""
    return subprocess.run([sys.executable, "-m", "rdvfi_cli.main", *map(str, words)]).returncode


PLUGINS = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher", "ray": "hydra_ray_launcher"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", PLUGINS)
def test_launchers_of_hydra_run_the_points_in_processes_of_their_own(clip: Path, tmp_path: Path, launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.{PLUGINS[launcher]}")
    words = (*PLAIN, "basis=linear,cubic", "motion_area=0,4096", f"hydra.sweep.dir={tmp_path}")
    code = _command(
        "evaluate", clip, "--gap", 4, "--recipe", "mine=rdvfi_s", "-m", *words, f"hydra/launcher={launcher}"
    )
    assert code == 2
    with (tmp_path / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["basis"], bool(row["error"])) for row in rows] == [
        (basis, failed) for basis in ("linear", "cubic") for failed in (True, False)
    ]


@pytest.mark.slow
def test_optuna_chooses_points_and_a_failure_does_not_end_it(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    chosen = ("basis=choice(linear,cubic)", "motion_area=choice(0,4096)", f"hydra.sweep.dir={tmp_path}")
    optuna = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=6", "hydra.sweeper.direction=maximize")
    _command("evaluate", clip, "--gap", 4, "--recipe", "mine=rdvfi_s", "-m", *PLAIN, *chosen, *optuna)
    with (tmp_path / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert all(bool(row["error"]) == (row["motion_area"] == "0") for row in rows)


@pytest.mark.slow
def test_training_is_swept_and_every_point_leaves_a_model(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "examples" / "clips"
    quick = ("engine.steps=2", "engine.warmup=1", "data.workers=0", "data.batch=1", "data.size=[64,96]")
    words = ("recipe=rdvfi_s/finetune", f"data.clips={folder}", f"out={tmp_path}", "engine.rate=1e-4,2e-4", *quick)
    assert _run("train", "-m", *words) == 0
    with (tmp_path / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["engine.rate"]) for row in rows] == [1e-4, 2e-4]
    for row in rows:
        assert float(row["loss"]) > 0
        assert rdvfi.create_model(row["out"]).untrained_parts() == []
