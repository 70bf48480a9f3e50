"""What the small trainings of `claims_training` come to on held-out scenes, at the eight times of x9."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

from claims_runs import ALL_LEVELS, DIRECT_GENERATION, LOSS_SEEDS, LOSSES, MOTION, MOTION_SEEDS, ONE_STEP, SEEDS
from claims_training import FINE, Data, Folders, Run, Trained, data, train, without_prior
from claims_untrained import MOVES, Table
from rdvfi.evaluation.ablation import use_straight_keyframes
from rdvfi.evaluation.metrics import psnr, quantise
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Trajectory, TrajectoryModel
from rdvfi.interpolator import Interpolator

TEST_SCENES = 16
TIMES = torch.arange(1, 9) / 9
KNOTS = torch.arange(1, 8) / 8


def held_out(folders: Folders) -> Data:
    """The scenes that trained runs are measured on."""
    return data("test", TEST_SCENES, folders.scenes)


def flow_error(trajectory: Trajectory, known: Data, row: int) -> float:
    """Mean end-point error over what moves and is seen, in pixels of the frames."""
    truth, seen = known["fine"][row], known["fine_visible"][row]
    h, w = truth.shape[-2:]
    made = torch.stack(trajectory.at(TIMES), dim=2)[0].flatten(0, 1)
    made = resize_flow(made, (h, w)).view_as(truth) * 2.0
    counts = seen & (truth.norm(dim=2).amax((0, 1)) > MOVES)
    return float((made - truth).norm(dim=2)[counts].mean())


def _rows(known: Data) -> range:
    return range(len(known["frames"]))


@torch.inference_mode()
def motion_error(trained: Trained, known: Data) -> float:
    """Error of a trajectory from true latents at its knots."""
    assert isinstance(trained.part, TrajectoryModel)
    latents = known["latents"][:, :: FINE // (trained.run.inner + 1)]
    made = (trained.part(without_prior(latents[row, None], trained.run.inner)) for row in _rows(known))
    return fmean(flow_error(one, known, row) for row, one in enumerate(made))


@torch.inference_mode()
def rest_error(known: Data) -> float:
    """The same of flows that are zero."""
    truth, seen = known["fine"], known["fine_visible"]
    counts = seen & (truth.norm(dim=3).amax((1, 2), keepdim=True) > MOVES)
    return fmean(float(truth[row].norm(dim=2)[counts[row]].mean()) for row in _rows(known))


@torch.inference_mode()
def model_scores(model: Interpolator, known: Data, *, seed: int = 0) -> dict[str, float]:
    """Error of the trajectory, error of the latents, and PSNR of frames, of a whole model."""
    errors, latents, quality = [], [], []
    for row in _rows(known):
        frames = known["frames"][row].float() / 255.0
        first, last = frames[0, None], frames[FINE, None]
        motion = model.estimate(first, last, seed=seed, same_scene=True)
        errors.append(flow_error(motion.trajectory, known, row))
        latents.append(float((motion.keyframes.latents[0] - known["latents"][row, ::2]).square().mean()))
        made = model.render(first, last, motion, TIMES)[0]
        quality.append(float(psnr(quantise(made), frames[FINE + 1 :]).mean()))
    return {"EPE": fmean(errors), "latent MSE": fmean(latents), "PSNR": fmean(quality)}


@torch.inference_mode()
def knot_frames(model: Interpolator, known: Data, *, decoded: bool) -> float:
    """PSNR at the seven knots of frames warped along the trajectory, or of keyframes decoded."""
    quality = []
    for row in _rows(known):
        frames = known["frames"][row].float() / 255.0
        first, last, truth = frames[0, None], frames[FINE, None], frames[2:FINE:2]
        motion = model.estimate(first, last, same_scene=True)
        if decoded:
            made = model.generator.decode(motion.keyframes.latents[0, 1:-1])
        else:
            made = model.render(first, last, motion, KNOTS)[0]
        quality.append(float(psnr(quantise(made), truth).mean()))
    return fmean(quality)


def _trained(runs: Sequence[Run], folders: Folders, seeds: Sequence[int]) -> dict[Run, list[Trained]]:
    """The runs whose weights are there, or are trained now; the others are named and left out."""
    found: dict[Run, list[Trained]] = {}
    for run in runs:
        try:
            found[run] = [train(replace(run, seed=seed), folders) for seed in seeds]
        except FileNotFoundError as error:
            print(f"left out: {error}", flush=True)
    return found


def _over_seeds(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over seeds, and the range from the least to the largest."""
    means = {key: fmean(row[key] for row in rows) for key in rows[0]}
    ranges = {f"{key}, range": max(row[key] for row in rows) - min(row[key] for row in rows) for key in rows[0]}
    return means | (ranges if len(rows) > 1 else {})


def learned_motion(folders: Folders, seeds: Sequence[int] = MOTION_SEEDS) -> Table:
    """Trajectories trained on true latents: iterative at several N, and direct."""
    known = held_out(folders)
    found: Table = {"no motion at all": {"EPE": rest_error(known)}}
    for run, several in _trained(MOTION, folders, seeds).items():
        found[f"{run.name}, N = {run.inner}"] = _over_seeds([{"EPE": motion_error(one, known)} for one in several])
    return found


def losses(folders: Folders, seeds: Sequence[int] = LOSS_SEEDS) -> Table:
    """Denoisers trained with the paper's losses one after the other, and with exact flow besides."""
    known, found = held_out(folders), {}
    for run, several in _trained(LOSSES, folders, seeds).items():
        models = [one.model for one in several if one.model is not None]
        if not found:
            found["straight keyframes, no denoiser"] = model_scores(use_straight_keyframes(models[0]), known)
        found[run.name] = _over_seeds([model_scores(model, known) for model in models])
    return found


def steps(folders: Folders, seeds: Sequence[int] = SEEDS) -> Table:
    """One, two, four and eight denoising steps of a denoiser trained for one, and of one trained for all levels."""
    known, found = held_out(folders), {}
    for label, run in (("trained for one step", ONE_STEP), ("trained at all noise levels", ALL_LEVELS)):
        models = [one.model for one in _trained([run], folders, seeds).get(run, []) if one.model is not None]
        for count in (1, 2, 4, 8) if models else ():
            rows = []
            for model in models:
                model.generator.num_inference_steps = count
                rows.append(model_scores(model, known))
            found[f"{label}, {count} step{'s' if count > 1 else ''}"] = _over_seeds(rows)
    return found


def direct_generation(folders: Folders, seeds: Sequence[int] = SEEDS) -> Table:
    """Warping along the trajectory against decoding keyframes, each by a denoiser trained for it in the same steps."""
    known, found = held_out(folders), {}
    ours, direct = LOSSES[-1], DIRECT_GENERATION
    for label, run, decoded in (
        ("ours: warped along the trajectory", ours, False),
        ("our keyframes, decoded", ours, True),
        ("direct generation: trained on decoded frames", direct, True),
    ):
        models = [one.model for one in _trained([run], folders, seeds)[run] if one.model is not None]
        found[label] = _over_seeds([{"PSNR": knot_frames(model, known, decoded=decoded)} for model in models])
    found["true latents, decoded: the bound of direct generation"] = {"PSNR": _bound(ours, folders, known)}
    return found


@torch.inference_mode()
def _bound(run: Run, folders: Folders, known: Data) -> float:
    model = train(run, folders).model
    assert model is not None
    quality: list[float] = []
    for row in _rows(known):
        truth: Tensor = known["frames"][row, 2:FINE:2].float() / 255.0
        made = model.generator.decode(known["latents"][row, 2:FINE:2])
        quality.append(float(psnr(quantise(made), truth).mean()))
    return fmean(quality)
