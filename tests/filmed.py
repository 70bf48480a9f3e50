"""A small data folder in the layout of the build: a camera drives over a photograph."""

from pathlib import Path

import numpy as np
from skimage import data

from rdvfi.data.manifest import REQUIRED_FIELDS, Manifest, write_manifest

FILMED = range(400, 520)
"""Frames of the small film that hold pictures; the rest is never read."""
SPEED = 2
"""Pixels by which the photograph moves to the left from one frame to the next."""


def write_data(place: Path) -> Path:
    """Film with its cuts, photographs and manifest in ``place``, which is returned."""
    h, w = 170, 272
    film = np.lib.format.open_memmap(place / "film.npy", "w+", np.uint8, (12_010, h, w, 3))
    wall = data.astronaut()
    for i in FILMED:
        x = SPEED * (i - FILMED.start)
        film[i] = wall[100 : 100 + h, x : x + w]
    film.flush()
    steps = np.zeros(12_009, np.float32)
    steps[FILMED.start : FILMED.stop - 1] = 0.01
    np.save(place / "film.steps.npy", steps)
    facts: Manifest = {name: {fact: "known" for fact in REQUIRED_FIELDS[name]} for name in REQUIRED_FIELDS}
    write_manifest(place, facts)
    np.savez(place / "photographs.npz", coffee=data.coffee(), cat=data.chelsea())
    return place
