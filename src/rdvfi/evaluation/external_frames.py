"""Frames of external programs, read from files.

A folder of frames has the layout ``FOLDER/CLIP/FIRST/``: the frames between the pair whose first input is frame
``FIRST`` of the clip, as images in natural order or as one video; ``CLIP`` is omitted where there is one clip.
`export_inputs` writes the inputs of all pairs in that layout, as ``first.png`` and ``last.png``, for programs that
run elsewhere; `read_frames` ignores these two files.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rdvfi.evaluation.evaluation_window import EvaluationWindow, as_images
from rdvfi.evaluation.method import Method
from rdvfi.media.clip import VIDEO_SUFFIXES, open_clip
from rdvfi.media.image_files.images import is_image, list_images, read_image, write_png
from rdvfi.media.pixels import Picture, to_picture
from rdvfi.types import Image, Times, Video

_INPUT_STEMS = ("first", "last")


class FrameFolder(Method):
    """Reads existing frames from ``folder/CLIP/FIRST/``, or ``folder/FIRST/`` for one clip."""

    needs_warm_up = is_timed = False

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._window: EvaluationWindow | None = None

    def prepare(self, window: EvaluationWindow) -> None:
        self._window = window

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """The frames of the pair that `prepare` was called with.

        Raises:
            FileNotFoundError: If the folder of the pair does not exist.
            ValueError: If it has another number of frames, or frames of another size.
        """
        if self._window is None:
            raise ValueError(f"{self.name} reads frames of exported pairs only")
        folder = window_folder(self.folder, self._window)
        if not folder.is_dir():
            raise FileNotFoundError(f"{self.name} has no frames of this pair: there is no folder {folder}")
        h, w = img0.shape[-2:]
        frames = select_interpolated(read_frames(folder, self.name), len(times), (h, w, 3), self.name)
        return as_images(np.stack(frames))[None].to(img0.device)


def window_folder(folder: Path, window: EvaluationWindow) -> Path:
    """The subfolder for the frames of a window in a folder of frames."""
    return folder / window.clip / f"{window.first:06d}"


def export_inputs(windows: Iterable[EvaluationWindow], folder: Path) -> int:
    """Write both inputs of every window as ``first.png`` and ``last.png``; return the number of windows."""
    count = 0
    for window in windows:
        subfolder = window_folder(folder, window)
        subfolder.mkdir(parents=True, exist_ok=True)
        write_png(subfolder / "first.png", window.frames[0])
        write_png(subfolder / "last.png", window.frames[-1])
        count += 1
    return count


def read_frames(folder: Path, name: str) -> list[Picture]:
    """All frames that the program ``name`` wrote: the images of a folder, or the frames of the one video in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    image_folders = {path.parent for path in files if is_image(path) and path.stem not in _INPUT_STEMS}
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if len(image_folders) == 1:
        paths = [path for path in list_images(image_folders.pop()) if path.stem not in _INPUT_STEMS]
        return [to_picture(read_image(path)) for path in paths]
    if not image_folders and len(videos) == 1:
        return list(open_clip(videos[0]).frames())
    found = f"{len(videos)} videos and {len(image_folders)} folders of images" if videos or image_folders else "nothing"
    raise ValueError(f"{name} wrote {found}; expected images in one folder, or one video")


def select_interpolated(frames: list[Picture], count: int, shape: tuple[int, ...], name: str) -> list[Picture]:
    """The ``count`` frames between the inputs, which may be among ``frames``; checks number and shape."""
    if len(frames) not in (count, count + 2):
        raise ValueError(f"{name} wrote {len(frames)} frames; expected {count}, or {count + 2} with both inputs")
    interpolated = frames if len(frames) == count else frames[1:-1]
    for frame in interpolated:
        if frame.shape != shape:
            got, expected = (f"{s[1]}x{s[0]}" for s in (frame.shape, shape))
            raise ValueError(f"{name} wrote frames of {got}; expected {expected}")
    return interpolated
