"""What are the rules of `rdvfi.content` worth?

PSNR of RDVFI-S with and without them, and of baselines, on the generated cases:

    python research/measure_content.py --gap 2 --gap 8 --seed 0 --method dis --out content.json
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

import torch

from rdvfi.evaluation.content_cases import ContentCase, content_case, content_cases
from rdvfi.evaluation.methods import ModelMethod, create_method
from rdvfi.evaluation.metrics import psnr, quantise

STARTS = {2: (0, 8), 8: (4,)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--gap", type=int, action="append", choices=STARTS, help="frames between inputs; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", action="append", choices=content_cases(), help="a kind; all by default")
    parser.add_argument("--method", action="append", default=[], help="a baseline; may be repeated")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = {name: create_method(name) for name in ("rdvfi-s", *options.method)}
    rows = []
    for name in options.case or content_cases():
        case = content_case(name, seed=options.seed)
        for gap in options.gap or STARTS:
            row = {"case": name, "gap": gap, "seed": options.seed}
            row |= {method: round(_score(case, gap, made), 3) for method, made in methods.items()}
            row["without"] = round(_score(case, gap, _without_rules(methods["rdvfi-s"])), 3)
            rows.append(row)
            print(row)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


def _score(case: ContentCase, gap: int, method) -> float:
    """Mean PSNR of the frames between."""
    frames = torch.from_numpy(case.frames).permute(0, 3, 1, 2).float() / 255.0
    times = torch.arange(1, gap) / gap
    values = []
    for start in STARTS[gap]:
        if isinstance(method, ModelMethod):
            method.model.content_rules = True
        made = method(frames[start : start + 1], frames[start + gap : start + gap + 1], times)[0]
        values += psnr(quantise(made), frames[start + 1 : start + gap]).tolist()
    return fmean(values)


def _without_rules(method: ModelMethod):
    def run(img0: torch.Tensor, img1: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        method.model.content_rules = False
        return ModelMethod.__call__(method, img0, img1, times)

    return run


if __name__ == "__main__":
    main()
