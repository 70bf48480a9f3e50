"""A small data folder in the layout of `rdvfi data build`, whose film is a camera pan over a photograph."""

from pathlib import Path

import numpy as np
from skimage import data

from rdvfi.data.manifest import REQUIRED_FIELDS, Manifest, write_manifest

FILM_FRAMES = range(400, 520)
"""Frames of the film that contain pictures; the others are never read."""
CAMERA_SPEED = 2
"""Motion of the photograph to the left in pixels per frame."""


def write_data_folder(folder: Path) -> Path:
    """Write film, scene cuts, photographs and manifest to ``folder``, which is returned."""
    h, w = 170, 272
    film = np.lib.format.open_memmap(folder / "film.npy", "w+", np.uint8, (12_010, h, w, 3))
    photograph = data.astronaut()
    for i in FILM_FRAMES:
        x = CAMERA_SPEED * (i - FILM_FRAMES.start)
        film[i] = photograph[100 : 100 + h, x : x + w]
    film.flush()
    steps = np.zeros(12_009, np.float32)
    steps[FILM_FRAMES.start : FILM_FRAMES.stop - 1] = 0.01
    np.save(folder / "film.steps.npy", steps)
    manifest: Manifest = {name: {field: "known" for field in REQUIRED_FIELDS[name]} for name in REQUIRED_FIELDS}
    write_manifest(folder, manifest)
    np.savez(folder / "photographs.npz", coffee=data.coffee(), cat=data.chelsea())
    return folder
