"""What are the rules of `rdvfi.content` worth, and where are other methods better?

PSNR (dB), gradient ratio and mean error of what must not move (8-bit levels) on the generated cases,
of models with their rules and without, and of baselines:

    python research/measure_content.py benchmarks/results/0.2.0/content-cpu-1-thread.json \
        --model rdvfi-s1 --model rdvfi-s --method rife --method dis

Two pairs at gap 2 and one at gap 8 of every case. A stopped run goes on where it was; rows of another
commit are measured again.
"""

import argparse
import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from content_cases import content_case, content_cases
from rdvfi.evaluation.environment import read_environment
from rdvfi.evaluation.method import Method
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.methods import create_method
from rdvfi.evaluation.metrics import gradient_energy, psnr, quantise
from rdvfi.media.clip import open_clip

STARTS = {2: (0, 8), 8: (4,)}
SIZE = (256, 448)
WHAT = (
    "PSNR (dB), gradient ratio and mean error of static regions (8-bit levels) on generated cases; "
    "seed 0; two pairs at gap 2, one at gap 8; models with and without the rules of rdvfi.content"
)

Case = tuple[np.ndarray, np.ndarray | None]
"""8-bit frames (n, H, W, 3), and where the truth never changes (H, W)."""


def cases(others: Path | None, clips: list[Path]) -> Iterator[tuple[str, str, Callable[[], Case]]]:
    """Name, source, and a function that draws it, of every case."""
    for name in content_cases():
        yield name, "research/content_cases.py", lambda name=name: _own(name)
    if others is not None:
        for name, draw in runpy.run_path(str(others))["CASES"].items():
            yield name, "other generated cases", lambda draw=draw: draw.full(0)[::2]
    for clip in clips:
        yield clip.stem, "clip", lambda clip=clip: (np.stack(list(islice(open_clip(clip).frames(), 17))), None)


def _own(name: str) -> Case:
    case = content_case(name, size=SIZE)
    return case.frames, case.static


def methods(models: list[str], baselines: list[str]) -> dict[str, Method]:
    """What is measured, by the name of its column; a model has two."""
    found: dict[str, Method] = {}
    for name in models:
        for rules in (True, False):
            made = create_method(name)
            assert made.model is not None
            made.model.content_rules = rules
            found[name if rules else f"{name}, without rules"] = ModelMethod(made.model, name=name)
    return found | {name: create_method(name) for name in baselines}


@torch.inference_mode()
def score(case: Case, gap: int, method: Method) -> dict[str, float]:
    """Means over the frames between the ends of all pairs."""
    frames = torch.from_numpy(case[0]).permute(0, 3, 1, 2).float() / 255.0
    still = None if case[1] is None else torch.from_numpy(case[1])
    values: dict[str, list[float]] = {"psnr": [], "made": [], "true": [], "static": []}
    for start in STARTS[gap]:
        truth = frames[start + 1 : start + gap]
        new = quantise(method(frames[start, None], frames[start + gap, None], torch.arange(1, gap) / gap)[0])
        values["psnr"] += psnr(new, truth).tolist()
        values["made"] += gradient_energy(new).tolist()
        values["true"] += gradient_energy(truth).tolist()
        if still is not None and still.any():
            values["static"].append(float(255.0 * (new - truth).abs().mean(1)[:, still].mean()))
    found = {"psnr": fmean(values["psnr"]), "grad": sum(values["made"]) / sum(values["true"])}
    if values["static"]:
        found["static"] = fmean(values["static"])
    return {key: round(value, 3) for key, value in found.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="a JSON file")
    parser.add_argument("--model", action="append", help="a model, with and without rules; may be repeated")
    parser.add_argument("--method", action="append", default=[], help="a baseline; may be repeated")
    parser.add_argument("--cases", type=Path, help="a Python file with more generators, in a table CASES")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = methods(options.model or ["rdvfi-s"], options.method)
    environment = asdict(read_environment(torch.device("cpu")))
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    rows = [row for row in rows if row.get("commit") == environment["commit"]]
    for name, source, draw in cases(options.cases, options.clip):
        for gap in STARTS:
            if any((row["case"], row["source"], row["gap"]) == (name, source, gap) for row in rows):
                continue
            case = draw()
            scores = {column: score(case, gap, method) for column, method in made.items()}
            rows.append({"case": name, "source": source, "gap": gap, "commit": environment["commit"], "scores": scores})
            table = {"what": WHAT, "environment": environment, "size": SIZE, "rows": rows}
            options.out.write_text(json.dumps(table, indent=1) + "\n")
            print(name, gap, {column: each["psnr"] for column, each in scores.items()}, flush=True)


if __name__ == "__main__":
    main()
