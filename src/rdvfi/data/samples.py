"""Training samples from films, and the images that textures are cut from.

Every sample is a window of frames at the nine knots ``i / 8`` and at a few free times, drawn by a
`numpy` generator.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from rdvfi.data.datasets.build import CREDITS, DRAWN_NAME, HELD_OUT
from rdvfi.data.datasets.clip_folder import window_sample
from rdvfi.data.synthetic.textures import same_size
from rdvfi.media.image_files.images import list_images, read_image
from rdvfi.media.pixels import Picture, to_picture
from rdvfi.media.scene_cuts import find_cuts, step_differences

FROZEN = 0.002
"""Mean difference of neighbouring frames, of a range of 1, up to which a window shows no motion."""
TEXTURE_SIZE = (352, 640)
"""Height and width of the pieces of pictures that come without a film."""


class Film:
    """A film as one array of frames, with its cuts and the held-out minutes left out.

    Raises:
        ValueError: If the file is not the whole film.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.frames = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged, delete it and build again: {error}") from error
        if self.frames.ndim != 4 or len(self.frames) < CREDITS:
            raise ValueError(
                f"{path} has shape {self.frames.shape}; expected at least {CREDITS} RGB frames as "
                "rdvfi data build makes them"
            )
        self._steps = _steps(self.frames, path.with_suffix(".steps.npy"))
        self._cuts = np.zeros(len(self._steps), bool)
        self._cuts[np.array(find_cuts(self._steps), int) - 1] = True

    def window(self, rng: np.random.Generator, length: int) -> int:
        """First frame of a random window without a cut, and not frozen, for training."""
        while True:
            start = int(rng.integers(240, CREDITS - length))
            held = any(start < b and start + length > a for a, b in HELD_OUT)
            steps = slice(start, start + length - 1)
            if not held and not self._cuts[steps].any() and self._steps[steps].mean() > FROZEN:
                return start


def _steps(frames: np.ndarray, cache: Path) -> Float[np.ndarray, " m"]:
    """Differences of neighbouring frames, kept in a file beside the film."""
    if not cache.exists():
        np.save(cache, step_differences(frames))
    return np.load(cache)


def load_pictures(data: Path, film: Film | None = None, *, frames: int = 150) -> list[Picture]:
    """Pictures for textures, 8-bit RGB.

    Args:
        data: Folder made by ``rdvfi data build``, or any folder of image files.
        film: Stills of its training part are added.
        frames: How many stills.

    Raises:
        ValueError: If the folder holds no pictures.
    """
    archives = [data / name for name in ("photographs.npz", DRAWN_NAME) if (data / name).exists()]
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


def load_textures(data: Path, *, frames: int = 150) -> UInt8[np.ndarray, "n 3 h w"]:
    """The pictures of a folder, and stills of its film if it has one, in pieces of one size.

    Pieces have the film's size, or `TEXTURE_SIZE`; see `rdvfi.data.synthetic.procedural_source.MovingTextures`.

    Raises:
        ValueError: If the folder holds no pictures, or none is as large as a piece.
    """
    film = Film(data / "film.npy") if (data / "film.npy").exists() else None
    size = TEXTURE_SIZE if film is None else film.frames.shape[1:3]
    return same_size(load_pictures(data, film, frames=frames), size)


def film_sample(rng: np.random.Generator, film: Film, size: tuple[int, int], *, free: int) -> dict[str, np.ndarray]:
    """A window of the film that spans 8, 16 or 24 frames, so that knots are real frames."""
    length = 8 * int(rng.choice([1, 1, 2, 3])) + 1
    start = film.window(rng, length)
    return window_sample(rng, list(film.frames[start : start + length]), size, free=free)
