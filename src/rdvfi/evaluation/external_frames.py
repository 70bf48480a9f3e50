"""Frames of external programs, read from files.

A folder of frames has the layout ``FOLDER/CLIP/FIRST/``: the frames between the pair whose first input is frame
``FIRST`` of the clip, as images in natural order or as one video; ``CLIP`` is left out where there is one clip.
`export_inputs` writes the inputs of all pairs in that layout, as ``first.png`` and ``last.png``, for programs that
run elsewhere; they may stay there.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rdvfi.evaluation.baselines import Method
from rdvfi.evaluation.clip_evaluation import EvaluationWindow, as_images
from rdvfi.media.clip import VIDEO_SUFFIXES, open_clip
from rdvfi.media.image_files.images import is_image, list_images, read_image, write_png
from rdvfi.media.pixels import Picture, to_picture
from rdvfi.types import Image, Times, Video

_INPUTS = ("first", "last")


class FramesFolder(Method):
    """Frames that lie ready: ``folder/CLIP/FIRST/``, or ``folder/FIRST/`` for one clip."""

    warm_up = timed = False

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._window: EvaluationWindow | None = None

    def begin(self, window: EvaluationWindow) -> None:
        self._window = window

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """The frames of the pair that `begin` named.

        Raises:
            FileNotFoundError: If there are none.
            ValueError: If there are too few, or they are of another size.
        """
        if self._window is None:
            raise ValueError(f"{self.name} reads frames of known pairs; it cannot make those of others")
        place = window_folder(self.folder, self._window)
        if not place.is_dir():
            raise FileNotFoundError(f"{self.name} has no frames of this pair: there is no folder {place}")
        h, w = img0.shape[-2:]
        frames = between_inputs(read_frames(place, self.name), len(times), (h, w, 3), self.name)
        return as_images(np.stack(frames))[None].to(img0.device)


def window_folder(folder: Path, window: EvaluationWindow) -> Path:
    """Where the frames of a window lie in a folder of frames."""
    return folder / window.clip / f"{window.first:06d}"


def export_inputs(windows: Iterable[EvaluationWindow], folder: Path) -> int:
    """Write both inputs of every window as ``first.png`` and ``last.png``; gives the number of windows."""
    count = 0
    for window in windows:
        place = window_folder(folder, window)
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / "first.png", window.frames[0])
        write_png(place / "last.png", window.frames[-1])
        count += 1
    return count


def read_frames(folder: Path, name: str) -> list[Picture]:
    """All pictures that a program wrote: the images of a folder, or the frames of the one video in it.

    Raises:
        ValueError: If there is neither.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    places = {path.parent for path in files if is_image(path) and path.stem not in _INPUTS}
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if len(places) == 1:
        return _pictures(places.pop())
    if not places and len(videos) == 1:
        return list(open_clip(videos[0]).frames())
    found = f"{len(videos)} videos and {len(places)} folders of images" if videos or places else "nothing"
    raise ValueError(f"{name} wrote {found}; expected images in one folder, or one video")


def _pictures(folder: Path) -> list[Picture]:
    paths = (path for path in list_images(folder) if path.stem not in _INPUTS)
    return [to_picture(read_image(path)) for path in paths]


def between_inputs(frames: list[Picture], count: int, shape: tuple[int, ...], name: str) -> list[Picture]:
    """The frames between, without the inputs, if those were written too."""
    if len(frames) not in (count, count + 2):
        raise ValueError(f"{name} wrote {len(frames)} frames; expected {count}, or {count + 2} with both inputs")
    inner = frames if len(frames) == count else frames[1:-1]
    for frame in inner:
        if frame.shape != shape:
            got, expected = (f"{s[1]}x{s[0]}" for s in (frame.shape, shape))
            raise ValueError(f"{name} wrote frames of {got}; expected {expected}")
    return inner
