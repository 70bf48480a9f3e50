"""Comparison of a fine-tuned model with its initial weights on held-out frames.

The end of each clip is held out (``data.held_out``). The initial and the trained model are evaluated there in one
run, at gaps of 2 and 8; the better one is kept.
"""

import json
from collections.abc import Iterator
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
_MIN_GAIN = 0.005
"""Smallest improvement in dB that is not rounded to 0.00."""
_MAX_PAIRS = 12
"""Largest number of evaluated pairs per gap, over all clips."""


def select_better_model(stage: Stage, model: Interpolator, report: Report) -> Interpolator:
    """The trained model, or the initial one if that is better on the held-out frames.

    The scores of both are written to ``<stage>.held_out.json`` in the output folder.

    Raises:
        ValueError: If the held-out frames are too few, or the stage did not start from a model.
    """
    if stage.model.start is None:
        raise ValueError("data.held_out compares with the model from which training starts; set model.start")
    before = create_model(stage.model.start)
    methods = [ModelMethod(before, name="before"), ModelMethod(model.eval().cpu(), name="after")]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for gap in GAPS:
        pairs = list(held_out_windows(Path(stage.data.folder), gap, stage.data.held_out))
        if pairs:
            scores = measure(pairs, methods, device=torch.device("cpu"), metrics=("psnr", "ssim")).scores
            results[f"gap {gap}"] = {s.method: {"psnr": s.psnr, "ssim": s.ssim} for s in scores}
    if not results:
        raise ValueError(
            f"data.held_out={stage.data.held_out} leaves no clip with {GAPS[0] + 1} held-out frames to evaluate"
        )
    (Path(stage.out) / f"{stage.stage}.held_out.json").write_text(json.dumps(results, indent=2) + "\n")
    for name, by_method in results.items():
        text = ", ".join(f"{k} {v['psnr']:.2f} dB, SSIM {v['ssim']:.4f}" for k, v in by_method.items())
        report(f"{stage.stage}: held-out frames, {name}: {text}")
    gain = fmean(scores["after"]["psnr"] - scores["before"]["psnr"] for scores in results.values())
    if gain >= _MIN_GAIN:
        return model
    comparison = "as good as before" if gain > -_MIN_GAIN else f"{-gain:.2f} dB worse"
    report(f"{stage.stage}: {comparison} on held-out frames: {stage.model.start} is kept")
    return before


def held_out_windows(folder: Path, gap: int, share: float) -> Iterator[EvaluationWindow]:
    """Up to `_MAX_PAIRS` evaluation windows from the held-out ends of the clips below a folder."""
    clips = find_clips(folder)
    per_clip = max(1, _MAX_PAIRS // max(1, len(clips)))
    remaining = _MAX_PAIRS
    for clip in clips.values():
        start = len(clip) - round(share * len(clip))
        candidates = list(split_windows(clip.frames(start), gap, start=start))
        count = min(per_clip, remaining)
        selected = candidates[:: max(1, len(candidates) // max(1, count))][:count]
        remaining -= len(selected)
        yield from selected
