"""Interpolate all videos of a folder in two processes with `interpolate_many`.

python examples/many_files.py FOLDER OUT
"""

import sys
from pathlib import Path

import rdvfi


def main(folder: Path, output_folder: Path) -> None:
    """Double the frame rate of all videos of a folder; existing outputs are skipped."""
    output_folder.mkdir(exist_ok=True)
    jobs = [(path, output_folder / path.name) for path in sorted(folder.glob("*.mp4"))]
    results = rdvfi.interpolate_many(
        jobs, multiplier=2, executor="devices", devices=["cpu", "cpu"], threads=1, resume=True
    )
    for result in results:
        print(result.destination, result.error or "done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
