"""Build the training data from packages of public registries, with a manifest.

``rdvfi data build PACKAGES DATA`` reads, from the folder PACKAGES,

* ``moviepy-2.2.1.tar.gz`` (PyPI): Big Buck Bunny, CC BY 3.0, (c) Blender Foundation;
* ``lomiri-wallpapers-16.04_*.deb`` (Debian): ten photographs under CC BY 4.0 or CC0;

and writes to DATA ``film.npy`` (frames at half size, 8-bit RGB, memory-mapped),
``photographs.npz``, and ``manifest.json`` with source, version, licence, attribution, SHA-256 and
split of each item. Minutes 3:00-4:00 and 7:00-8:00 of the film are held out for evaluation and never used
for training. Photographs under share-alike licences are left out.

``rdvfi data build --only procedural`` needs no package: it generates the pictures from which the textures of
procedural scenes are cut (`rdvfi.data.synthetic.dead_leaves`), about 30 MB, into ``pictures.npz``. With
PACKAGES it also writes the photographs, but not the film.

A file appears under its name, and in the manifest, only when it is complete. An interrupted build continues with
the missing files, and fields that the manifest of an older version lacks are added. The same packages give the
same bytes.
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdvfi.data.datasets.packages import find_package, read_member, read_members, sha256
from rdvfi.data.manifest import Manifest, read_manifest, write_manifest
from rdvfi.data.synthetic.dead_leaves import dead_leaves
from rdvfi.media.clip import VideoClip
from rdvfi.media.image_files.images import decode_image
from rdvfi.media.pixels import Picture, to_picture

FILM_MEMBER = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
FILM_NAME = "bbb.mp4"
HELD_OUT_FRAMES = ((4320, 5760), (10080, 11520))
"""Frame ranges of the film that are reserved for evaluation (24 fps)."""
CREDITS_START = 12_000
"""First frame of the scrolling credits, which are not used."""
PHOTOGRAPH_SIDE = 1600
"""Longer side of the stored photographs in pixels."""
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


PICTURES_FILE = "pictures.npz"
PICTURE_COUNT = 24
PICTURE_SIZE = (480, 800)


def build_training_data(
    packages: Path | None,
    data: Path,
    *,
    only_procedural: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the training data to ``data`` from the packages in ``packages``.

    Args:
        packages: Folder of the downloaded packages; may be None with ``only_procedural``.
        data: Output folder; created if it does not exist.
        only_procedural: Generate pictures for procedural scenes and leave out the film.
        report: Receives progress lines.

    Raises:
        FileNotFoundError: If a package, or a file in one, is missing.
        ValueError: If a package is damaged, or the film does not have the number of frames that it declares.
    """
    if packages is None and not only_procedural:
        raise ValueError("the film and the photographs are read from packages: give their folder")
    film = None if only_procedural or packages is None else find_package(packages, "moviepy-2.2.1.tar.gz")
    photographs = None if packages is None else find_package(packages, "lomiri-wall*16.04_*.deb")
    data.mkdir(parents=True, exist_ok=True)
    builder = _Builder(data, read_manifest(data), report)
    if film is not None:
        builder.add_from_package("film.npy", film, _write_film, _describe_film)
    if photographs is not None:
        builder.add_from_package("photographs.npz", photographs, _write_photographs, _describe_photographs)
    if only_procedural:
        builder.add_generated_pictures()


@dataclass(frozen=True)
class _Builder:
    """A data folder that is being built, and its manifest."""

    data: Path
    manifest: Manifest
    report: Callable[[str], None]

    def add_from_package(
        self,
        name: str,
        package: Path,
        write: Callable[[Path, Path], None],
        describe: Callable[[Path, Path], dict[str, object]],
    ) -> None:
        """Write a file unless it exists, and record it in the manifest with the fields of ``describe``."""
        digest = sha256(package)
        if (self.data / name).exists() and self.manifest.get(name, {}).get("sha256") == digest:
            self.report(f"{name} is up to date")
        else:
            self.report(f"making {name} from {package.name}")
            partial = self.data / f"{name}.partial"
            write(package, partial)
            os.replace(partial, self.data / name)
        self._record(name, {"source": package.name, "sha256": digest, **describe(package, self.data / name)})

    def add_generated_pictures(self) -> None:
        """Generate the pictures of procedural scenes, the same each time, unless they exist."""
        file = self.data / PICTURES_FILE
        if file.exists():
            self.report(f"{file.name} is up to date")
        else:
            self.report(f"generating {PICTURE_COUNT} pictures")
            rngs = [np.random.default_rng([2001, i]) for i in range(PICTURE_COUNT)]
            pictures = {f"{i:02d}": dead_leaves(rng, PICTURE_SIZE) for i, rng in enumerate(rngs)}
            partial = self.data / f"{file.name}.partial"
            _write_archive(partial, pictures)
            os.replace(partial, file)
        origin = "rdvfi.data.synthetic.dead_leaves"
        self._record(PICTURES_FILE, {"source": origin, "licence": "CC0-1.0", "split": "training"})

    def _record(self, name: str, entry: dict[str, object]) -> None:
        self.manifest[name] = entry
        write_manifest(self.data, self.manifest)


def _write_archive(path: Path, pictures: dict[str, Picture]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **pictures)  # pyright: ignore[reportArgumentType]


def _write_film(package: Path, path: Path) -> None:
    """Write every frame of the film at half size as one 8-bit array."""
    import cv2

    content = io.BytesIO(read_member(package, FILM_MEMBER, FILM_NAME))
    try:
        clip, count = VideoClip(content), 0
        first = next(clip.frames())
        size = (first.shape[0] // 2, first.shape[1] // 2)
        frames = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(clip), *size, 3))
        for count, picture in enumerate(clip.frames(), start=1):
            frames[count - 1] = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
        frames.flush()
    except (ValueError, StopIteration) as error:
        raise ValueError(f"{FILM_NAME} in {package} cannot be decoded: {error}") from error
    if count < len(clip):
        raise ValueError(f"{FILM_NAME} in {package} declares {len(clip)} frames and has {count}")


def _describe_film(package: Path, file: Path) -> dict[str, object]:
    try:
        count = len(np.load(file, mmap_mode="r"))
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is damaged, delete it and build again: {error}") from error
    return {
        "version": "2.2.1",
        "title": "Big Buck Bunny",
        "attribution": "(c) copyright 2008, Blender Foundation, www.bigbuckbunny.org",
        "licence": "CC-BY-3.0",
        "frames": count,
        "held_out": HELD_OUT_FRAMES,
        "split": "training; the ranges of frames in held_out are for evaluation",
    }


def _write_photographs(package: Path, path: Path) -> None:
    import cv2

    pictures: dict[str, Picture] = {}
    members = read_members(package, list(PHOTOGRAPHS))
    for name in PHOTOGRAPHS:  # the order determines the indices of the textures
        picture = to_picture(decode_image(members[name], f"{name} in {package}"))
        scale = PHOTOGRAPH_SIDE / max(picture.shape[:2])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        pictures[name] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _write_archive(path, pictures)


def _describe_photographs(package: Path, file: Path) -> dict[str, object]:
    return {
        "version": package.name.split("_")[1],
        "title": "Photographs of lomiri-wallpapers-16.04",
        "attribution": "by the photographer in each file's name",
        "licences": PHOTOGRAPHS,
        "split": "training",
    }
