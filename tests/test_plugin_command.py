"""``rdvfi new-plugin`` and ``rdvfi plugins``: a package that passes at once, and what is said of those that fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdvfi_cli.main import main


def _create_plugin(folder: Path, name: str) -> Path:
    with pytest.raises(SystemExit) as ended:
        main(["new-plugin", name, "--folder", str(folder)])
    assert ended.value.code == 0
    return folder / name.replace("_", "-")


def test_the_new_package_is_whole_and_named_throughout(tmp_path: Path) -> None:
    made = _create_plugin(tmp_path, "my_motion")
    files = [path for path in made.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"pyproject.toml", "README.md", "benchmark.py", "recipe.yaml", "my_flow.py"}
    for path in files:
        text = path.read_text()
        assert "PLUGIN" not in text, path
        if path.suffix == ".py":
            compile(text, str(path), "exec")
    assert [path.name for path in tmp_path.iterdir()] == ["my-motion"]


@pytest.mark.parametrize(("name", "message"), [("Mine", "expected lower-case letters"), ("class", "NAME is 'class'")])
def test_names_that_are_none_are_refused(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["new-plugin", name, "--folder", str(tmp_path)])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _create_plugin(tmp_path, "mine")
    with pytest.raises(SystemExit):
        main(["new-plugin", "mine", "--folder", str(tmp_path)])
    assert "exists; choose another name" in capsys.readouterr().err


def test_plugins_are_listed_with_where_they_are_from_and_why_not(tmp_path: Path) -> None:
    (tmp_path / "broken_one.py").write_text("import broken_inner\n")
    (tmp_path / "broken_inner.py").write_text("import package_that_is_not_there\n")
    (tmp_path / "works.py").write_text(
        "import rdvfi\n\n@rdvfi.bases.register('worked')\ndef worked() -> rdvfi.Basis: ...\n"
    )
    info = tmp_path / "two_plugins-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: two-plugins\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[rdvfi.plugins]\nbad = broken_one\ngood = works\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run = [sys.executable, "-m", "rdvfi", "plugins"]
    done = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "good: works, from two-plugins 1.2\n  registers basis worked\n" in done.stdout
    assert "bad: broken_one, from two-plugins 1.2\n  left out: ModuleNotFoundError: " in done.stdout
    assert done.stdout.count("; the failed import is 'package_that_is_not_there'\n") == 1


@pytest.mark.slow
def test_the_new_package_passes_its_own_tests_at_once(tmp_path: Path) -> None:
    made = _create_plugin(tmp_path, "my_motion")
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(run, cwd=made, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
