"""Training samples of the film, and the pictures from which textures are cut.

Every sample is a random window with frames at the nine knots ``i / 8`` and at a few free times.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from rdvfi.data.datasets.build import CREDITS_START, HELD_OUT_FRAMES, PICTURES_FILE
from rdvfi.data.datasets.clip_folder import sample_window
from rdvfi.data.synthetic.textures import same_size
from rdvfi.media.image_files.images import list_images, read_image
from rdvfi.media.pixels import Picture, to_picture
from rdvfi.media.scene_cuts import find_cuts, step_differences

MIN_MOTION = 0.002
"""Smallest mean absolute difference of neighbouring frames, in a range of 1, of a window with motion."""
TEXTURE_SIZE = (352, 640)
"""Height and width of textures in a data folder without a film."""


class Film:
    """The film as one array of frames; windows avoid its scene cuts and held-out minutes.

    Raises:
        ValueError: If the file is damaged or incomplete.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.frames = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged, delete it and build again: {error}") from error
        if self.frames.ndim != 4 or len(self.frames) < CREDITS_START:
            raise ValueError(
                f"{path} has shape {self.frames.shape}; expected at least {CREDITS_START} RGB frames as "
                "rdvfi data build makes them"
            )
        self._differences = _load_differences(self.frames, path.with_suffix(".steps.npy"))
        self._cuts = np.zeros(len(self._differences), bool)
        self._cuts[np.array(find_cuts(self._differences), int) - 1] = True

    def window(self, rng: np.random.Generator, length: int) -> int:
        """Index of the first frame of a random training window with motion and without a scene cut."""
        while True:
            start = int(rng.integers(240, CREDITS_START - length))
            held_out = any(start < b and start + length > a for a, b in HELD_OUT_FRAMES)
            steps = slice(start, start + length - 1)
            if not held_out and not self._cuts[steps].any() and self._differences[steps].mean() > MIN_MOTION:
                return start


def _load_differences(frames: np.ndarray, cache: Path) -> Float[np.ndarray, " m"]:
    """Differences of neighbouring frames, cached in a file beside the film."""
    if not cache.exists():
        np.save(cache, step_differences(frames))
    return np.load(cache)


def load_pictures(data: Path, film: Film | None = None, *, frames: int = 150) -> list[Picture]:
    """8-bit RGB pictures for textures.

    Args:
        data: Folder of ``rdvfi data build``, or any folder of image files.
        film: Random frames of its training part are added; None adds none.
        frames: Number of these frames.

    Raises:
        ValueError: If the folder contains no pictures.
    """
    archives = [data / name for name in ("photographs.npz", PICTURES_FILE) if (data / name).exists()]
    pictures: list[Picture] = []
    for file in archives:
        with np.load(file) as archive:
            pictures += [archive[name] for name in archive.files]
    if not archives:
        pictures = [to_picture(read_image(path)) for path in list_images(data)]
    if film is not None:
        rng = np.random.default_rng(7)
        pictures += [np.array(film.frames[film.window(rng, 9)]) for _ in range(frames)]
    return pictures


def load_textures(data: Path) -> UInt8[np.ndarray, "n 3 h w"]:
    """The pictures of a folder, and frames of its film if it has one, cut into pieces of one size.

    Pieces have the size of the film, or `TEXTURE_SIZE`; see `rdvfi.data.synthetic.procedural_source.MovingTextures`.

    Raises:
        ValueError: If the folder contains no pictures, or none is as large as a piece.
    """
    film = Film(data / "film.npy") if (data / "film.npy").exists() else None
    size = TEXTURE_SIZE if film is None else film.frames.shape[1:3]
    return same_size(load_pictures(data, film), size)


def sample_film(rng: np.random.Generator, film: Film, size: tuple[int, int], *, free: int) -> dict[str, np.ndarray]:
    """A random sample of 8, 16 or 24 intervals of the film, so that frames exist at the knots."""
    length = 8 * int(rng.choice([1, 1, 2, 3])) + 1
    start = film.window(rng, length)
    return sample_window(rng, list(film.frames[start : start + length]), size, free=free)
