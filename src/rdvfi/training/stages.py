"""The stages of training RDVFI-S.

0. `train_autoencoder`: latents of single frames, by reconstruction.
1. `train_motion`, `train_synthesis`: motion-guided decoding. True latents of the nine knots go in;
   phi_1 and phi_2 are supervised by the exact flow of procedural scenes, phi_s by the frames of
   procedural scenes and of a film. Backbone and autoencoder are frozen.
2. `train_keyframes`: one-step diffusion. Motion and synthesis are frozen; the noise level's lower
   bound rises to pure noise; L = L_theta (v-prediction) + 0.5 L_rec (frames, through the frozen
   motion and synthesis), and the exact flow of procedural scenes supervises the bends.

3. `train_synthesis` once more, on keyframes that the generator predicts, as phi_s will meet them.

Free times are uniform in (0.02, 0.98) for scenes, and frames of its own for the film.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.backbones.autoencoder import Autoencoder, reconstruction_loss
from rdvfi.backbones.compact import CompactKeyframes, knot_times
from rdvfi.backbones.diffusion import add_noise, velocity, velocity_from_clean
from rdvfi.data.moving import KNOTS
from rdvfi.data.pool import STRIDE, Pool
from rdvfi.data.sources import mixed
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Keyframes, Motion, Trajectory
from rdvfi.interpolator import Interpolator
from rdvfi.motion.iterative import IterativeFusion
from rdvfi.motion.line import starting_line
from rdvfi.training.loop import Losses, Schedule, train
from rdvfi.training.losses import (
    flow_loss,
    picture_loss,
    rising_noise_level,
    squared_error,
)

Report = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of an RDVFI-S, by their own types."""

    generator: CompactKeyframes
    trajectory: IterativeFusion
    renderer: nn.Module

    @classmethod
    def of(cls, model: Interpolator) -> "Parts":
        """Take a model apart.

        Raises:
            TypeError: If it is not made of 'compact' and 'iterative'.
        """
        generator, trajectory = model.generator, model.trajectory
        if not isinstance(generator, CompactKeyframes):
            raise TypeError(f"training needs the backbone 'compact'; got {generator}")
        if not isinstance(trajectory, IterativeFusion):
            raise TypeError(f"training needs the trajectory 'iterative'; got {trajectory}")
        return cls(generator, trajectory, model.renderer)


def _only(model: Interpolator, part: nn.Module) -> None:
    """Freeze everything but one part."""
    model.requires_grad_(False)
    part.requires_grad_(True)


def end_flows(batch: dict[str, Tensor]) -> Float[Tensor, "b 2 2 h w"]:
    """The pool's coarse flow at the frames' size."""
    h, w = batch["frames"].shape[-2:]
    return resize_flow(batch["coarse"].flatten(0, 1), (h, w)).unflatten(0, (-1, 2))


def true_keyframes(generator: CompactKeyframes, batch: dict[str, Tensor]) -> Keyframes:
    """Keyframes of the true frames at the knots."""
    if "latents" in batch:
        latents = batch["latents"]
    else:
        frames = batch["frames"][:, :KNOTS]
        with torch.no_grad():
            latents = generator.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    return Keyframes(latents, knot_times(latents.device), end_flows=end_flows(batch))


def train_autoencoder(
    model: Autoencoder,
    crops: Iterator[dict[str, Tensor]],
    schedule: Schedule,
    folder: Path,
    report: Report,
) -> None:
    """Stage 0: reconstruct crops, then measure the latents' statistics."""

    def loss(batch: dict[str, Tensor], step: int) -> Losses:
        images = batch["frames"][:, 0]
        raw = model.encoder(images - 0.5)
        output = model.decoder(raw) + 0.5
        return {"rec": reconstruction_loss(output, images), "size": 1e-3 * raw.square().mean()}

    model.requires_grad_(True)
    train("autoencoder", model, crops, loss, schedule, folder, report=report)
    model.calibrate(torch.cat([next(crops)["frames"][:, 0] for _ in range(16)]))


def motion_losses(
    trajectory: IterativeFusion, keyframes: Keyframes, batch: dict[str, Tensor]
) -> Losses:
    """Errors of the adjacent motions and of the fused flows against exact flow, latent pixels."""
    exact, visible = batch["flows"] / STRIDE, batch["visible"]
    adjacent = trajectory.adjacent_flows(keyframes)
    to_before = exact[:, 1:KNOTS, 2], visible[:, 1:KNOTS, 2]
    to_after = exact[:, : KNOTS - 1, 3].flip(1), visible[:, : KNOTS - 1, 3].flip(1)
    near = flow_loss(
        adjacent, torch.cat((to_before[0], to_after[0])), torch.cat((to_before[1], to_after[1]))
    )
    # phi_2 learns to fuse what phi_1 says, not to change it: as in AccFlow, no gradient goes back.
    line = starting_line(keyframes)
    bends = trajectory.bends(keyframes, line, adjacent.detach())
    flows = line.flows + bends
    both = torch.cat((exact[:, :KNOTS, 0], exact[:, :KNOTS, 1].flip(1)))
    seen = torch.cat((visible[:, :KNOTS, 0], visible[:, :KNOTS, 1].flip(1)))
    return {"adjacent": near, "fused": flow_loss(flows[:, 1:], both[:, 1:], seen[:, 1:])}


def _partial_bends(
    keyframes: Keyframes, batch: dict[str, Tensor], step: int
) -> Float[Tensor, "b k 2 2 hz wz"]:
    """A random share, per sample, of the exact departure from the straight line.

    So phi_2 meets starting lines of every quality, as a generator makes them.
    """
    exact = batch["flows"][:, :KNOTS, :2] / STRIDE
    to_first, to_last = starting_line(keyframes).straight.chunk(2)
    straight = torch.stack((to_first, to_last.flip(1)), dim=2)
    share = torch.rand(exact.shape[0], generator=torch.Generator().manual_seed(step))
    bends = share[:, None, None, None, None, None] * (exact - straight)
    bends[:, 0], bends[:, -1] = 0.0, 0.0
    return bends


def train_motion(
    model: Interpolator, pool: Pool, schedule: Schedule, folder: Path, report: Report
) -> None:
    """Stage 1, motion: phi_1 and phi_2 on true latents of procedural scenes, by exact flow."""
    parts = Parts.of(model)
    _only(model, parts.trajectory)

    def loss(batch: dict[str, Tensor], step: int) -> Losses:
        keyframes = true_keyframes(parts.generator, batch)
        keyframes = replace(keyframes, bends=_partial_bends(keyframes, batch, step))
        return motion_losses(parts.trajectory, keyframes, batch)

    train("motion", parts.trajectory, pool.batches(2, 11), loss, schedule, folder, report=report)


def render_random(
    model: Interpolator, keyframes: Keyframes, batch: dict[str, Tensor], step: int
) -> tuple[Float[Tensor, "b 1 3 h w"], Float[Tensor, "b 1 3 h w"]]:
    """One frame at one of the batch's free times, per sample, and its truth."""
    index = KNOTS + step % (batch["frames"].shape[1] - KNOTS)
    frames, truth, rows = batch["frames"], batch["frames"][:, index : index + 1], []
    trajectory = model.trajectory(keyframes)
    # Times differ between samples, and a renderer takes times that a batch shares.
    for i in range(frames.shape[0]):
        one = _sample(keyframes, trajectory, i)
        first, last = frames[i : i + 1, 0], frames[i : i + 1, KNOTS - 1]
        rows.append(model.renderer(first, last, one, batch["times"][i, index : index + 1]))
    return torch.cat(rows), truth


def _sample(keyframes: Keyframes, trajectory: Trajectory, i: int) -> Motion:
    flows = keyframes.end_flows
    keys = Keyframes(
        keyframes.latents[i : i + 1],
        keyframes.times,
        end_flows=None if flows is None else flows[i : i + 1],
    )
    path = replace(  # pyright: ignore[reportCallIssue]
        trajectory,  # pyright: ignore[reportArgumentType]
        from_first=trajectory.from_first[i : i + 1],  # pyright: ignore[reportAttributeAccessIssue]
        from_last=trajectory.from_last[i : i + 1],  # pyright: ignore[reportAttributeAccessIssue]
    )
    return Motion(keys, path)


def train_synthesis(
    model: Interpolator,
    pools: tuple[Pool, ...],
    schedule: Schedule,
    folder: Path,
    report: Report,
    *,
    predicted: bool,
) -> None:
    """phi_s, by the frames at free times: stage 1 on true latents, stage 3 on predicted ones."""
    parts = Parts.of(model)
    _only(model, parts.renderer)

    def loss(batch: dict[str, Tensor], step: int) -> Losses:
        with torch.no_grad():
            keyframes = true_keyframes(parts.generator, batch)
            if predicted:
                keyframes = predicted_keyframes(parts.generator, keyframes, step)
            elif "flows" in batch:
                keyframes = replace(keyframes, bends=_partial_bends(keyframes, batch, step))
        output, truth = render_random(model, keyframes, batch, step)
        error = squared_error(output, truth)
        return {"picture": picture_loss(output, truth), "l2": _PICTURE_SCALE * error}

    stream = mixed(pools, 4, 41 if predicted else 21)
    name = "refinement" if predicted else "synthesis"
    train(name, parts.renderer, stream, loss, schedule, folder, report=report)


def predicted_keyframes(generator: CompactKeyframes, truth: Keyframes, seed: int) -> Keyframes:
    """What the generator makes of the true keyframes' two ends, from pure noise."""
    assert truth.end_flows is not None
    first, last = truth.latents[:, 0], truth.latents[:, -1]
    ends = generator.ends(first, last, truth.end_flows[:, 0], truth.end_flows[:, 1])
    shape = truth.latents[:, 1:-1].shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    bent = generator.denoise(ends, noise, torch.ones(shape[0]))
    return generator.keyframes(ends, bent, truth.end_flows)


def train_keyframes(
    model: Interpolator,
    pools: tuple[Pool, ...],
    schedule: Schedule,
    folder: Path,
    report: Report,
    *,
    decodable: bool,
    reconstruct_from: float = 0.8,
) -> None:
    """Stage 2: the denoiser, towards one step from pure noise.

    Args:
        model: Its motion and synthesis are frozen.
        pools: Samples; those with exact flow also supervise the bends.
        schedule: How long and how fast.
        folder: Where checkpoints and logs go.
        report: Receives progress lines.
        decodable: Whether motion and synthesis are trained, so that L_rec means something.
        reconstruct_from: Share of training after which L_rec joins in.

    Raises:
        ValueError: If training comes to L_rec and the model is not decodable.
    """
    parts = Parts.of(model)
    generator = parts.generator
    _only(model, generator.denoiser)

    def loss(batch: dict[str, Tensor], step: int) -> Losses:
        truth = true_keyframes(generator, batch)
        assert truth.end_flows is not None
        clean = truth.latents[:, 1:-1]
        ends = generator.ends(
            truth.latents[:, 0], truth.latents[:, -1], truth.end_flows[:, 0], truth.end_flows[:, 1]
        )
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(step))
        sigma = rising_noise_level(
            step, schedule.steps, clean.shape[0], torch.Generator().manual_seed(step)
        )
        noisy = add_noise(clean, noise, sigma)
        bent = generator.denoise(ends, noisy, sigma)
        predicted = velocity_from_clean(noisy, bent.latents, sigma)
        losses = {"theta": squared_error(predicted, velocity(clean, noise, sigma))}
        if "flows" in batch:
            exact, seen = batch["flows"] / STRIDE, batch["visible"]
            inner = slice(1, KNOTS - 1)
            losses["bend"] = 0.5 * (
                flow_loss(bent.to_first, exact[:, inner, 0], seen[:, inner, 0])
                + flow_loss(bent.to_last, exact[:, inner, 1], seen[:, inner, 1])
            )
        if step >= reconstruct_from * schedule.steps:
            if not decodable:
                raise ValueError("L_rec needs motion and synthesis; train those stages first")
            made = generator.keyframes(ends, bent, truth.end_flows)
            output, frame = render_random(model, made, batch, step)
            losses["rec"] = 0.5 * squared_error(output, frame) * _PICTURE_SCALE
        return losses

    stream = mixed(pools, 4, 31)
    train("keyframes", generator.denoiser, stream, loss, schedule, folder, report=report)


_PICTURE_SCALE = 20.0
"""Brings the squared error of frames (about 0.005) to the size of that of unit-variance latents."""


def crops(pictures: Callable[[np.random.Generator], np.ndarray], side: int = 128):
    """A function of a random generator that cuts a square from a picture, for stage 0."""

    def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
        import cv2

        picture = pictures(rng)
        scale = rng.uniform(0.4, 1.0)
        h, w = (max(side, int(n * scale)) for n in picture.shape[:2])
        picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        y, x = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
        return {"frames": picture[y : y + side, x : x + side][None]}

    return make
