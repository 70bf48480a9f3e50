"""Train what the claims are measured on: python research/claims.py FOLDER."""

import sys
from pathlib import Path

import torch

from claims_runs import all_runs
from claims_training import train

torch.set_num_threads(1)
for run in all_runs():
    print(run.key, train(run, Path(sys.argv[1])).seconds, flush=True)
