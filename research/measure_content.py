"""The effect of the content rules (`rdvfi.content`), and other methods for comparison.

PSNR (dB), gradient ratio and mean error of static regions (8-bit levels) on the generated cases,
for models with and without rules, and for baselines:

    python research/measure_content.py benchmarks/results/0.2.0/content-cpu-1-thread.json \
        --model rdvfi-s1 --model rdvfi-s --method rife --method dis

Two pairs at gap 2 and one at gap 8 of every case. An interrupted run can be continued; rows of another
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
from rdvfi.evaluation.methods import create_method
from rdvfi.evaluation.metrics import gradient_energy, psnr, quantise
from rdvfi.media.clip import open_clip

STARTS = {2: (0, 8), 8: (4,)}
SIZE = (256, 448)
DESCRIPTION = (
    "PSNR (dB), gradient ratio and mean error of static regions (8-bit levels) on generated cases; "
    "seed 0; two pairs at gap 2, one at gap 8; models with and without the rules of rdvfi.content"
)

Case = tuple[np.ndarray, np.ndarray | None]
"""8-bit frames (n, H, W, 3), and a mask of static pixels (H, W)."""


def iterate_cases(others: Path | None, clips: list[Path]) -> Iterator[tuple[str, str, Callable[[], Case]]]:
    """Name, source and generating function of every case."""
    for name in content_cases():
        yield name, "research/content_cases.py", lambda name=name: _draw_own_case(name)
    if others is not None:
        for name, draw in runpy.run_path(str(others))["CASES"].items():
            yield name, "other generated cases", lambda draw=draw: draw.full(0)[::2]
    for clip in clips:
        yield clip.stem, "clip", lambda clip=clip: (np.stack(list(islice(open_clip(clip).frames(), 17))), None)


def _draw_own_case(name: str) -> Case:
    case = content_case(name, size=SIZE)
    return case.frames, case.static


def create_methods(models: list[str], baselines: list[str]) -> dict[str, Method]:
    """The methods by the name of their column; a model has two, with and without rules."""
    methods: dict[str, Method] = {}
    for name in models:
        for rules in (True, False):
            method = create_method(name)
            assert method.model is not None
            method.model.content_rules = rules
            methods[name if rules else f"{name}, without rules"] = method
    return methods | {name: create_method(name) for name in baselines}


@torch.inference_mode()
def evaluate_case(case: Case, gap: int, method: Method) -> dict[str, float]:
    """Means over the interpolated frames of all pairs."""
    frames = torch.from_numpy(case[0]).permute(0, 3, 1, 2).float() / 255.0
    static_mask = None if case[1] is None else torch.from_numpy(case[1])
    values: dict[str, list[float]] = {"psnr": [], "energy": [], "true energy": [], "static": []}
    for start in STARTS[gap]:
        truth = frames[start + 1 : start + gap]
        interpolated = quantise(method(frames[start, None], frames[start + gap, None], torch.arange(1, gap) / gap)[0])
        values["psnr"] += psnr(interpolated, truth).tolist()
        values["energy"] += gradient_energy(interpolated).tolist()
        values["true energy"] += gradient_energy(truth).tolist()
        if static_mask is not None and static_mask.any():
            values["static"].append(float(255.0 * (interpolated - truth).abs().mean(1)[:, static_mask].mean()))
    means = {"psnr": fmean(values["psnr"]), "grad": sum(values["energy"]) / sum(values["true energy"])}
    if values["static"]:
        means["static"] = fmean(values["static"])
    return {key: round(value, 3) for key, value in means.items()}


def main() -> None:
    """Measure all cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="a JSON file")
    parser.add_argument("--model", action="append", help="a model, with and without rules; may be repeated")
    parser.add_argument("--method", action="append", default=[], help="a baseline; may be repeated")
    parser.add_argument("--cases", type=Path, help="a Python file with more generators, in a table CASES")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = create_methods(options.model or ["rdvfi-s"], options.method)
    environment = asdict(read_environment(torch.device("cpu")))
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    rows = [row for row in rows if row.get("commit") == environment["commit"]]
    for name, source, draw in iterate_cases(options.cases, options.clip):
        for gap in STARTS:
            if any((row["case"], row["source"], row["gap"]) == (name, source, gap) for row in rows):
                continue
            case = draw()
            scores = {column: evaluate_case(case, gap, method) for column, method in methods.items()}
            rows.append({"case": name, "source": source, "gap": gap, "commit": environment["commit"], "scores": scores})
            table = {"what": DESCRIPTION, "environment": environment, "size": SIZE, "rows": rows}
            options.out.write_text(json.dumps(table, indent=1) + "\n")
            print(name, gap, {column: values["psnr"] for column, values in scores.items()}, flush=True)


if __name__ == "__main__":
    main()
