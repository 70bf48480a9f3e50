"""Evaluation of the trainings of `claims_training` on held-out scenes, at the eight times of x9."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

from claims_runs import ALL_LEVELS, DIRECT_GENERATION, LOSS_SEEDS, LOSSES, MOTION, MOTION_SEEDS, ONE_STEP, SEEDS
from claims_training import FINE, Data, Folders, Run, Trained, load_scenes, train, without_prior
from claims_untrained import MIN_DISPLACEMENT, Table
from rdvfi.evaluation.ablation import use_straight_keyframes
from rdvfi.evaluation.metrics import psnr, quantise
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Trajectory, TrajectoryModel
from rdvfi.interpolator import Interpolator

TEST_SCENES = 16
TIMES = torch.arange(1, 9) / 9
KNOTS = torch.arange(1, 8) / 8


def load_test_set(folders: Folders) -> Data:
    """The scenes on which trained runs are evaluated."""
    return load_scenes("test", TEST_SCENES, folders.scenes)


def flow_error(trajectory: Trajectory, test_set: Data, row: int) -> float:
    """Mean end-point error over moving, visible points, in pixels of the frames."""
    truth, visible = test_set["fine"][row], test_set["fine_visible"][row]
    h, w = truth.shape[-2:]
    flows = torch.stack(trajectory.at(TIMES), dim=2)[0].flatten(0, 1)
    flows = resize_flow(flows, (h, w)).view_as(truth) * 2.0
    counted = visible & (truth.norm(dim=2).amax((0, 1)) > MIN_DISPLACEMENT)
    return float((flows - truth).norm(dim=2)[counted].mean())


def _row_indices(test_set: Data) -> range:
    return range(len(test_set["frames"]))


@torch.inference_mode()
def motion_error(trained: Trained, test_set: Data) -> float:
    """Error of a trajectory model with true latents at its knots."""
    assert isinstance(trained.part, TrajectoryModel)
    latents = test_set["latents"][:, :: FINE // (trained.run.inner + 1)]
    rows = _row_indices(test_set)
    trajectories = (trained.part(without_prior(latents[row, None], trained.run.inner)) for row in rows)
    return fmean(flow_error(trajectory, test_set, row) for row, trajectory in zip(rows, trajectories, strict=True))


@torch.inference_mode()
def zero_motion_error(test_set: Data) -> float:
    """The error of zero flow."""
    truth, visible = test_set["fine"], test_set["fine_visible"]
    counted = visible & (truth.norm(dim=3).amax((1, 2), keepdim=True) > MIN_DISPLACEMENT)
    return fmean(float(truth[row].norm(dim=2)[counted[row]].mean()) for row in _row_indices(test_set))


@torch.inference_mode()
def model_scores(model: Interpolator, test_set: Data, *, seed: int = 0) -> dict[str, float]:
    """Errors of the trajectory and of the latents, and PSNR of the frames, of a whole model."""
    errors, latents, quality = [], [], []
    for row in _row_indices(test_set):
        frames = test_set["frames"][row].float() / 255.0
        first, last = frames[0, None], frames[FINE, None]
        motion = model.estimate(first, last, seed=seed, same_scene=True)
        errors.append(flow_error(motion.trajectory, test_set, row))
        latents.append(float((motion.keyframes.latents[0] - test_set["latents"][row, ::2]).square().mean()))
        rendered = model.render(first, last, motion, TIMES)[0]
        quality.append(float(psnr(quantise(rendered), frames[FINE + 1 :]).mean()))
    return {"EPE": fmean(errors), "latent MSE": fmean(latents), "PSNR": fmean(quality)}


@torch.inference_mode()
def knot_frames(model: Interpolator, test_set: Data, *, decoded: bool) -> float:
    """PSNR at the seven knots, of warped frames or of decoded keyframes."""
    quality = []
    for row in _row_indices(test_set):
        frames = test_set["frames"][row].float() / 255.0
        first, last, truth = frames[0, None], frames[FINE, None], frames[2:FINE:2]
        motion = model.estimate(first, last, same_scene=True)
        if decoded:
            rendered = model.generator.decode(motion.keyframes.latents[0, 1:-1])
        else:
            rendered = model.render(first, last, motion, KNOTS)[0]
        quality.append(float(psnr(quantise(rendered), truth).mean()))
    return fmean(quality)


def _load_runs(runs: Sequence[Run], folders: Folders, seeds: Sequence[int]) -> dict[Run, list[Trained]]:
    """The runs with saved weights, or trained now. Runs without weights are printed and omitted."""
    table: dict[Run, list[Trained]] = {}
    for run in runs:
        try:
            table[run] = [train(replace(run, seed=seed), folders) for seed in seeds]
        except FileNotFoundError as error:
            print(f"omitted: {error}", flush=True)
    return table


def _summarise_seeds(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means and ranges over seeds."""
    means = {key: fmean(row[key] for row in rows) for key in rows[0]}
    ranges = {f"{key}, range": max(row[key] for row in rows) - min(row[key] for row in rows) for key in rows[0]}
    return means | (ranges if len(rows) > 1 else {})


def learned_motion(folders: Folders, seeds: Sequence[int] = MOTION_SEEDS) -> Table:
    """Trajectory models trained on true latents: iterative at several N, and direct."""
    test_set = load_test_set(folders)
    table: Table = {"no motion at all": {"EPE": zero_motion_error(test_set)}}
    for run, trained_runs in _load_runs(MOTION, folders, seeds).items():
        errors = [{"EPE": motion_error(trained, test_set)} for trained in trained_runs]
        table[f"{run.name}, N = {run.inner}"] = _summarise_seeds(errors)
    return table


def losses(folders: Folders, seeds: Sequence[int] = LOSS_SEEDS) -> Table:
    """Denoisers trained with the paper's losses, added one by one, and with exact flow in addition."""
    test_set, table = load_test_set(folders), {}
    for run, trained_runs in _load_runs(LOSSES, folders, seeds).items():
        models = [trained.model for trained in trained_runs if trained.model is not None]
        if not table:
            table["straight keyframes, no denoiser"] = model_scores(use_straight_keyframes(models[0]), test_set)
        table[run.name] = _summarise_seeds([model_scores(model, test_set) for model in models])
    return table


def steps(folders: Folders, seeds: Sequence[int] = SEEDS) -> Table:
    """Denoisers trained for one step, and for all noise levels, with one, two, four and eight steps."""
    test_set, table = load_test_set(folders), {}
    for label, run in (("trained for one step", ONE_STEP), ("trained at all noise levels", ALL_LEVELS)):
        runs = _load_runs([run], folders, seeds).get(run, [])
        models = [trained.model for trained in runs if trained.model is not None]
        for count in (1, 2, 4, 8) if models else ():
            rows = []
            for model in models:
                model.generator.num_inference_steps = count
                rows.append(model_scores(model, test_set))
            table[f"{label}, {count} step{'s' if count > 1 else ''}"] = _summarise_seeds(rows)
    return table


def direct_generation(folders: Folders, seeds: Sequence[int] = SEEDS) -> Table:
    """Warping along the trajectory and decoding of keyframes, each by a denoiser trained for it in the same steps."""
    test_set, table = load_test_set(folders), {}
    ours, direct = LOSSES[-1], DIRECT_GENERATION
    for label, run, decoded in (
        ("ours: warped along the trajectory", ours, False),
        ("our keyframes, decoded", ours, True),
        ("direct generation: trained on decoded frames", direct, True),
    ):
        runs = _load_runs([run], folders, seeds)[run]
        models = [trained.model for trained in runs if trained.model is not None]
        table[label] = _summarise_seeds([{"PSNR": knot_frames(model, test_set, decoded=decoded)} for model in models])
    table["true latents, decoded: the bound of direct generation"] = {
        "PSNR": _decoded_truth_psnr(ours, folders, test_set)
    }
    return table


@torch.inference_mode()
def _decoded_truth_psnr(run: Run, folders: Folders, test_set: Data) -> float:
    model = train(run, folders).model
    assert model is not None
    quality: list[float] = []
    for row in _row_indices(test_set):
        truth: Tensor = test_set["frames"][row, 2:FINE:2].float() / 255.0
        decoded = model.generator.decode(test_set["latents"][row, 2:FINE:2])
        quality.append(float(psnr(quantise(decoded), truth).mean()))
    return fmean(quality)
