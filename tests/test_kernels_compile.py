"""Every kernel compiles for NVIDIA GPUs, down to the binary; that needs no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import kernels

kernels.load("sampling")  # skips where Triton is missing


def test_every_kernel_compiles_for_nvidia_gpus(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_kernels.py"))],
        capture_output=True,
        text=True,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "correlation._by_source 2",
        "correlation._by_wide_target 2",
        "correlation._forward 2",
        "paths._confidence 1",
        "paths._flows 1",
        "paths._follow 1",
        "paths._shifts 1",
        "paths._straight 1",
        "render._draw 2",
        "render._pack_images 2",
        "render._pack_maps 2",
        "splat._backward 2",
        "splat._forward 4",
        "warp._backward 6",
        "warp._forward 2",
        # Four half-precision or float32 values of an image, or four maps, at a time.
        "_draw loads v2.b32 v4.b32",
    ]
