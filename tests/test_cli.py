"""The command line: real runs, and one clear line for whatever a user gets wrong."""

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
import typer

import clips
import rdvfi
from rdvfi_cli.main import application, main
from rdvfi_cli.messages import one_line, with_option_names
from rdvfi_cli.progress import Progress, estimate_remaining, format_duration

CLIP = Path(__file__).parents[1] / "examples" / "clips" / "branch.mp4"


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory) -> str:
    """A real model in a folder; its encoder is untrained and not used for motion or pixels."""
    folder = tmp_path_factory.mktemp("model")
    parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    rdvfi.build("rdvfi_s", *parts).save_pretrained(folder)
    return str(folder)


def _run_failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run with arguments that are wrong; the one line that is said."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("rdvfi: error: ")
    assert said.err.count("\n") == 1
    return said.err


def _run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0


def _interpolate(saved_model: str, *arguments: object) -> None:
    _run("interpolate", *arguments, "--model", saved_model, "--allow-untrained", "--device", "cpu")


def test_the_demo_clip_is_interpolated_with_its_sound(tmp_path, saved_model, capsys) -> None:
    out, sheet = tmp_path / "out.mp4", tmp_path / "sheet.png"
    _interpolate(saved_model, CLIP, out, "-x", 2, "--contact-sheet", sheet)
    with av.open(str(out)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == (18 - 1) * 2 + 1
    assert clips.sound_packets(out) == clips.sound_packets(CLIP)
    assert clips.read_png(sheet).shape[2] == 3
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: 35 frames of 640x360 from 18 in ")
    assert said.count("\n") == 1


def test_two_images_become_a_folder_of_images(tmp_path, saved_model) -> None:
    for k, picture in enumerate(clips.moving(2, 48, 64)):
        clips.write_png(tmp_path / f"{k}.png", picture)
    _interpolate(saved_model, tmp_path / "0.png", tmp_path / "1.png", tmp_path / "out", "-x", 4)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"frame_{k:06d}.png" for k in range(5)]


def test_a_constant_rate_may_be_asked_for(tmp_path, saved_model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(8, 48, 64))  # 6 frames per second
    _interpolate(saved_model, tmp_path / "in.mp4", tmp_path / "out.mkv", "--fps", "12000/1001", "--no-audio")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert not container.streams.audio
        assert len(list(container.decode(video=0))) == 16


def test_a_recipe_and_overrides_make_the_model(tmp_path, capsys) -> None:
    for k, picture in enumerate(clips.moving(2, 48, 64)):
        clips.write_png(tmp_path / f"{k}.png", picture)
    files = (tmp_path / "0.png", tmp_path / "1.png", tmp_path / "out")
    plain = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    started = ("interpolate", *files, "-x", 2, "--device", "cpu", "--recipe", "rdvfi_s")
    assert "untrained parts: backbone" in _run_failing(capsys, *started, *plain)
    _run(*started, *plain, "--allow-untrained")
    assert len(list((tmp_path / "out").iterdir())) == 3
    capsys.readouterr()
    assert "no basis named 'cubc'" in _run_failing(capsys, *started, *plain, "basis=cubc", "-y")
    assert "--model or --recipe, not both" in _run_failing(capsys, *started, "--model", "rdvfi-s")
    assert "no recipe named 'rdvfi_z'" in _run_failing(capsys, *started[:-1], "rdvfi_z", "-y")


def test_low_confidence_is_said_once_after_the_result(tmp_path, saved_model, capsys) -> None:
    import skimage.data
    import skimage.transform

    for k, photograph in enumerate((skimage.data.coffee(), skimage.data.rocket())):
        small = skimage.transform.resize(photograph, (180, 320), anti_aliasing=True)
        clips.write_png(tmp_path / f"{k}.png", small)
    _interpolate(saved_model, tmp_path / "0.png", tmp_path / "1.png", tmp_path / "out", "-x", 2)
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert "warning: 1 of 1 pairs of frames have too little in common" in said.err
    assert "LowConfidenceWarning" not in said.err


def test_user_errors_are_one_line_and_exit_code_two(tmp_path, saved_model, capsys) -> None:
    out = tmp_path / "out.mp4"
    assert "none.mp4 does not exist" in _run_failing(capsys, "interpolate", tmp_path / "none.mp4", out)
    assert "unknown output suffix '.wmv'" in _run_failing(capsys, "interpolate", CLIP, tmp_path / "out.wmv")
    assert "does not exist" in _run_failing(capsys, "interpolate", CLIP, tmp_path / "no" / "out.mp4")
    assert "--multiplier is 0" in _run_failing(capsys, "interpolate", CLIP, out, "-x", 0)
    assert "give one or more inputs and an output" in _run_failing(capsys, "interpolate", CLIP)
    assert "--fps is 'fast'" in _run_failing(capsys, "interpolate", CLIP, out, "--fps", "fast")
    assert "--fps is '1/0'" in _run_failing(capsys, "interpolate", CLIP, out, "--fps", "1/0")
    assert "--dtype is 'int8'" in _run_failing(capsys, "interpolate", CLIP, out, "--dtype", "int8")
    assert "no model named 'rdvfi-x'" in _run_failing(capsys, "interpolate", CLIP, out, "--model", "rdvfi-x")
    assert "--allow-untrained" in _run_failing(capsys, "interpolate", CLIP, out, "--model", saved_model)
    (tmp_path / "text.mp4").write_text("no film")
    assert "is not a video" in _run_failing(capsys, "interpolate", tmp_path / "text.mp4", out)
    assert "give --multiplier or --fps, not both" in _run_failing(
        capsys, "interpolate", CLIP, out, "-x", 2, "--fps", 60
    )
    assert "--scene-threshold must be a number in [0, 1]; got 2.0" in _run_failing(
        capsys, "interpolate", CLIP, out, "--scene-threshold", 2
    )
    assert "--crf is 90; libx264" in _run_failing(capsys, "interpolate", CLIP, out, "--crf", 90)
    out.touch()
    assert "out.mp4 exists; replace it with --overwrite (-y), or" in _run_failing(capsys, "interpolate", CLIP, out)
    assert sorted(os.listdir(tmp_path)) == ["out.mp4", "text.mp4"]


def test_debugging_shows_where_an_error_came_from(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RDVFI_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist"):
        main(["interpolate", str(tmp_path / "none.mp4"), str(tmp_path / "out.mp4")])


def test_wrong_use_of_the_command_line_is_explained(capsys) -> None:
    for arguments in (["interpolate", "--speed", "3"], ["interpol"], []):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


COMMANDS = ("interpolate", "visualize", "evaluate", "convert", "train", "data", "models", "info")
COMMANDS += ("plugins", "new-plugin", "serve", "export", "doctor")


def test_help_names_every_command(capsys) -> None:
    _run("--help")
    said = capsys.readouterr().out
    assert set(COMMANDS) == set(typer.main.get_command(application()).commands)
    for command in COMMANDS:
        assert command in said


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["interpolate", "--help"], ["evaluate", "--help"], ["interpolate", "--speed"]],
)
def test_the_command_answers_without_torch(arguments) -> None:
    program = (
        "import sys\n"
        "from rdvfi_cli.main import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'rdvfi', 'numpy', 'av', 'cv2', 'hydra'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_threads_wait_asleep_unless_the_user_chose(tmp_path) -> None:
    program = (
        "import os\n"
        "from rdvfi_cli.main import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    print(os.environ.get('OMP_WAIT_POLICY'))\n"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    for chosen, expected in (
        ({}, "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "active"),
        ({"GOMP_SPINCOUNT": "1"}, "None"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program], env={**bare, **chosen}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split("\n")[1] == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys) -> None:
    _run(command, "--help")
    assert "--help" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["interpolate", "evaluate", "train", "convert", "data"])
def test_every_command_that_computes_takes_threads(command) -> None:
    chosen = typer.main.get_command(application()).commands[command]
    options = [
        option for each in getattr(chosen, "commands", {"": chosen}).values() for p in each.params for option in p.opts
    ]
    assert "--threads" in options


def test_the_package_runs_as_the_command() -> None:
    run = [sys.executable, "-m", "rdvfi", "--version"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout == f"rdvfi {rdvfi.__version__}\n"


def test_the_version_is_told(capsys) -> None:
    _run("--version")
    assert capsys.readouterr().out == f"rdvfi {rdvfi.__version__}\n"


def test_any_error_fits_on_one_line() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(KeyError("no basis named 'cubc'")) == "no basis named 'cubc'"
    assert one_line(MemoryError()) == "MemoryError"


def test_messages_of_the_library_name_options() -> None:
    assert with_option_names("target_fps is 0; it must be greater than 0") == "--fps is 0; it must be greater than 0"
    assert with_option_names("replace it with overwrite=True, or") == "replace it with --overwrite (-y), or"
    assert with_option_names("--compare is 'x'; crf is 90") == "--compare is 'x'; --crf is 90"
    assert with_option_names("seed must be an integer; got 1.5") == "--seed must be an integer; got 1.5"
    assert with_option_names("the device of the model is full") == "the device of the model is full"


def test_the_time_left_is_that_of_the_pairs_left() -> None:
    assert estimate_remaining([5.0], 10) is None
    assert estimate_remaining([0.0, 8.0], 3) == 16.0
    assert estimate_remaining([0.0, 8.0, 9.0, 10.0], 10) == 7.0  # the first pair also warmed up
    assert estimate_remaining([0.0, 1.0], 1) == 0.0
    assert (format_duration(None), format_duration(3725.4), format_duration(0.4)) == ("-:--:--", "1:02:05", "0:00:00")


def test_progress_without_a_terminal_is_plain_lines(capsys, monkeypatch) -> None:
    moments = iter([0.0, 11.0, 12.0, 23.0, 24.0])
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    with Progress() as progress:
        for done in range(5):
            progress.show(done, 4)
    assert capsys.readouterr().err == (
        "pair 1 of 4, 0:00:11 spent, 0:00:33 left\npair 3 of 4, 0:00:23 spent, 0:00:06 left\n"
    )


def test_quiet_says_nothing(tmp_path, saved_model, capsys) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64))
    _interpolate(saved_model, tmp_path / "in.mp4", tmp_path / "out", "-x", 2, "--quiet", "--threads", 1)
    said = capsys.readouterr()
    assert said.out == said.err == ""
