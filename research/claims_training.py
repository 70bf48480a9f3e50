"""Small trainings behind `claims`: their scenes, one loop, and what each run learns.

Scenes are those of `rdvfi.data.synthetic` over dead-leaves pictures, so nothing has to be downloaded;
training and test use other pictures and other random numbers. Frames are 160x96, latents are those of
the autoencoder that ships with RDVFI-S, which is frozen like every part that a run does not train.
Scenes are drawn once and kept; runs of one seed see the same batches.

A *motion* run trains a trajectory on true latents at N + 2 knots with exact flow, and with no coarse
flow at all: it has to find the motion in the latents, as the paper's does. A *keyframes* run trains a
denoiser from scratch. A run that is in the cache is not trained again.
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
FREE = {"train": 2, "test": 8}
"""Times of a scene beside its knots; those of the test are i / 9."""
FINE = 16
"""Spans between the finest knots, of N = 15."""
STEPS = (1, 2, 4, 8)
"""Spans from knot to knot for N = 15, 7, 3 and 1."""
RATE = 2e-3
WIDTH = 24
"""Channels of every network that is trained; RDVFI-S1 has 48."""
MODEL, MODEL_RECIPE = "rdvfi-s1", "rdvfi_s1"
"""The model whose parts the trainings share: it has the paper's phi_1 and phi_2."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: What is trained: ``iterative`` or ``direct`` (motion); otherwise a denoiser's variant.
        seed: Of weights, scenes and noise.
        steps: Optimiser steps.
        scenes: How many scenes it learns from.
        inner: Keyframes between the ends, N.
        losses: Weights of a denoiser's losses.
        options: Of the noise levels: ``low`` and ``rise``.
        overrides: Of the model's recipe.
        decoded: Learn decoded keyframes by L2 too, instead of frames along the trajectory.
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
        """Its name in files."""
        name = self.name.replace(" + ", "_").replace(", ", "_").replace(" ", "-")
        return f"{name}-N{self.inner}-{self.steps}steps-seed{self.seed}"


@dataclass(frozen=True)
class Folders:
    """Where trained weights are, and where scenes are kept once they are drawn."""

    weights: Path
    scenes: Path
    may_train: bool = False


@dataclass
class Trained:
    """A finished run: its model or trajectory, and what it took."""

    run: Run
    part: nn.Module
    model: Interpolator | None = None
    seconds: float = 0.0


@cache
def pictures(split: str) -> PicturePyramid:
    """Dead-leaves pictures of one split, 'train' or 'test'; none is in both."""
    seed = SEEDS[split]
    drawn = [discs_and_boxes(np.random.default_rng([seed, i]), 288, 400, smallest=4.0) for i in range(16)]
    stack = np.stack([np.rint(255.0 * picture).astype(np.uint8) for picture in drawn])
    return PicturePyramid(torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous())


def scenes(split: str, numbers: range) -> SceneBatch:
    """A batch of random scenes by number."""
    known, seed = pictures(split), SEEDS[split]
    draws = [SceneSampler(np.random.default_rng([seed, n]), SIZE, len(known), RECIPE) for n in numbers]
    return build_scenes([draw.sample_scene() for draw in draws], known, SIZE)


Data = dict[str, Tensor]


@torch.no_grad()
def data(split: str, count: int, folder: Path) -> Data:
    """Scenes at `FINE` + 1 knots and at some free times, drawn once and kept in a file.

    ``frames`` (n, 17 + f, 3, h, w), 8 bits; ``times`` (n, 17 + f); ``latents`` (n, 17, c, hz, wz);
    ``flows`` (n, 17 + f, 10, 2, hz, wz) in pixels of the frames and ``visible``: to the first and the
    last frame, then back and onward by 1, 2, 4 and 8 knots; ``coarse`` (n, 2, 2, h, w), DIS both ways.
    """
    file = folder / f"scenes-{split}-{count}.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_drawn(split, n) for n in range(count)]
        save_file({key: torch.cat([part[key] for part in parts]) for key in parts[0]}, file)
    return load_file(file)


def _drawn(split: str, number: int) -> Data:
    scene, model = scenes(split, range(number, number + 1)), fresh(Run("coarse"))
    free = np.random.default_rng([SEEDS[split], number, 5]).uniform(0.02, 0.98, FREE[split])
    if split == "test":
        free = np.arange(1, 9) / 9
    times = torch.cat((torch.arange(FINE + 1) / FINE, torch.from_numpy(free).float()))[None]
    frames, labels = scene.frames(times)
    reach = [(0, FINE, *(min(max(i + d, 0), FINE) for n in STEPS for d in (-n, n))) for i in range(FINE + 1)]
    near = torch.tensor(reach + [(0, FINE) * 5] * len(free))
    flows, visible = scene.flows(times, near, labels, stride=STRIDE)
    latents = model.generator.encode(frames[0, : FINE + 1])[None]
    coarse = model.generator.coarse_flows(frames[:, 0], frames[:, FINE])  # pyright: ignore
    found = {"frames": (255.0 * frames).round().byte(), "times": times, "latents": latents, "flows": flows}
    found |= {"visible": visible, "coarse": coarse}
    if split == "test":  # exact flows to both ends on the grid of trajectories, at the free times
        ends = torch.arange(2.0)[None]
        found["fine"], found["fine_visible"] = scene.flows_to(times[:, FINE + 1 :], ends, stride=2)
    return {key: value.contiguous() for key, value in found.items()}


def rows(run: Run, step: int, count: int) -> Tensor:
    """Numbers of the scenes of a batch."""
    return torch.from_numpy(np.random.default_rng([run.seed, step]).choice(count, BATCH, replace=False))


def knots(inner: int) -> Tensor:
    """N + 2 evenly spaced times, both ends included."""
    return torch.arange(inner + 2) / (inner + 1)


def shipped() -> Interpolator:
    """RDVFI-S1 as it ships, frozen."""
    return rdvfi.create_model(MODEL).requires_grad_(False).eval()


def fresh(run: Run) -> Interpolator:
    """RDVFI-S1 at `WIDTH`, its denoiser fresh, its other parts as they ship; DIS is its coarse flow."""
    torch.manual_seed(run.seed)
    model = rdvfi.build(MODEL_RECIPE, "coarse=dis", f"backbone.width={WIDTH}", *run.overrides)
    known = shipped()
    model.generator.autoencoder.load_state_dict(known.generator.autoencoder.state_dict())  # pyright: ignore
    model.trajectory.load_state_dict(known.trajectory.state_dict())
    model.renderer.load_state_dict(known.renderer.state_dict())
    return model.requires_grad_(False).eval()


def fresh_trajectory(run: Run) -> TrajectoryModel:
    """A trajectory of `WIDTH` channels with fresh weights."""
    torch.manual_seed(run.seed)
    basis = rdvfi.bases.create("cubic")
    if run.name == "direct":
        return rdvfi.trajectories.create("direct", basis=basis, width=WIDTH)
    flow = rdvfi.flows.create("local", width=WIDTH)
    return rdvfi.trajectories.create("iterative", flow=flow, basis=basis, width=WIDTH)


def without_prior(latents: Tensor, inner: int) -> Keyframes:
    """Keyframes that say nothing of the motion: their straight motion is rest."""
    b, _, _, h, w = latents.shape
    rest = latents.new_zeros(b, 2, 2, STRIDE * h, STRIDE * w)
    return Keyframes(latents, knots(inner), prior=MotionPrior(rest))


def motion_loss(run: Run, trajectory: TrajectoryModel, known: Data, step: int) -> Tensor:
    """Exact-flow loss of the flows to both ends, and of the small motions, at the knots."""
    chosen, apart = rows(run, step, len(known["latents"])), FINE // (run.inner + 1)
    keyframes = without_prior(known["latents"][chosen, ::apart], run.inner)
    flows, seen = (
        known["flows"][chosen, : FINE + 1 : apart] / STRIDE,
        known["visible"][chosen, : FINE + 1 : apart].float(),
    )
    wanted = torch.cat((flows[:, :, 0], flows[:, :, 1].flip(1)))[:, 1:]
    shown = torch.cat((seen[:, :, 0], seen[:, :, 1].flip(1)))[:, 1:]
    if isinstance(trajectory, DirectRegression):
        start = straight_motion_of(keyframes)
        return flow_loss((start.flows + trajectory.residual_motion(keyframes, start))[:, 1:], wanted, shown)
    assert isinstance(trajectory, IterativeFusion)
    adjacent = trajectory.adjacent_flows(keyframes)
    start = straight_motion_of(keyframes, adjacent.detach())
    made = start.flows + trajectory.residual_motion(keyframes, start, adjacent.detach())
    back = 2 + 2 * STEPS.index(apart)
    small = torch.cat((flows[:, 1:, back], flows[:, :-1, back + 1].flip(1)))
    small_seen = torch.cat((seen[:, 1:, back], seen[:, :-1, back + 1].flip(1)))
    return flow_loss(made[:, 1:], wanted, shown) + flow_loss(adjacent, small, small_seen)


def clip_batch(run: Run, known: Data, step: int) -> dict[str, Tensor]:
    """A batch as a stage of training gets it: nine knots, then free times."""
    chosen = rows(run, step, len(known["frames"]))
    which = torch.cat((torch.arange(0, FINE + 1, 2), torch.arange(FINE + 1, known["times"].shape[1])))
    neighbours = [0, 1, 2 + 2 * STEPS.index(2), 3 + 2 * STEPS.index(2)]
    return {
        "frames": known["frames"][chosen][:, which].float() / 255.0,
        "times": known["times"][chosen][:, which],
        "latents": known["latents"][chosen, ::2],
        "flows": known["flows"][chosen][:, which][:, :, neighbours],
        "visible": known["visible"][chosen][:, which][:, :, neighbours].float(),
        "coarse": known["coarse"][chosen],
    }


def keyframes_loss(run: Run, model: Interpolator, known: Data) -> Callable[[int], Tensor]:
    """The losses of a denoiser, step by step."""
    # Frames are drawn by the shipped trajectory and renderer, frozen, as in the paper's second stage.
    objective = DiffusionObjective(model, WeightedLosses(dict(run.losses)), reconstruct_from=0.5, **dict(run.options))

    def loss(step: int) -> Tensor:
        batch, training_step = clip_batch(run, known, step), TrainingStep(step, run.steps, run.seed)
        total = torch.stack(list(objective(batch, training_step).values())).sum()
        return total + decoded_loss(model, batch, training_step) if run.decoded else total

    return loss


def decoded_loss(model: Interpolator, batch: dict[str, Tensor], training_step: TrainingStep) -> Tensor:
    """L2 of keyframes that are decoded as pictures: what direct generation is judged by."""
    generator, frames = model.generator, batch["frames"]
    ends = batch["latents"][:, 0], batch["latents"][:, -1]
    prior = MotionPrior(batch["coarse"])
    condition = generator.condition(frames[:, 0], frames[:, 8], latent0=ends[0], latent1=ends[1], prior=prior)
    noise = training_step.normal(*generator.noise_shape(len(frames), *SIZE))
    inner = generator.sample(condition, noise).latents
    made = generator.decode(inner.flatten(0, 1)).unflatten(0, inner.shape[:2])
    return 10.0 * (made - frames[:, 1:8]).square().mean()


def train(run: Run, folders: Folders) -> Trained:
    """Read a run's weights, or train it where that is allowed and they are not there.

    Raises:
        FileNotFoundError: If the weights are not there and it may not be trained.
    """
    motion = run.name in ("iterative", "direct")
    model = shipped() if motion else fresh(run)
    part = fresh_trajectory(run) if motion else model.generator.denoiser  # pyright: ignore
    assert isinstance(part, nn.Module)
    file = folders.weights / f"{run.key}.safetensors"
    if file.exists():
        part.load_state_dict({key: value.float() for key, value in load_file(file).items()})
        part.requires_grad_(False).eval()
        return Trained(run, part, model)
    if not folders.may_train:
        raise FileNotFoundError(f"there is no {file}; make it with --train FOLDER")
    known = data("train", run.scenes, folders.scenes)
    began = time.process_time()
    part.requires_grad_(True).train()
    if motion:
        assert isinstance(part, TrajectoryModel)
        loss: Callable[[int], Tensor] = lambda step: motion_loss(run, part, known, step)  # noqa: E731
    else:
        loss = keyframes_loss(run, model, known)
    fit(part, loss, run)
    part.requires_grad_(False).eval()
    folders.weights.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half().contiguous() for key, value in part.state_dict().items()}, file)
    part.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return Trained(run, part, model, seconds=time.process_time() - began)


def fit(part: nn.Module, loss: Callable[[int], Tensor], run: Run) -> None:
    """AdamW with a short rise and a cosine."""
    optimiser = torch.optim.AdamW(part.parameters(), lr=1.0, weight_decay=1e-4)
    rise = max(1, run.steps // 10)

    def rate(step: int) -> float:
        fall = 0.5 * (1.0 + np.cos(np.pi * step / run.steps))
        return RATE * min(1.0, (step + 1) / rise) * fall

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    for step in range(run.steps):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{run.key} {step}/{run.steps}: {value.item():.4f}", flush=True)
