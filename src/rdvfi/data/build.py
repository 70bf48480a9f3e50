"""Build the training data from packages of public registries, with a manifest.

``python -m rdvfi.data.build PACKAGES DATA`` reads, from the folder PACKAGES,

* ``moviepy-2.2.1.tar.gz`` (PyPI): Big Buck Bunny, CC BY 3.0, (c) Blender Foundation;
* ``lomiri-wallpapers-16.04_*.deb`` (Debian): ten photographs under CC BY 4.0 or CC0;

and writes to DATA ``film.npy`` (frames at half size, 8-bit RGB, memory-mapped),
``photographs.npz``, and ``manifest.json`` with source, licence, SHA-256 and split of each item.
Minutes 3:00-4:00 and 7:00-8:00 of the film are held out for evaluation: their frames are never
training material. Photographs under share-alike licences are left out.
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np

FILM_MEMBER = (
    "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
)
HELD_OUT = ((4320, 5760), (10080, 11520))
"""Frame ranges of the film that are kept for evaluation (24 fps)."""
CREDITS = 12_000
"""Scrolling titles begin here: not used."""
PHOTOGRAPHS = {
    "aitzgorri_by_Aitzol_Berasategi.jpg": "CC-BY-4.0",
    "friends_by_Aitzol_Berasategi.jpg": "CC-BY-4.0",
    "life_by_Aitzol_Berasategi.jpg": "CC-BY-4.0",
    "picosdeeuropa_by_Aitzol_Berasategi.jpg": "CC-BY-4.0",
    "Picture_0B_by_freespace.jpg": "CC-BY-4.0",
    "Picture_1A_by_freespace.jpg": "CC-BY-4.0",
    "seeding_by_Clements_Engelhardt.jpg": "CC0-1.0",
    "sunset_by_Aitzol_Berasategi.jpg": "CC-BY-4.0",
    "umang_by_Abhishek_Mudgal.jpg": "CC-BY-4.0",
    "Wine_by_Jakkub_Mede.jpg": "CC-BY-4.0",
}


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} in {folder}; see docs/guides/train.md for packages")
    return found[0]


def _film(source: Path, work: Path) -> Path:
    with tarfile.open(source) as archive:
        member = archive.extractfile(FILM_MEMBER)
        if member is None:
            raise FileNotFoundError(f"{source} has no {FILM_MEMBER}")
        with zipfile.ZipFile(io.BytesIO(member.read())) as inner:
            name = next(n for n in inner.namelist() if n.endswith("bbb.mp4"))
            return Path(inner.extract(name, work))


def _decode(film: Path, destination: Path) -> int:
    """Write every frame at half size as one 8-bit array; returns the number of frames."""
    import av
    import cv2

    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        size = (stream.height // 2, stream.width // 2)
        shape = (stream.frames, *size, 3)
        frames = np.lib.format.open_memmap(destination, mode="w+", dtype=np.uint8, shape=shape)
        count = 0
        for frame in container.decode(stream):
            picture = frame.to_ndarray(format="rgb24")
            small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
            frames[count] = small
            count += 1
        frames.flush()
    return count


def _photographs(source: Path, work: Path, destination: Path) -> None:
    import cv2

    subprocess.run(["dpkg", "-x", str(source), str(work)], check=True)
    pictures: dict[str, np.ndarray] = {}
    for name in PHOTOGRAPHS:
        stored = cv2.imread(str(next(work.rglob(name))))
        if stored is None:
            raise ValueError(f"{name} in {source} is not a readable picture")
        picture = cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)
        scale = 1600 / max(picture.shape[:2])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        pictures[name] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    np.savez(destination, **pictures)  # pyright: ignore[reportArgumentType]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build(packages: Path, data: Path) -> None:
    """Write the training data to ``data`` from the packages in ``packages``."""
    data.mkdir(parents=True, exist_ok=True)
    film, photos = (
        _only(packages, "moviepy-2.2.1.tar.gz"),
        _only(packages, "lomiri-wall*16.04_*.deb"),
    )
    with tempfile.TemporaryDirectory(dir=data) as folder:
        work = Path(folder)
        count = _decode(_film(film, work), data / "film.npy")
        _photographs(photos, work, data / "photographs.npz")
    manifest = {
        "film.npy": {
            "source": film.name,
            "sha256": _digest(film),
            "title": "Big Buck Bunny, (c) copyright 2008, Blender Foundation",
            "licence": "CC-BY-3.0",
            "frames": count,
            "held_out": HELD_OUT,
        },
        "photographs.npz": {
            "source": photos.name,
            "sha256": _digest(photos),
            "licences": PHOTOGRAPHS,
        },
    }
    (data / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m rdvfi.data.build PACKAGES DATA")
    build(Path(sys.argv[1]), Path(sys.argv[2]))
