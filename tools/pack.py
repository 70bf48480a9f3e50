"""Pack training data into one small ZIP file of JPEG images, for transfer to another machine.

    python tools/pack.py DATA pack.zip --megabytes 24

DATA is a folder of ``rdvfi data build``. The file contains ``photographs/``: crops of the photographs
and stills of the film, for procedural scenes; ``clips/``: windows of 17 frames of the film, without
its held-out minutes and without cuts; and ``manifest.json`` with the sources. Windows
are in random order, so a smaller file is a random sample. Unpacked, it can be used directly:

    rdvfi train ... data.source=moving data.folder=pack/photographs
    rdvfi train ... data.source=clips  data.folder=pack/clips
"""

import argparse
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from rdvfi.data.manifest import check_manifest
from rdvfi.data.samples import Film, load_pictures
from rdvfi.data.synthetic.textures import same_size

WINDOW = 17
"""Frames of a window: two intervals per knot interval, so that there are true frames between knots."""
WINDOW_SIZE, PICTURE_SIZE = (192, 320), (352, 640)
JPEG_QUALITY = 75
PICTURE_SHARE = 0.4
"""Largest share of pictures in the file."""


def make_pack(data: Path, file: Path, *, limit: int, seed: int = 1) -> int:
    """Write a file of at most ``limit`` bytes and return its size.

    Raises:
        ValueError: If the manifest of the data is incomplete, or not even one window fits.
    """
    manifest = json.dumps(check_manifest(data), indent=2)
    film, rng = Film(data / "film.npy"), np.random.default_rng(seed)
    stills = [np.array(film.frames[film.window(rng, 2)]) for _ in range(80)]
    pictures = np.concatenate([same_size(x, PICTURE_SIZE) for x in (load_pictures(data), stills)])
    order = rng.permutation(pictures).transpose(0, 2, 3, 1)
    partial = file.with_name(file.name + ".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        archive.writestr("manifest.json", manifest)
        images = (_encode_frames(f"photographs/{i:05d}", [picture]) for i, picture in enumerate(order))
        _add_groups(archive, images, int(PICTURE_SHARE * limit))
        windows = (_encode_frames(f"clips/{i:05d}", frames) for i, frames in enumerate(_windows(film, rng)))
        if not _add_groups(archive, windows, limit):
            raise ValueError(f"no window of the film fits into {limit} bytes")
    os.replace(partial, file)
    return file.stat().st_size


def _add_groups(archive: zipfile.ZipFile, groups: Iterator[dict[str, bytes]], limit: int) -> int:
    """Add groups of files while the archive stays below ``limit`` bytes; return their number."""
    count = 0
    for group in groups:
        entries = sum(len(content) + 2 * len(name) + 150 for name, content in group.items())
        directory = 200 * len(archive.namelist()) + 100
        if archive.fp is None or archive.fp.tell() + directory + entries > limit:
            break
        for name, content in group.items():
            archive.writestr(name, content)
        count += 1
    return count


def _encode_frames(name: str, frames: list[np.ndarray] | np.ndarray) -> dict[str, bytes]:
    """The frames as JPEG files, by name."""
    files = {}
    for i, frame in enumerate(frames):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        encoded, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert encoded
        files[f"{name}/{i:02d}.jpg" if len(frames) > 1 else f"{name}.jpg"] = content.tobytes()
    return files


def _windows(film: Film, rng: np.random.Generator) -> Iterator[np.ndarray]:
    h, w = WINDOW_SIZE
    fh, fw = film.frames.shape[1:3]
    while True:
        start = film.window(rng, WINDOW)
        scale = rng.uniform(max(h / fh, w / fw), min(1.0, 2.0 * max(h / fh, w / fw)))
        sh, sw = max(h, round(fh * scale)), max(w, round(fw * scale))
        y, x = int(rng.integers(0, sh - h + 1)), int(rng.integers(0, sw - w + 1))
        resized = [cv2.resize(film.frames[start + i], (sw, sh), interpolation=cv2.INTER_AREA) for i in range(WINDOW)]
        yield np.stack(resized)[:, y : y + h, x : x + w]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder made by rdvfi data build")
    parser.add_argument("file", type=Path, help="the ZIP file")
    parser.add_argument("--megabytes", type=float, default=24.0, help="largest size of the file (10^6 bytes)")
    arguments = parser.parse_args()
    size = make_pack(arguments.data, arguments.file, limit=int(1e6 * arguments.megabytes))
    print(f"{arguments.file}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
