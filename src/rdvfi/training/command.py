"""Train RDVFI-S from the data to the weights that ship, stage by stage.

``train_rdvfi_s(data, out)`` runs every stage in order; each leaves its part's weights in ``out``
and is skipped once they are there, so a stopped run goes on where it was. Stages may also be run
one by one; the first 80 % of the keyframes stage do not need the motion stage.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rdvfi.backbones.compact import CompactKeyframes
from rdvfi.data.pool import KINDS, Pool, build_pool
from rdvfi.data.samples import Film, load_pictures
from rdvfi.data.sources import Stream
from rdvfi.interpolator import Interpolator
from rdvfi.training.loop import Schedule
from rdvfi.training.stages import (
    crops,
    train_autoencoder,
    train_keyframes,
    train_motion,
    train_synthesis,
)

Report = Callable[[str], None]

STAGES = ("autoencoder", "motion", "synthesis", "keyframes", "refinement", "ship")
SAMPLES = {"procedural": 3000, "film": 2000}
SCHEDULES = {
    "autoencoder": Schedule(steps=2100, rate=2e-3),
    "motion": Schedule(steps=1850, rate=1e-3),
    "keyframes": Schedule(steps=2500, rate=1e-3),
    "synthesis": Schedule(steps=1500, rate=8e-4),
    "refinement": Schedule(steps=1380, rate=6e-4),
}


def new_model(recipe: str = "rdvfi_s") -> Interpolator:
    """An untrained RDVFI-S, the same each time."""
    from rdvfi.config import build

    torch.manual_seed(0)
    return build(recipe)


def _part(model: Interpolator, stage: str) -> nn.Module:
    generator = model.generator
    assert isinstance(generator, CompactKeyframes)
    return {
        "autoencoder": generator.autoencoder,
        "motion": model.trajectory,
        "keyframes": generator.denoiser,
        "synthesis": model.renderer,
        "refinement": model.renderer,
    }[stage]


def load_parts(model: Interpolator, out: Path, *, before: str = "ship") -> list[str]:
    """Load the results of the stages before one; returns the stages that have a result."""
    from safetensors.torch import load_file

    done = []
    for stage in STAGES[: STAGES.index(before)]:
        file = out / f"{stage}.safetensors"
        if file.exists():
            _part(model, stage).load_state_dict(load_file(file))
            done.append(stage)
    return done


def _save_part(part: nn.Module, file: Path) -> None:
    from safetensors.torch import save_file

    state = {key: value.detach().contiguous().clone() for key, value in part.state_dict().items()}
    partial = file.with_suffix(".partial")
    save_file(state, partial)
    partial.replace(file)


def run_stage(
    stage: str,
    data: Path,
    out: Path,
    *,
    report: Report,
    minutes: float | None = None,
    steps: int | None = None,
) -> None:
    """Run one stage on what the stages before it left in ``out``.

    Args:
        stage: One of `STAGES`.
        data: Folder made by ``python -m rdvfi.data.build``.
        out: Folder of checkpoints and results.
        report: Receives progress lines.
        minutes: Stop after this long; the next run goes on from there.
        steps: Train for another number of steps than the stage's own schedule.

    Raises:
        ValueError: If the stage is unknown.
        FileNotFoundError: If the data or an earlier stage's result is missing.
    """
    if stage not in STAGES:
        raise ValueError(f"no training stage {stage!r}; expected one of {STAGES}")
    if not (data / "film.npy").exists():
        raise FileNotFoundError(
            f"{data} holds no film.npy; make it with python -m rdvfi.data.build"
        )
    model = new_model()
    done = load_parts(model, out, before=stage)
    if stage != "autoencoder" and "autoencoder" not in done:
        raise FileNotFoundError(f"{out} holds no autoencoder.safetensors; train that stage first")
    if stage == "ship":
        return _ship(model, done, out)
    schedule = replace(SCHEDULES[stage], minutes=minutes)
    schedule = schedule if steps is None else replace(schedule, steps=steps)
    generator = model.generator
    assert isinstance(generator, CompactKeyframes)
    if stage == "autoencoder":
        stream = Stream(crops(_pictures(data))).batches(16, 1)
        train_autoencoder(generator.autoencoder, stream, schedule, out, report)
    else:
        pools = tuple(_pool(data, kind, report) for kind in KINDS)
        generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for kind, pool in zip(KINDS, pools, strict=True):
                pool.cache_latents(out / f"latents-{kind}", generator.encode)
        if stage == "motion":
            train_motion(model, pools[0], schedule, out, report)
        elif stage == "keyframes":
            ready = {"motion", "synthesis"} <= set(done)
            train_keyframes(model, pools, schedule, out, report, decodable=ready)
        else:
            predicted = stage == "refinement"
            if predicted and "keyframes" not in done:
                raise FileNotFoundError(
                    f"{out} holds no keyframes.safetensors; train that stage first"
                )
            train_synthesis(model, pools, schedule, out, report, predicted=predicted)
    _save_part(_part(model, stage), out / f"{stage}.safetensors")


def _pool(data: Path, kind: str, report: Report) -> Pool:
    folder = data / "pool" / kind
    if not folder.exists():
        report(f"making {SAMPLES[kind]} {kind} samples in {folder}")
        build_pool(data, folder, kind, SAMPLES[kind])
    return Pool(folder)


def _pictures(data: Path) -> Callable[[np.random.Generator], np.ndarray]:
    film = Film(data / "film.npy")
    pictures = load_pictures(data, film)

    def choose(rng: np.random.Generator) -> np.ndarray:
        if rng.random() < 0.5:
            return pictures[rng.integers(len(pictures))]
        return film.frames[film.window(rng, 2)]

    return choose


def _ship(model: Interpolator, done: list[str], out: Path) -> None:
    from rdvfi.models import save_bundled

    missing = [stage for stage in STAGES[:-1] if stage not in done]
    if missing:
        raise FileNotFoundError(f"{out} lacks the results of {missing}; train these stages first")
    model.mark_trained("backbone", "trajectory", "renderer")
    save_bundled(model.eval(), "rdvfi-s", out)


def train_rdvfi_s(data: Path, out: Path, *, report: Report, minutes: float | None = None) -> None:
    """Run all stages that ``out`` has no result of, then write the model that ships.

    Args:
        data: Folder made by ``python -m rdvfi.data.build``.
        out: Folder of checkpoints and results; the model is left there as ``rdvfi-s.*``.
        report: Receives progress lines.
        minutes: Limit of each stage.
    """
    for stage in STAGES:
        if not (out / f"{stage}.safetensors").exists():
            run_stage(stage, data, out, report=report, minutes=minutes)
