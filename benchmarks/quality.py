"""Quality of the shipped model and of baselines: ``quality-*.json``, the source of the README's table.

    python benchmarks/quality.py CLIPS benchmarks/results/0.2.0 --frames FOLDER [--only bikes] [--rife]

CLIPS is a folder of `tools/development_clips.py`. RIFE takes most of the time and does not change, so its frames
are saved in FOLDER and read in later runs. A row whose file is of this commit is not measured again, so an interrupted
run can be continued. Then `python research/results_page.py` fills the table.
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
from rdvfi.video.model_loading import DEFAULT_MODEL

BASELINES = ("dis", "blend", "dis+blur1", "blend+blur2")


@dataclass(frozen=True)
class Row:
    """A clip, the gaps at which it is measured, and options of `evaluate` that select a part of it."""

    name: str
    clip: str
    gaps: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


def film_row(start: int, gap: int = 2) -> Row:
    """80 frames of the film that was held out of training; pairs across cuts are skipped."""
    return Row(f"bbb-{start}", "bbb.mp4", (gap,), {"start": start, "pairs": 80 // gap})


ROWS = (
    Row("bikes", "bikes.mp4", (2,), {"pairs": 31}),
    Row("bikes", "bikes.mp4", (8, 9), {"pairs": 7}),
    Row("carphone", "carphone_pristine.mp4", (2, 8, 9)),
    film_row(4320),
    film_row(10080),
    film_row(4320, gap=8),
    film_row(10080, gap=8),
    Row("procedural", "procedural", (9,)),
    Row("procedural-limbs", "procedural-limbs", (9,), {"pairs": 12}),
)


def main() -> None:
    """Measure all rows without a current file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--frames", type=Path, required=True, help="folder of RIFE's frames")
    parser.add_argument("--only", action="append", help="a row; may be repeated")
    parser.add_argument("--rife", action="store_true", help="compute RIFE's frames only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for row in ROWS:
        clip = arguments.clips / row.clip if (arguments.clips / row.clip).exists() else row.clip
        for gap in row.gaps if not arguments.only or row.name in arguments.only else ():
            rife_folder = arguments.frames / f"{row.name}-gap{gap}"
            target = arguments.results / f"quality-{row.name}-gap{gap}.json"
            if not rife_folder.exists():
                save_rife_frames(clip, gap, row.options, rife_folder)
            if not arguments.rife and not is_current(target):
                methods = [DEFAULT_MODEL, FrameFolder("rife", rife_folder), *BASELINES]
                evaluate(clip, gap=gap, models=methods, **row.options).save(target)
            print(target.name, flush=True)


def is_current(file: Path) -> bool:
    """Whether a file of results exists and is of this commit."""
    commit = read_environment(torch.device("cpu")).commit
    return file.exists() and json.loads(file.read_text())["environment"]["commit"] == commit


def save_rife_frames(clip: str | Path, gap: int, options: dict[str, Any], folder: Path) -> None:
    """Compute RIFE's frames and save them in ``folder``, which appears when it is complete."""
    partial_folder = folder.with_name(folder.name + ".partial")
    evaluate(
        clip, gap=gap, models=["rife"], metrics=["psnr"], on_result=partial(_write_frames, partial_folder), **options
    )
    partial_folder.rename(folder)


def _write_frames(folder: Path, method: Method, result: WindowResult) -> None:
    subfolder = window_folder(folder, result.window)
    subfolder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(result.frames):
        write_png(
            subfolder / f"{number:03d}.png", frame.mul(255.0).round().byte().permute(1, 2, 0).contiguous().numpy()
        )


if __name__ == "__main__":
    main()
