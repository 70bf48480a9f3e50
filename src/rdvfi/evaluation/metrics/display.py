"""Metrics that model the viewer: FLIP, ColorVideoVDP, VMAF.

* FLIP (Andersson et al., 2020), LDR-FLIP of the package ``flip-evaluator`` (NVIDIA's own code) at its default 67 pixels
  per degree: the mean over pixels, 0 for equal frames.
* ColorVideoVDP (Mantiuk et al., 2024, https://arxiv.org/abs/2401.11485), package ``cvvdp``, display ``standard_fhd`` at
  30 frames per second, of the sequence with both inputs: in just-objectionable differences, 10 for equal sequences.
* VMAF (Netflix; model vmaf_v0.6.1), computed by an FFmpeg with the filter ``libvmaf``: the program in the environment
  variable ``RDVFI_FFMPEG``, else ``ffmpeg`` on the path, else that of the package ``imageio-ffmpeg``.
  Sequences are compared as 8-bit 4:2:0 in BT.709.
"""

import importlib
import json
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.evaluation.metrics.metric import Better, Frames, Metric, Sample, WindowResult, metrics

FRAME_RATE = 30
"""Frame rate at which sequences are compared."""


@metrics.register("flip")
class FLIP(Metric):
    """Mean FLIP error per frame."""

    title, better = "FLIP", Better.LOWER

    def __init__(self) -> None:
        super().__init__()
        self._package = import_optional("flip_evaluator", "FLIP needs", "'rdvfi[metrics]'")

    def measure(self, result: WindowResult) -> Sample:
        pairs = zip(_images(result.frames), _images(result.truth), strict=True)
        return Sample.of([self._package.evaluate(true, frame, "LDR", applyMagma=False)[1] for frame, true in pairs])


@metrics.register("cvvdp")
class ColorVideoVDP(Metric):
    """ColorVideoVDP per sequence, in JOD."""

    title, better, decimals, per_frame = "CVVDP", Better.HIGHER, 3, False

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__()
        import torch

        package = import_optional("pycvvdp", "ColorVideoVDP needs", "'rdvfi[metrics]'", torchvision=True)
        self._metric = package.cvvdp(display_name="standard_fhd", quiet=True, device=torch.device(device))

    def measure(self, result: WindowResult) -> Sample:
        # Floating-point input is expected in [0, 1].
        sequence, true = result.sequences
        value, _ = self._metric.predict(sequence, true, dim_order="FCHW", frames_per_second=FRAME_RATE)
        return Sample.of([float(value)])


@metrics.register("vmaf")
class VMAF(Metric):
    """VMAF per interpolated frame; its motion term also uses both inputs."""

    title, better, decimals = "VMAF", Better.HIGHER, 2

    def __init__(self) -> None:
        super().__init__()
        self._ffmpeg = _find_ffmpeg(os.environ.get("RDVFI_FFMPEG"))

    def measure(self, result: WindowResult) -> Sample:
        with tempfile.TemporaryDirectory() as folder:
            sequence, true = result.sequences
            values = self._values(Path(folder), sequence, true)
        return Sample.of(values[1:-1])

    def _values(self, folder: Path, sequence: Frames, true: Frames) -> list[float]:
        h, w = true.shape[-2:]
        inputs = []
        for name, frames in (("sequence", sequence), ("true", true)):
            frames.mul(255.0).round().byte().permute(0, 2, 3, 1).contiguous().numpy().tofile(folder / name)
            inputs += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-r", str(FRAME_RATE), "-i", name]
        convert = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
        graph = f"[0]{convert}[a];[1]{convert}[b];[a][b]libvmaf=log_fmt=json:log_path=log"
        command = [self._ffmpeg, "-v", "error", *inputs, "-lavfi", graph, "-f", "null", "-"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self._ffmpeg} could not compute VMAF: {done.stderr.strip().splitlines()[-1:]}")
        return [frame["metrics"]["vmaf"] for frame in json.loads((folder / "log").read_text())["frames"]]


@cache
def _find_ffmpeg(program: str | None) -> str:
    """``program``, or one of the installed FFmpegs; raises ImportError if none has the filter ``libvmaf``."""
    programs = [program] if program else ["ffmpeg", *_bundled_ffmpeg()]
    reasons = [_vmaf_problem(program) for program in programs]
    if None in reasons:
        return programs[reasons.index(None)]
    raise ImportError(
        f"VMAF needs an FFmpeg with libvmaf; {'; '.join(map(str, reasons))} "
        "(pip install 'rdvfi[vmaf]', or set RDVFI_FFMPEG)"
    )


def _vmaf_problem(program: str) -> str | None:
    """The reason why an FFmpeg cannot compute VMAF; None if it can."""
    try:
        done = subprocess.run([program, "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{program} cannot be run: {error.strerror}"
    return None if " libvmaf " in done.stdout else f"{program} lacks it"


def _bundled_ffmpeg() -> list[str]:
    try:
        return [importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()]
    except (ModuleNotFoundError, RuntimeError):  # RuntimeError: the package does not contain the program
        return []


def _images(frames: Tensor) -> list[np.ndarray]:
    return list(frames.permute(0, 2, 3, 1).contiguous().numpy())
