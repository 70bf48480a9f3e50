"""The paper's claims at small scale: trainings and measurements that test them.

    python research/claims.py benchmarks/results/0.2.0/claims.json

The checkpoints of the trainings are in `research/claims_checkpoints`; with ``--train FOLDER`` they are
trained again there. Each section is written as soon as it is measured, and sections
of this commit are not measured again, so an interrupted run can be continued. All computations use one thread.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

import claims_trained as trained
import claims_untrained as untrained
from claims_runs import DIRECT_GENERATION, LOSS_SEEDS, LOSSES, MOTION, MOTION_SEEDS, ONE_STEP, SEEDS, all_runs
from claims_training import BATCH, LEARNING_RATE, SIZE, WIDTH, Folders, Run, train
from rdvfi.evaluation.environment import read_environment

CHECKPOINTS = Path(__file__).parent / "claims_checkpoints"
SCENE_SEEDS = range(3)
LABORATORY = {"kinds": {group: list(names) for group, names in untrained.GROUPS.items()}}


def budget(run: Run, seeds: tuple[int, ...]) -> dict:
    """The settings of a training and its evaluation."""
    return {
        "steps": run.steps,
        "batch": BATCH,
        "rate": LEARNING_RATE,
        "width": WIDTH,
        "scenes": run.scenes,
        "frames": f"{SIZE[1]}x{SIZE[0]}",
        "seeds": list(seeds),
        "test scenes": trained.TEST_SCENES,
    }


def sections(folders: Folders) -> dict[str, tuple[dict, Callable[[], untrained.Table]]]:
    """The budget and the measuring function of each section, by name; those without training first."""
    standard = LABORATORY | {"frames": "224x128", "scene seeds": list(SCENE_SEEDS)}
    single_seed = LABORATORY | {"frames": "224x128", "scene seeds": [0]}
    large = LABORATORY | {"frames": "1024x576", "scene seeds": [0], "scenes": 4}
    return {
        "knots and bases": (standard, partial(untrained.knots_and_bases, SCENE_SEEDS)),
        "classical fusion": (standard, partial(untrained.classical_fusion, SCENE_SEEDS)),
        "shipped model": (single_seed, partial(untrained.shipped_model, (128, 224), range(1))),
        "decoded or warped": (single_seed, partial(untrained.decoded_or_warped, (128, 224), range(1))),
        "motion size": (large, partial(untrained.motion_size, range(1))),
        "learned motion": (budget(MOTION[0], MOTION_SEEDS), partial(trained.learned_motion, folders)),
        "losses": (budget(LOSSES[0], LOSS_SEEDS), partial(trained.losses, folders)),
        "steps": (budget(ONE_STEP, SEEDS), partial(trained.steps, folders)),
        "direct generation": (budget(DIRECT_GENERATION, SEEDS), partial(trained.direct_generation, folders)),
    }


def main() -> None:
    """Measure all sections and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="a JSON file")
    parser.add_argument(
        "--train", type=Path, help="a folder for trainings and their scenes, instead of the checkpoints"
    )
    parser.add_argument("--only", action="append", help="a section; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = options.train or Path(tempfile.gettempdir()) / "rdvfi-claims"
    folders = Folders(options.train or CHECKPOINTS, scenes, may_train=options.train is not None)
    if options.train is not None:
        for run in all_runs():
            print(run.key, f"{train(run, folders).seconds:.0f} CPU seconds", flush=True)
    environment = asdict(read_environment(torch.device("cpu")))
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name, (settings, measure) in sections(folders).items():
        if options.only and name not in options.only:
            continue
        if results.get(name, {}).get("environment") == environment:
            continue
        start = time.process_time()
        rows = {row: {k: round(v, 4) for k, v in values.items()} for row, values in measure().items()}
        seconds = round(time.process_time() - start)
        results[name] = {"budget": settings, "CPU seconds": seconds, "environment": environment, "rows": rows}
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(rows, indent=1), flush=True)


if __name__ == "__main__":
    main()
