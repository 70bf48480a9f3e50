"""Quality and time of one model at every point of a sweep over its parts."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rdvfi.config.sweeps import Sweep
from rdvfi.evaluation.methods import ModelMethod
from rdvfi.evaluation.protocol import evaluate
from rdvfi.video.chosen_model import Chosen
from rdvfi.video.ready import ModelLike


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
    """Measure a model with every combination of parts on the true frames of a clip; it prints as a table.

    Args:
        clip: As for `evaluate`.
        *overrides: With several values, as ``"basis=linear,cubic"``; Hydra's own settings may be among them.
        model: A model's name or folder, or a model; RDVFI-S by default. What fits keeps its weights.
        recipe: In its place, a recipe, whose parts have fresh weights.
        gap: Distance between input frames; 9 by default.
        pairs: Number of input pairs; all if unset.
        device: Where it runs.
        dtype: The type of its networks.
        config_dir: A folder with configuration groups of your own.
        into: The sweep's folder, with ``results.csv``; by default Hydra's, ``multirun/DATE/TIME``.

    Returns:
        All points; those that failed are among them, with what went wrong.

    Raises:
        ValueError: If a choice or a field does not exist, or there are no overrides.
    """
    chosen = Chosen(None if recipe is not None else model, recipe, overrides, config_dir)
    folder = None if into is None else Path(into)
    return sweep_models(chosen, clip, gap=gap, pairs=pairs, device=device, dtype=dtype, into=folder)


def sweep_models(
    chosen: Chosen,
    clip: str | os.PathLike[str],
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    into: Path | None,
    **options: Any,
) -> Sweep:
    """The same for a choice of a model; ``options`` are those of `evaluate`."""
    job = partial(_score, clip, options | {"device": device, "dtype": dtype})
    return chosen.swept(job, objective="psnr", into=into)


def _score(
    clip: str | os.PathLike[str], options: dict[str, Any], point: Chosen, folder: Path, given: Sequence[str]
) -> dict[str, Any]:
    method = ModelMethod(point.built(options["device"], options["dtype"]), name="model")
    report = evaluate(clip, models=[method], **options)
    report.save(folder / "report.json")
    (score,) = report.scores
    return {"psnr": score.psnr, "ssim": score.ssim, "ms_per_frame": score.ms_per_frame}
