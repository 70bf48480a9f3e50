"""The small trainings of `claims`: scenes, losses and training loop.

SceneBatch are those of `rdvfi.data.synthetic` with dead-leaves pictures, so nothing has to be downloaded;
training and test use different pictures and random numbers. Frames are 160x96, latents are those of
the autoencoder of RDVFI-S1, which is frozen like all parts that a run does not train.
SceneBatch are rendered once and saved; runs of one seed use the same batches.

A *motion* run trains a trajectory model on true latents at N + 2 knots with exact flow and without coarse
flow: as in the paper, the motion must be estimated from the latents. A *keyframes* run trains a
denoiser from scratch. Runs with saved weights are not trained again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import rdvfi
from rdvfi.data.synthetic.generated_images import discs_and_boxes
from rdvfi.data.synthetic.layered_scenes import SceneBatch
from rdvfi.data.synthetic.procedural_source import build_scenes
from rdvfi.data.synthetic.sampler import SceneRecipe, SceneSampler
from rdvfi.data.synthetic.textures import PicturePyramid
from rdvfi.interfaces import Keyframes, MotionPrior, TrajectoryModel
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.direct import DirectRegression
from rdvfi.motion.trajectory.iterative import IterativeFusion
from rdvfi.motion.trajectory.straight_motion import straight_motion_of
from rdvfi.training.losses.flow_losses import flow_loss
from rdvfi.training.losses.loss_registry import WeightedLosses
from rdvfi.training.objectives.one_step import DiffusionObjective
from rdvfi.training.objectives.training_step import TrainingStep

SIZE = (96, 160)
STRIDE = 8
BATCH = 3
RECIPE = SceneRecipe(reach=48.0, determined=0.7, lights=0.0, blurred=0.0)
SEEDS = {"train": 11, "test": 7_000_003}
FREE_TIMES = {"train": 2, "test": 8}
"""Number of times of a scene besides its knots; those of the test are i / 9."""
FINE = 16
"""Number of intervals between the finest knots, N = 15."""
STEPS = (1, 2, 4, 8)
"""Distances of knots in these intervals for N = 15, 7, 3 and 1."""
LEARNING_RATE = 2e-3
WIDTH = 24
"""Channels of all trained networks; RDVFI-S1 has 48."""
MODEL, MODEL_RECIPE = "rdvfi-s1", "rdvfi_s1"
"""The model whose other parts the trainings use; it has the paper's phi_1 and phi_2."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: A trajectory model, ``iterative`` or ``direct``; otherwise a variant of the denoiser.
        seed: Seed of weights, scenes and noise.
        steps: Optimiser steps.
        scenes: Number of training scenes.
        inner: Number of keyframes between the ends, N.
        losses: Weights of a denoiser's losses.
        options: Options of the noise levels, ``low`` and ``rise``.
        overrides: Overrides of the model's recipe.
        decoded: Use an L2 loss of decoded keyframes instead of losses of warped frames.
    """

    name: str
    seed: int = 0
    steps: int = 100
    scenes: int = 96
    inner: int = 7
    losses: tuple[tuple[str, float], ...] = ()
    options: tuple[tuple[str, float], ...] = ()
    overrides: tuple[str, ...] = ()
    decoded: bool = False

    @property
    def key(self) -> str:
        """Name for files."""
        name = self.name.replace(" + ", "_").replace(", ", "_").replace(" ", "-")
        return f"{name}-N{self.inner}-{self.steps}steps-seed{self.seed}"


@dataclass(frozen=True)
class Folders:
    """Folders of trained weights and of rendered scenes."""

    weights: Path
    scenes: Path
    may_train: bool = False


@dataclass
class Trained:
    """A finished run: the trained part, its model, and the CPU seconds of the training."""

    run: Run
    part: nn.Module
    model: Interpolator | None = None
    seconds: float = 0.0


@cache
def pictures(split: str) -> PicturePyramid:
    """Dead-leaves pictures of one split, 'train' or 'test', which are disjoint."""
    seed = SEEDS[split]
    images = [discs_and_boxes(np.random.default_rng([seed, i]), 288, 400, smallest=4.0) for i in range(16)]
    stack = np.stack([np.rint(255.0 * picture).astype(np.uint8) for picture in images])
    return PicturePyramid(torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous())


def create_scenes(split: str, numbers: range) -> SceneBatch:
    """A batch of random scenes by number."""
    textures, seed = pictures(split), SEEDS[split]
    samplers = [SceneSampler(np.random.default_rng([seed, n]), SIZE, len(textures), RECIPE) for n in numbers]
    return build_scenes([sampler.sample_scene() for sampler in samplers], textures, SIZE)


Data = dict[str, Tensor]


@torch.no_grad()
def load_scenes(split: str, count: int, folder: Path) -> Data:
    """SceneBatch at `FINE` + 1 knots and at free times, rendered once and saved in a file.

    ``frames`` (n, 17 + f, 3, h, w), 8 bits; ``times`` (n, 17 + f); ``latents`` (n, 17, c, hz, wz);
    ``flows`` (n, 17 + f, 10, 2, hz, wz) in pixels of the frames and ``visible``: to the first and the
    last frame, then backward and forward by 1, 2, 4 and 8 knots; ``coarse`` (n, 2, 2, h, w), DIS both ways.
    """
    file = folder / f"scenes-{split}-{count}.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_render_scene(split, n) for n in range(count)]
        save_file({key: torch.cat([part[key] for part in parts]) for key in parts[0]}, file)
    return load_file(file)


def _render_scene(split: str, number: int) -> Data:
    scene, model = create_scenes(split, range(number, number + 1)), build_model(Run("coarse"))
    free_times = np.random.default_rng([SEEDS[split], number, 5]).uniform(0.02, 0.98, FREE_TIMES[split])
    if split == "test":
        free_times = np.arange(1, 9) / 9
    times = torch.cat((torch.arange(FINE + 1) / FINE, torch.from_numpy(free_times).float()))[None]
    frames, labels = scene.frames(times)
    target_indices = [(0, FINE, *(min(max(i + d, 0), FINE) for n in STEPS for d in (-n, n))) for i in range(FINE + 1)]
    targets = torch.tensor(target_indices + [(0, FINE) * 5] * len(free_times))
    flows, visible = scene.flows(times, targets, labels, stride=STRIDE)
    latents = model.generator.encode(frames[0, : FINE + 1])[None]
    coarse = model.generator.coarse_flows(frames[:, 0], frames[:, FINE])  # pyright: ignore
    tensors = {"frames": (255.0 * frames).round().byte(), "times": times, "latents": latents, "flows": flows}
    tensors |= {"visible": visible, "coarse": coarse}
    if split == "test":  # exact flows to both ends on the grid of trajectories, at the free times
        ends = torch.arange(2.0)[None]
        tensors["fine"], tensors["fine_visible"] = scene.flows_to(times[:, FINE + 1 :], ends, stride=2)
    return {key: value.contiguous() for key, value in tensors.items()}


def batch_rows(run: Run, step: int, count: int) -> Tensor:
    """Indices of the scenes of a batch."""
    return torch.from_numpy(np.random.default_rng([run.seed, step]).choice(count, BATCH, replace=False))


def knot_times(inner: int) -> Tensor:
    """N + 2 evenly spaced times, both ends included."""
    return torch.arange(inner + 2) / (inner + 1)


def load_shipped_model() -> Interpolator:
    """RDVFI-S1 with its shipped weights, frozen."""
    return rdvfi.create_model(MODEL).requires_grad_(False).eval()


def build_model(run: Run) -> Interpolator:
    """RDVFI-S1 with a fresh denoiser of `WIDTH` channels, its other parts as shipped, and DIS as coarse flow."""
    torch.manual_seed(run.seed)
    model = rdvfi.build(MODEL_RECIPE, "coarse=dis", f"backbone.width={WIDTH}", *run.overrides)
    shipped = load_shipped_model()
    model.generator.autoencoder.load_state_dict(shipped.generator.autoencoder.state_dict())  # pyright: ignore
    model.trajectory.load_state_dict(shipped.trajectory.state_dict())
    model.renderer.load_state_dict(shipped.renderer.state_dict())
    return model.requires_grad_(False).eval()


def build_trajectory(run: Run) -> TrajectoryModel:
    """A trajectory model of `WIDTH` channels with fresh weights."""
    torch.manual_seed(run.seed)
    basis = rdvfi.bases.create("cubic")
    if run.name == "direct":
        return rdvfi.trajectories.create("direct", basis=basis, width=WIDTH)
    flow = rdvfi.flows.create("local", width=WIDTH)
    return rdvfi.trajectories.create("iterative", flow=flow, basis=basis, width=WIDTH)


def without_prior(latents: Tensor, inner: int) -> Keyframes:
    """Keyframes whose motion prior is zero flow."""
    b, _, _, h, w = latents.shape
    zero_flow = latents.new_zeros(b, 2, 2, STRIDE * h, STRIDE * w)
    return Keyframes(latents, knot_times(inner), prior=MotionPrior(zero_flow))


def motion_loss(run: Run, trajectory: TrajectoryModel, dataset: Data, step: int) -> Tensor:
    """Exact-flow loss of the flows to both ends, and of those between adjacent knots."""
    rows, knot_distance = batch_rows(run, step, len(dataset["latents"])), FINE // (run.inner + 1)
    keyframes = without_prior(dataset["latents"][rows, ::knot_distance], run.inner)
    flows, visible = (
        dataset["flows"][rows, : FINE + 1 : knot_distance] / STRIDE,
        dataset["visible"][rows, : FINE + 1 : knot_distance].float(),
    )
    target = torch.cat((flows[:, :, 0], flows[:, :, 1].flip(1)))[:, 1:]
    target_visible = torch.cat((visible[:, :, 0], visible[:, :, 1].flip(1)))[:, 1:]
    if isinstance(trajectory, DirectRegression):
        start = straight_motion_of(keyframes)
        return flow_loss((start.flows + trajectory.residual_motion(keyframes, start))[:, 1:], target, target_visible)
    assert isinstance(trajectory, IterativeFusion)
    adjacent = trajectory.adjacent_flows(keyframes)
    start = straight_motion_of(keyframes, adjacent.detach())
    predicted = start.flows + trajectory.residual_motion(keyframes, start, adjacent.detach())
    backward_index = 2 + 2 * STEPS.index(knot_distance)
    adjacent_target = torch.cat((flows[:, 1:, backward_index], flows[:, :-1, backward_index + 1].flip(1)))
    adjacent_visible = torch.cat((visible[:, 1:, backward_index], visible[:, :-1, backward_index + 1].flip(1)))
    return flow_loss(predicted[:, 1:], target, target_visible) + flow_loss(adjacent, adjacent_target, adjacent_visible)


def clip_batch(run: Run, dataset: Data, step: int) -> dict[str, Tensor]:
    """A batch in the format of training stages: nine knots, then free times."""
    rows = batch_rows(run, step, len(dataset["frames"]))
    time_indices = torch.cat((torch.arange(0, FINE + 1, 2), torch.arange(FINE + 1, dataset["times"].shape[1])))
    flow_indices = [0, 1, 2 + 2 * STEPS.index(2), 3 + 2 * STEPS.index(2)]
    return {
        "frames": dataset["frames"][rows][:, time_indices].float() / 255.0,
        "times": dataset["times"][rows][:, time_indices],
        "latents": dataset["latents"][rows, ::2],
        "flows": dataset["flows"][rows][:, time_indices][:, :, flow_indices],
        "visible": dataset["visible"][rows][:, time_indices][:, :, flow_indices].float(),
        "coarse": dataset["coarse"][rows],
    }


def keyframes_loss(run: Run, model: Interpolator, dataset: Data) -> Callable[[int], Tensor]:
    """A function that computes the loss of a denoiser in a step."""
    # Frames are rendered by the shipped trajectory model and renderer, frozen, as in the paper's second stage.
    objective = DiffusionObjective(model, WeightedLosses(dict(run.losses)), reconstruct_from=0.5, **dict(run.options))

    def loss(step: int) -> Tensor:
        batch, training_step = clip_batch(run, dataset, step), TrainingStep(step, run.steps, run.seed)
        total = torch.stack(list(objective(batch, training_step).values())).sum()
        return total + decoded_loss(model, batch, training_step) if run.decoded else total

    return loss


def decoded_loss(model: Interpolator, batch: dict[str, Tensor], training_step: TrainingStep) -> Tensor:
    """L2 loss of decoded keyframes, for direct generation."""
    generator, frames = model.generator, batch["frames"]
    ends = batch["latents"][:, 0], batch["latents"][:, -1]
    prior = MotionPrior(batch["coarse"])
    condition = generator.condition(frames[:, 0], frames[:, 8], latent0=ends[0], latent1=ends[1], prior=prior)
    noise = training_step.normal(*generator.noise_shape(len(frames), *SIZE))
    inner = generator.sample(condition, noise).latents
    decoded = generator.decode(inner.flatten(0, 1)).unflatten(0, inner.shape[:2])
    return 10.0 * (decoded - frames[:, 1:8]).square().mean()


def train(run: Run, folders: Folders) -> Trained:
    """Load the weights of a run, or train it if they do not exist and training is allowed.

    Raises:
        FileNotFoundError: If there are no weights and training is not allowed.
    """
    motion = run.name in ("iterative", "direct")
    model = load_shipped_model() if motion else build_model(run)
    part = build_trajectory(run) if motion else model.generator.denoiser  # pyright: ignore
    assert isinstance(part, nn.Module)
    file = folders.weights / f"{run.key}.safetensors"
    if file.exists():
        part.load_state_dict({key: value.float() for key, value in load_file(file).items()})
        part.requires_grad_(False).eval()
        return Trained(run, part, model)
    if not folders.may_train:
        raise FileNotFoundError(f"there is no {file}; make it with --train FOLDER")
    dataset = load_scenes("train", run.scenes, folders.scenes)
    start = time.process_time()
    part.requires_grad_(True).train()
    if motion:
        assert isinstance(part, TrajectoryModel)
        loss: Callable[[int], Tensor] = lambda step: motion_loss(run, part, dataset, step)  # noqa: E731
    else:
        loss = keyframes_loss(run, model, dataset)
    fit(part, loss, run)
    part.requires_grad_(False).eval()
    folders.weights.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half().contiguous() for key, value in part.state_dict().items()}, file)
    part.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return Trained(run, part, model, seconds=time.process_time() - start)


def fit(part: nn.Module, loss: Callable[[int], Tensor], run: Run) -> None:
    """Train with AdamW, with linear warm-up and cosine decay of the learning rate."""
    optimiser = torch.optim.AdamW(part.parameters(), lr=1.0, weight_decay=1e-4)
    warmup_steps = max(1, run.steps // 10)

    def learning_rate(step: int) -> float:
        decay = 0.5 * (1.0 + np.cos(np.pi * step / run.steps))
        return LEARNING_RATE * min(1.0, (step + 1) / warmup_steps) * decay

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, learning_rate)
    for step in range(run.steps):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{run.key} {step}/{run.steps}: {value.item():.4f}", flush=True)
