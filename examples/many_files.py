"""Two short clips, interpolated on two processes of this host: `interpolate_many`.

python examples/many_files.py FOLDER OUT
"""

import sys
from pathlib import Path

import rdvfi


def main(folder: Path, into: Path) -> None:
    """All videos of a folder, twice as smooth; what is there already is passed over."""
    into.mkdir(exist_ok=True)
    jobs = [(path, into / path.name) for path in sorted(folder.glob("*.mp4"))]
    results = rdvfi.interpolate_many(
        jobs, multiplier=2, executor="devices", devices=["cpu", "cpu"], threads=1, resume=True
    )
    for result in results:
        print(result.destination, result.error or "done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
