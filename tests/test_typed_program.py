"""The example program has no error in ``mypy --strict``, and nothing of rdvfi in it is ``Any``."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPRESSIONS = {
    "model": "Interpolator",
    "model(a, a, [0.5])": "Tensor",
    "model.estimate(a, a)": "Motion",
    'rdvfi.build("rdvfi_s")': "Interpolator",
    'rdvfi.evaluate("x")': "Report",
    'rdvfi.flows.create("dis")': "FlowEstimator",
    "rdvfi.to_image(a)": "Image",
    "rdvfi.flow_colours(a)": "Tensor",
    "rdvfi.list_models()": "list[",
}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_the_example_program_is_typed(tmp_path: Path) -> None:
    program = tmp_path / "shown.py"
    lines = [f"    reveal_type({expression})\n" for expression in EXPRESSIONS]
    head = "import rdvfi\nfrom torch import Tensor\n\nmodel = rdvfi.create_model('rdvfi-s')\n\n\n"
    head += "def show(a: Tensor) -> None:\n"
    program.write_text(head + "".join(lines))
    run = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*run, str(ROOT / "examples" / "typed_program.py"), str(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stdout
    revealed = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    for line, (expression, kind) in zip(revealed, EXPRESSIONS.items(), strict=True):
        assert kind in line, f"{expression}: {line}"
        assert "Any" not in line, f"{expression}: {line}"
