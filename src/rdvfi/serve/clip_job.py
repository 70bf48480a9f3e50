"""Interpolation of an uploaded clip, with progress and cancellation."""

import functools
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from rdvfi.interpolator import Interpolator
from rdvfi.serve.limits import Limits, errors_without_folders
from rdvfi.video.engine import Progress
from rdvfi.video.job import interpolate_video
from rdvfi.video.timing import Multiply, Resample, Retiming, exact_rate

_BROWSER_CONTAINERS = {".mp4", ".m4v", ".webm"}
"""Containers that browsers play."""


@dataclass(frozen=True)
class ClipResult:
    """A clip before and after interpolation."""

    before: Path
    """The clip, in a container that browsers play."""
    after: Path
    summary: str
    """Frames, size, duration and notes, on one line."""


def choose_rate(multiplier: float, fps: str) -> Retiming:
    """The target frame rate if there is one, else the multiplier; raises ValueError for an invalid rate."""
    text = fps.strip()
    return Resample(exact_rate(text)) if text else Multiply(int(multiplier))


def interpolate_clip(
    clip: Path,
    retiming: Retiming,
    model: Interpolator,
    limits: Limits,
    folder: Path,
    cancelled: Event,
    report_progress: Progress,
) -> ClipResult:
    """Interpolate a clip.

    Args:
        clip: A video file.
        retiming: The times of the output frames.
        model: The model.
        limits: Limits of the page.
        folder: Parent of the output folder, whose name is unguessable.
        cancelled: Stops the work when set.
        report_progress: Called after each pair.

    Raises:
        ValueError: If the clip cannot be read or exceeds the limits.
        Stopped: If ``cancelled`` was set; no output is kept.
    """
    info = limits.check_clip(clip, retiming)
    output = new_private_folder(folder)

    def progress(done: int, total: int) -> bool:
        report_progress(done, total)
        return not cancelled.is_set()

    make = functools.partial(interpolate_video, clip, model=model, codec="h264", pix_fmt="yuv420p", progress=progress)
    multiplier = retiming.multiplier if isinstance(retiming, Multiply) else None
    begun = time.perf_counter()
    with errors_without_folders(clip):
        before, after = clip, output / f"{clip.stem}-smooth.mp4"
        report = make(after, multiplier=multiplier, target_fps=retiming.fps if isinstance(retiming, Resample) else None)
        if clip.suffix.lower() not in _BROWSER_CONTAINERS:
            before = output / f"{clip.stem}-before.mp4"
            make(before, multiplier=1)
    seconds = time.perf_counter() - begun
    summary = (
        f"{report.frames_written} frames of {info.width}x{info.height} from {report.frames_read} in {seconds:.1f} s, "
        f"mean confidence {report.confidence:.2f}"
    )
    return ClipResult(before, after, "; ".join([summary, *report.notes]))


def new_private_folder(folder: Path) -> Path:
    """A new folder with an unguessable name: whoever knows a file's address can read it."""
    private = folder / secrets.token_urlsafe(24)
    private.mkdir()
    return private
