"""Interpolation of an uploaded clip, with progress and cancellation."""

import functools
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from rdvfi.interpolator import Interpolator
from rdvfi.serve.limits import Limits, own_names
from rdvfi.video.engine import Progress
from rdvfi.video.job import interpolate_video
from rdvfi.video.timing import Multiply, Resample, Retiming, exact_rate

_PLAYABLE = {".mp4", ".m4v", ".webm"}
"""Containers that browsers play."""


@dataclass(frozen=True)
class Finished:
    """A clip and its smoother version."""

    before: Path
    """The clip, in a form that browsers play."""
    after: Path
    line: str
    """What was done, on one line."""


def choose_rate(multiplier: float, fps: str) -> Retiming:
    """The target rate if one is written, else the multiplier; raises ValueError if the rate is none."""
    text = fps.strip()
    return Resample(exact_rate(text)) if text else Multiply(int(multiplier))


def run(
    clip: Path, retiming: Retiming, model: Interpolator, limits: Limits, folder: Path, stopped: Event, tell: Progress
) -> Finished:
    """Make a clip smoother.

    Args:
        clip: A video file.
        retiming: Where frames are wanted.
        model: Makes them.
        limits: What is refused.
        folder: Where results go, each into a folder whose name nobody can guess.
        stopped: Set to stop.
        tell: Is told of every pair that is done.

    Raises:
        ValueError: If the clip cannot be read, or is beyond the limits.
        Stopped: If ``stopped`` was set; nothing is left then.
    """
    info = limits.check_clip(clip, retiming)
    place = own_folder(folder)

    def progress(done: int, total: int) -> bool:
        tell(done, total)
        return not stopped.is_set()

    make = functools.partial(interpolate_video, clip, model=model, codec="h264", pix_fmt="yuv420p", progress=progress)
    multiplier = retiming.multiplier if isinstance(retiming, Multiply) else None
    begun = time.perf_counter()
    with own_names(clip):
        before, after = clip, place / f"{clip.stem}-smooth.mp4"
        report = make(after, multiplier=multiplier, target_fps=retiming.fps if isinstance(retiming, Resample) else None)
        if clip.suffix.lower() not in _PLAYABLE:
            before = place / f"{clip.stem}-before.mp4"
            make(before, multiplier=1)
    seconds = time.perf_counter() - begun
    line = (
        f"{report.frames_written} frames of {info.width}x{info.height} from {report.frames_read} in {seconds:.1f} s, "
        f"mean confidence {report.confidence:.2f}"
    )
    return Finished(before, after, "; ".join([line, *report.notes]))


def own_folder(folder: Path) -> Path:
    """A new folder whose name nobody can guess: whoever knows the address of a file may read it."""
    place = folder / secrets.token_urlsafe(24)
    place.mkdir()
    return place
