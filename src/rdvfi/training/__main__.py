"""``python -m rdvfi.training DATA OUT [--stage STAGE] [--minutes M] [--steps N] [--threads T]``."""

import argparse
import sys
from pathlib import Path

import torch

from rdvfi.training.command import STAGES, run_stage, train_rdvfi_s


def _report(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Train RDVFI-S."""
    parser = argparse.ArgumentParser(prog="python -m rdvfi.training", description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder made by python -m rdvfi.data.build")
    parser.add_argument("out", type=Path, help="folder of checkpoints and results")
    parser.add_argument("--stage", choices=STAGES, help="one stage only (default: all)")
    parser.add_argument("--minutes", type=float, help="limit of each stage")
    parser.add_argument("--steps", type=int, help="steps of the one stage")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.stage is None:
        train_rdvfi_s(options.data, options.out, report=_report, minutes=options.minutes)
    else:
        run_stage(
            options.stage,
            options.data,
            options.out,
            report=_report,
            minutes=options.minutes,
            steps=options.steps,
        )


if __name__ == "__main__":
    main()
