"""Every kernel compiles for NVIDIA GPUs, down to the binary; that needs no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import kernels

kernels.load("sampling")  # skips where Triton is missing
KERNELS = Path(__file__).parent.parent / "src" / "rdvfi" / "ops" / "kernels"


def test_every_kernel_compiles_for_nvidia_gpus(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_kernels.py"))],
        capture_output=True,
        text=True,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    *compiled, loads = done.stdout.splitlines()
    modules = {line.partition(".")[0] for line in compiled}
    assert modules == {path.stem.removesuffix("_kernels") for path in KERNELS.glob("*_kernels.py")} - {"sampling"}
    # Four half-precision or float32 values of an image, or four maps, at a time.
    assert loads == "_draw loads v2.b32 v4.b32"
