"""Sweeps: quality and time of one model for every combination of parts."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rdvfi.config.sweeps import Sweep
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.run_evaluation import evaluate
from rdvfi.video.model_loading import ModelLike
from rdvfi.video.model_selection import ModelSelection


def sweep(
    clip: str | os.PathLike[str],
    *overrides: str,
    model: ModelLike | None = None,
    recipe: str | os.PathLike[str] | None = None,
    gap: int | None = None,
    pairs: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    config_dir: str | os.PathLike[str] | None = None,
    into: str | os.PathLike[str] | None = None,
) -> Sweep:
    """Evaluate a model with every combination of parts on a clip.

    Args:
        clip: As for `evaluate`.
        *overrides: Overrides with several values, such as ``"basis=linear,cubic"``, and settings of Hydra.
        model: A model's name or folder, or a model; RDVFI-S by default. Other parts keep their weights.
        recipe: A recipe instead of a model; its parts have fresh weights.
        gap: Distance between input frames; 9 by default.
        pairs: Number of input pairs; all if unset.
        device: Device of the model.
        dtype: Data type of the model.
        config_dir: Folder with additional configuration groups.
        into: Folder for the results, ``results.csv`` among them; by default Hydra's, ``multirun/DATE/TIME``.

    Returns:
        All points, which print as a table; points that failed contain the error.

    Raises:
        ValueError: If an option or a field does not exist, or there are no overrides.
    """
    chosen = ModelSelection(None if recipe is not None else model, recipe, overrides, config_dir)
    folder = None if into is None else Path(into)
    return sweep_models(chosen, clip, gap=gap, pairs=pairs, device=device, dtype=dtype, into=folder)


def sweep_models(
    chosen: ModelSelection,
    clip: str | os.PathLike[str],
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    into: Path | None,
    **options: Any,
) -> Sweep:
    """`sweep` for a `ModelSelection` model; ``options`` are those of `evaluate`."""
    job = partial(_evaluate_point, clip, options | {"device": device, "dtype": dtype})
    return chosen.run_sweep(job, objective="psnr", into=into)


def _evaluate_point(
    clip: str | os.PathLike[str], options: dict[str, Any], point: ModelSelection, folder: Path, given: Sequence[str]
) -> dict[str, Any]:
    method = ModelMethod(point.build(options["device"], options["dtype"]), name="model")
    report = evaluate(clip, models=[method], **options)
    report.save(folder / "report.json")
    (score,) = report.scores
    return {"psnr": score.psnr, "ssim": score.ssim, "ms_per_frame": score.ms_per_frame}
