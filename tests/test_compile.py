"""Compilation is tested in a process of its own, without the shape checks of the other tests."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def _run(marker: str) -> None:
    # Without the import hook of pyproject.toml: its wrapped dataclasses cannot be compiled.
    options = ["-o", "addopts=--strict-markers -p no:cacheprovider", "-m", marker]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(TESTS / "compiled.py")],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_both_halves_of_a_model_compile_whole() -> None:
    _run("not slow")


@pytest.mark.slow
def test_every_kind_of_knots_compiles_whole_by_every_backend() -> None:
    _run("slow")
