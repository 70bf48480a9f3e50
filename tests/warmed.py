"""Imported once, in the process that `interrupted.process` copies: what a job imports on first use is there."""

import torch

import interrupted
import rdvfi

_model = rdvfi.build("rdvfi_s", *interrupted.SMALL).eval().requires_grad_(False)
with torch.inference_mode():
    _model(torch.rand(1, 3, 48, 64), torch.rand(1, 3, 48, 64), [0.5])
