"""Every kernel compiles for NVIDIA GPUs, down to the binary; that needs no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels

kernels.load("sampling")  # skips where Triton is missing
KERNELS = Path(__file__).parent.parent / "src" / "rdvfi" / "ops" / "kernels"


SLOW = [pytest.param(*each, marks=pytest.mark.slow) for each in (("hopper", "all"), ("ampere", "all"))]


@pytest.mark.parametrize(("target", "kinds"), [("hopper", "one"), *SLOW])
def test_every_kernel_compiles_for_nvidia_gpus(tmp_path: Path, target: str, kinds: str) -> None:
    """In the fast test once; with all types and constants that it is started with, and for both, in the slow ones."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_kernels.py")), target, kinds],
        capture_output=True,
        text=True,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path), "DISABLE_PTXAS_OPT": "1"},  # twice as fast
    )
    assert done.returncode == 0, done.stderr
    *compiled, loads = done.stdout.splitlines()
    modules = {line.partition(".")[0] for line in compiled}
    assert modules == {path.stem.removesuffix("_kernels") for path in KERNELS.glob("*_kernels.py")} - {"sampling"}
    # Four values of an image, in half precision for Hopper and float32 for Ampere, or four maps, at a time.
    assert loads == {"hopper": "_draw loads v2.b32 v4.b32", "ampere": "_draw loads v4.b32"}[target]
