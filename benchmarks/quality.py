"""Quality of the model that ships beside others: ``quality-*.json``, from which the README's table is made.

    python benchmarks/quality.py CLIPS benchmarks/results/0.2.0 --frames FOLDER [--only bikes] [--rife]

CLIPS is a folder of `tools/development_clips.py`. Nearly all of the time is RIFE's, which never changes: its frames
are kept in FOLDER and read in later runs. A row whose file is of this commit is not measured again, so a stopped run
goes on. Then `python research/results_page.py` fills the table.
"""

import argparse
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rdvfi.evaluation import Method, evaluate
from rdvfi.evaluation.environment import read_environment
from rdvfi.evaluation.external_frames import FrameFolder, window_folder
from rdvfi.evaluation.metrics import WindowResult
from rdvfi.media.image_files.images import write_png
from rdvfi.video.ready import DEFAULT_MODEL

BASELINES = ("dis", "blend", "dis+blur1", "blend+blur2")


@dataclass(frozen=True)
class Row:
    """A clip, the gaps at which it is measured, and which part of it."""

    name: str
    clip: str
    gaps: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


def film(start: int, gap: int = 2) -> Row:
    """A piece of the film that was held out of training: 80 frames from one on, pairs with cuts between left out."""
    return Row(f"bbb-{start}", "bbb.mp4", (gap,), {"start": start, "pairs": 80 // gap})


ROWS = (
    Row("bikes", "bikes.mp4", (2,), {"pairs": 31}),
    Row("bikes", "bikes.mp4", (8, 9), {"pairs": 7}),
    Row("carphone", "carphone_pristine.mp4", (2, 8, 9)),
    film(4320),
    film(10080),
    film(4320, gap=8),
    film(10080, gap=8),
    Row("procedural", "procedural", (9,)),
    Row("procedural-limbs", "procedural-limbs", (9,), {"pairs": 12}),
)


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--frames", type=Path, required=True, help="where RIFE's frames are kept")
    parser.add_argument("--only", action="append", help="a row; may be repeated")
    parser.add_argument("--rife", action="store_true", help="make RIFE's frames only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for row in ROWS:
        clip = given.clips / row.clip if (given.clips / row.clip).exists() else row.clip
        for gap in row.gaps if not given.only or row.name in given.only else ():
            place = given.frames / f"{row.name}-gap{gap}"
            target = given.results / f"quality-{row.name}-gap{gap}.json"
            if not place.exists():
                keep_rife(clip, gap, row.options, place)
            if not given.rife and not measured(target):
                methods = [DEFAULT_MODEL, FrameFolder("rife", place), *BASELINES]
                evaluate(clip, gap=gap, models=methods, **row.options).save(target)
            print(target.name, flush=True)


def measured(file: Path) -> bool:
    """Whether a file of results is of this code and this machine."""
    here = read_environment(torch.device("cpu")).commit
    return file.exists() and json.loads(file.read_text())["environment"]["commit"] == here


def keep_rife(clip: str | Path, gap: int, options: dict[str, Any], place: Path) -> None:
    """Make RIFE's frames, and keep them under their name once all are there."""
    partly = place.with_name(place.name + ".partial")
    evaluate(clip, gap=gap, models=["rife"], metrics=["psnr"], on_result=partial(_write, partly), **options)
    partly.rename(place)


def _write(folder: Path, method: Method, made: WindowResult) -> None:
    place = window_folder(folder, made.window)
    place.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(made.frames):
        write_png(place / f"{number:03d}.png", frame.mul(255.0).round().byte().permute(1, 2, 0).contiguous().numpy())


if __name__ == "__main__":
    main()
