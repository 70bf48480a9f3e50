"""What is built for others holds what it should, and nothing else; it runs where it is unpacked."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
MEDIA = (".mp4", ".mkv", ".webm", ".png", ".jpg", ".gif", ".npz", ".pt", ".onnx")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(built)


def test_the_wheel_holds_code_and_weights_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"rdvfi", "rdvfi_cli", f"rdvfi-{wheel.name.split('-')[1]}.dist-info"}
    assert {"rdvfi/py.typed", "rdvfi/weights/rdvfi-s.safetensors", "rdvfi/weights/rdvfi-s.json"} <= set(names)
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {name.removeprefix("src/") for name in tracked.stdout.split()}
    if files:  # an unpacked source distribution is no repository
        assert files <= set(names), "every file of the sources is there"
    assert not [name for name in names if name.endswith(MEDIA) or "/tests/" in name or "__pycache__" in name]
    assert wheel.stat().st_size < 20e6


def test_the_source_distribution_can_be_built_and_tested_from(tmp_path: Path) -> None:
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "Makefile", "Dockerfile", "mkdocs.yml", "tests/conftest.py", "docs/index.md", "LICENSE"}
    assert needed <= names
    assert not [name for name in names if name.startswith((".venv", "out/", "site/", ".git/")) or "__pycache__" in name]


def test_an_unpacked_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1"}
    program = "import rdvfi; print(rdvfi.__file__, rdvfi.list_models())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert str(tmp_path) in done.stdout
    assert "rdvfi-s" in done.stdout
    told = subprocess.run(
        [sys.executable, "-m", "rdvfi_cli.main", "--version"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.stdout.split() == ["rdvfi", wheel.name.split("-")[1]]


def test_the_dockerfile_names_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [
        word
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert copied
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name.strip('./')}" in ignored, f"{name} is not sent to the build"
