"""Comparison of a fine-tuned model with its initial weights on held-out frames.

The end of each clip is held out (``data.held_out``). The model that training started from and the one
that it made are measured there in one run, at gaps of 2 and 8; the better one is kept.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import torch

from rdvfi.evaluation.evaluation_window import EvaluationWindow, split_windows
from rdvfi.evaluation.measurement import measure
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.interpolator import Interpolator
from rdvfi.media.clip import find_clips
from rdvfi.models import create_model
from rdvfi.training.objectives.objective import Report
from rdvfi.training.stage import Stage

GAPS = (2, 8)
_LEAST = 0.005
"""Difference in dB that counts: a smaller one is written as 0.00."""
_PAIRS = 12
"""At most, of each gap, spread over the clips."""


def keep_the_better(stage: Stage, model: Interpolator, report: Report) -> Interpolator:
    """The trained model, or the one that it started from if that is better on the held-out frames.

    The figures of both go to ``<stage>.held_out.json`` in the output folder.

    Raises:
        ValueError: If nothing is held out that could be measured, or the stage started from no model.
    """
    if stage.model.start is None:
        raise ValueError("data.held_out compares with the model that training started from; set model.start")
    before = create_model(stage.model.start)
    methods = [ModelMethod(before, name="before"), ModelMethod(model.eval().cpu(), name="after")]
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for gap in GAPS:
        held = list(held_out_windows(Path(stage.data.folder), gap, stage.data.held_out))
        if held:
            scores = measure(held, methods, device=torch.device("cpu"), metrics=("psnr", "ssim")).scores
            figures[f"gap {gap}"] = {s.method: {"psnr": s.psnr, "ssim": s.ssim} for s in scores}
    if not figures:
        raise ValueError(
            f"data.held_out={stage.data.held_out} leaves no {GAPS[0] + 1} frames of any clip to measure on"
        )
    (Path(stage.out) / f"{stage.stage}.held_out.json").write_text(json.dumps(figures, indent=2) + "\n")
    for name, both in figures.items():
        told = ", ".join(f"{k} {v['psnr']:.2f} dB, SSIM {v['ssim']:.4f}" for k, v in both.items())
        report(f"{stage.stage}: held-out frames, {name}: {told}")
    gained = fmean(both["after"]["psnr"] - both["before"]["psnr"] for both in figures.values())
    if gained >= _LEAST:
        return model
    verdict = "as good as before" if gained > -_LEAST else f"{-gained:.2f} dB worse"
    report(f"{stage.stage}: {verdict} on held-out frames: {stage.model.start} is kept")
    return before


def held_out_windows(folder: Path, gap: int, share: float) -> Iterator[EvaluationWindow]:
    """Windows of the end of each clip below a folder, `_PAIRS` in all at most."""
    clips = find_clips(folder)
    each = max(1, _PAIRS // max(1, len(clips)))
    left = _PAIRS
    for clip in clips.values():
        start = first_held_out(len(clip), share)
        for window in _spread(list(split_windows(clip.frames(start), gap, start=start)), min(each, left)):
            left -= 1
            yield window


def first_held_out(count: int, share: float) -> int:
    """The number of the first frame of a clip that training leaves out."""
    return count - round(share * count)


def _spread(found: Sequence[EvaluationWindow], count: int) -> list[EvaluationWindow]:
    step = max(1, len(found) // max(1, count))
    return list(found[::step][:count])
