"""Build the training data from packages of public registries, with a manifest.

``rdvfi data build PACKAGES DATA`` reads, from the folder PACKAGES,

* ``moviepy-2.2.1.tar.gz`` (PyPI): Big Buck Bunny, CC BY 3.0, (c) Blender Foundation;
* ``lomiri-wallpapers-16.04_*.deb`` (Debian): ten photographs under CC BY 4.0 or CC0;

and writes to DATA ``film.npy`` (frames at half size, 8-bit RGB, memory-mapped),
``photographs.npz``, and ``manifest.json`` with source, version, licence, attribution, SHA-256 and
split of each item. Minutes 3:00-4:00 and 7:00-8:00 of the film are held out for evaluation: their
frames are never training material. Photographs under share-alike licences are left out.

``rdvfi data build --only procedural`` needs no package: it draws the pictures that procedural scenes are
cut from (`rdvfi.data.synthetic.dead_leaves`), about 30 MB, into ``pictures.npz``. With PACKAGES it takes the
photographs beside them, and no film.

A file appears under its name only when it is whole, and then it is in the manifest; a build that
was stopped goes on with what is missing, and what the manifest of an older version lacks is added.
The same packages give the same bytes.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rdvfi.data.datasets.packages import find_package, read_member, read_members, sha256
from rdvfi.data.manifest import read_manifest, write_manifest
from rdvfi.data.synthetic.dead_leaves import dead_leaves
from rdvfi.media.clip import VideoClip
from rdvfi.media.image_files.images import decode_image
from rdvfi.media.pixels import Picture, to_picture

FILM_MEMBER = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
FILM_NAME = "bbb.mp4"
HELD_OUT = ((4320, 5760), (10080, 11520))
"""Frame ranges of the film that are kept for evaluation (24 fps)."""
CREDITS = 12_000
"""Scrolling titles begin here: not used."""
LONGER_SIDE = 1600
"""Photographs are reduced to this many pixels."""
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


DRAWN_NAME = "pictures.npz"
DRAWN = 24
"""Pictures that are drawn where there are no packages."""
DRAWN_SIZE = (480, 800)


def build(
    packages: Path | None,
    data: Path,
    *,
    only_procedural: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the training data to ``data`` from the packages in ``packages``.

    Args:
        packages: Folder of the downloaded packages; None where only procedural scenes are wanted, of
            pictures that are drawn.
        data: Where the data goes; made if it is not there.
        only_procedural: Leave out the film, and what is made of it.
        report: Receives progress lines.

    Raises:
        FileNotFoundError: If a package, or something in one, is missing.
        ValueError: If a package is damaged, or the film does not have the frames it declares.
    """
    if packages is None and not only_procedural:
        raise ValueError("the film and the photographs are read from packages: give their folder")
    film = None if only_procedural or packages is None else find_package(packages, "moviepy-2.2.1.tar.gz")
    photographs = None if packages is None else find_package(packages, "lomiri-wall*16.04_*.deb")
    data.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(data)

    def make(
        name: str, source: Path, part: Callable[[Path, Path], None], describe: Callable[[Path, Path], dict[str, object]]
    ) -> None:
        digest = sha256(source)
        if (data / name).exists() and manifest.get(name, {}).get("sha256") == digest:
            report(f"{name} is there")
        else:
            report(f"making {name} from {source.name}")
            partial = data / f"{name}.partial"
            part(source, partial)
            os.replace(partial, data / name)
        manifest[name] = {"source": source.name, "sha256": digest, **describe(source, data / name)}
        write_manifest(data, manifest)

    if film is not None:
        make("film.npy", film, _film, _describe_film)
    if photographs is not None:
        make("photographs.npz", photographs, _photographs, _describe_photographs)
    if only_procedural:
        _draw(data, report)
        origin = "rdvfi.data.synthetic.dead_leaves"
        manifest[DRAWN_NAME] = {"source": origin, "licence": "CC0-1.0", "split": "training"}
        write_manifest(data, manifest)


def _draw(data: Path, report: Callable[[str], None]) -> None:
    """Pictures from random numbers, the same each time."""
    file = data / DRAWN_NAME
    if file.exists():
        report(f"{file.name} is there")
        return
    report(f"drawing {DRAWN} pictures")
    pictures = {f"{i:02d}": dead_leaves(np.random.default_rng([2001, i]), DRAWN_SIZE) for i in range(DRAWN)}
    partial = data / f"{file.name}.partial"
    with partial.open("wb") as stream:
        np.savez(stream, **pictures)  # pyright: ignore[reportArgumentType]
    os.replace(partial, file)


def _film(source: Path, partial: Path) -> None:
    _decode(io.BytesIO(read_member(source, FILM_MEMBER, FILM_NAME)), source, partial)


def _describe_film(source: Path, file: Path) -> dict[str, object]:
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
        "held_out": HELD_OUT,
        "split": "training; the ranges of frames in held_out are for evaluation",
    }


def _decode(film: io.BytesIO, source: Path, partial: Path) -> None:
    """Write every frame at half size as one 8-bit array."""
    import cv2

    try:
        clip, count = VideoClip(film), 0
        first = next(clip.frames())
        size = (first.shape[0] // 2, first.shape[1] // 2)
        shape = (len(clip), *size, 3)
        frames = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        for count, picture in enumerate(clip.frames(), start=1):
            frames[count - 1] = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
        frames.flush()
    except (ValueError, StopIteration) as error:
        raise ValueError(f"{FILM_NAME} in {source} cannot be decoded: {error}") from error
    if count < len(clip):
        raise ValueError(f"{FILM_NAME} in {source} declares {len(clip)} frames and has {count}")


def _photographs(source: Path, partial: Path) -> None:
    import cv2

    pictures: dict[str, Picture] = {}
    members = read_members(source, list(PHOTOGRAPHS))
    for name in PHOTOGRAPHS:  # in this order, which numbers the textures
        picture = to_picture(decode_image(members[name], f"{name} in {source}"))
        scale = LONGER_SIDE / max(picture.shape[:2])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        pictures[name] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    with partial.open("wb") as stream:
        np.savez(stream, **pictures)  # pyright: ignore[reportArgumentType]


def _describe_photographs(source: Path, file: Path) -> dict[str, object]:
    return {
        "version": source.name.split("_")[1],
        "title": "Photographs of lomiri-wallpapers-16.04",
        "attribution": "by the photographer in each file's name",
        "licences": PHOTOGRAPHS,
        "split": "training",
    }
