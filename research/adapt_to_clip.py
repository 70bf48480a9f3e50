"""Adaptation of RDVFI-S to a clip before it is interpolated.

Only the inputs, every GAP-th frame, are used. From three consecutive inputs a, b, c, two objectives without true frames
between them train the renderer (phi_s) for a fixed number of steps:

- ``cycle``: the frames halfway between a and b and between b and c are interpolated, and from these the frame halfway
  between them, which should be b (Reda et al., Unsupervised Video Interpolation Using Cycle Consistency, ICCV 2019,
  https://arxiv.org/abs/1906.05928);
- ``skip``: b is interpolated from a and c, which are twice as far apart (the inner step of Choi et al., Scene-Adaptive
  Video Frame Interpolation via Meta-Learning, CVPR 2020, https://arxiv.org/abs/2004.00779, without the outer one).

The last fifth of the triples is held out. **Fall-back**: adapted weights are kept only if they interpolate b from a and
c better there. The effect is then measured on the true frames between the inputs, which are not used above.

    python research/adapt_to_clip.py benchmarks/results/0.2.0/adapt-to-clip.json bikes.mp4 carphone_pristine.mp4 ...
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import rdvfi
from rdvfi.geometry import resize_image
from rdvfi.media.clip import open_clip
from rdvfi.media.scene_cuts import has_cut
from rdvfi.training.losses.evidence import FramePair
from rdvfi.training.losses.loss_registry import Evidence, WeightedLosses
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.rendering import render_free_frame

GAP, PAIRS, SIZE, MAX_SIDE, LEARNING_RATE = 4, 4, (160, 208), 352, 1e-4
HELD_OUT = 0.2
LOSSES = {"l1": 1.0, "edges": 1.0, "psnr": 0.03}

Triple = tuple[Tensor, Tensor, Tensor]


def read_triples(clip: Path) -> list[Triple]:
    """Triples of consecutive inputs, (1, 3, h, w) in [0, 1], except those across a cut."""
    opened = open_clip(clip)
    frames = opened.read(list(range(0, len(opened), GAP)))
    inputs = [resize_image(rdvfi.to_tensor(frame), _limited_size(frame.shape[:2])) for frame in frames]
    starts = [i for i in range(len(frames) - 2) if not has_cut(frames[i : i + 3])]
    return [(inputs[i], inputs[i + 1], inputs[i + 2]) for i in starts]


def _limited_size(size: tuple[int, ...]) -> tuple[int, int]:
    """The size after reduction to `MAX_SIDE`, as by `rdvfi.evaluate`."""
    scale = min(1.0, MAX_SIDE / max(size))
    return round(scale * size[0]), round(scale * size[1])


def halfway(model: rdvfi.Interpolator, first: Tensor, last: Tensor) -> Tensor:
    """The middle frame, with gradients of the renderer and of both frames."""
    with torch.no_grad():
        noise = torch.randn(
            model.generator.noise_shape(1, *first.shape[-2:]), generator=torch.Generator().manual_seed(0)
        )
        keyframes = model.generator(first, last, noise)
        trajectory = model.trajectory(keyframes)
    clip = ClipBatch(torch.stack((first, last, first), 1), torch.tensor([[0.0, 1.0, 0.5]]), fixed=2)
    return render_free_frame(model, keyframes, trajectory, clip, 2).frames


def reconstruct_by_cycle(model: rdvfi.Interpolator, triple: Triple) -> Tensor:
    """b, interpolated from the frames interpolated on either side of it."""
    a, b, c = triple
    return halfway(model, halfway(model, a, b), halfway(model, b, c))


def reconstruct_by_skip(model: rdvfi.Interpolator, triple: Triple) -> Tensor:
    """b, interpolated from its neighbours."""
    return halfway(model, triple[0], triple[2])


OBJECTIVES: dict[str, Callable[[rdvfi.Interpolator, Triple], Tensor]] = {
    "cycle": reconstruct_by_cycle,
    "skip": reconstruct_by_skip,
}


def random_crop(triple: Triple, rng: np.random.Generator) -> Triple:
    """The same random crop of all three frames, randomly mirrored and reversed in time."""
    h, w = (min(side, frame // 16 * 16) for side, frame in zip(SIZE, triple[0].shape[-2:], strict=True))
    y, x = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(triple[0].shape[-2:], (h, w), strict=True))
    a, b, c = (frame[..., y : y + h, x : x + w] for frame in triple)
    if rng.random() < 0.5:
        a, b, c = (frame.flip(-1) for frame in (a, b, c))
    return (a, b, c) if rng.random() < 0.5 else (c, b, a)


def adapt_renderer(
    start: rdvfi.Interpolator, objective: str, all_triples: list[Triple], steps: int
) -> rdvfi.Interpolator:
    """A copy of the model with its renderer trained on triples."""
    model, rng = copy.deepcopy(start), np.random.default_rng(0)
    model.renderer.requires_grad_(True)
    weighted_losses, parameters = WeightedLosses(LOSSES), list(model.renderer.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 10) * (1.0 - step / steps)
        triple = random_crop(all_triples[int(rng.integers(len(all_triples)))], rng)
        frame = OBJECTIVES[objective](model, triple)
        losses = weighted_losses(Evidence(step / steps, frames=FramePair(frame, triple[1], model.generator.encode)))
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def held_out_psnr(model: rdvfi.Interpolator, held_out: list[Triple]) -> float:
    """Mean PSNR of b interpolated from a and c, which needs no true frames between the inputs."""
    errors = [(model(a, c, [0.5])[:, 0].clamp(0, 1) - b).square().mean() for a, b, c in held_out]
    return float(torch.stack([-10 * error.clamp(min=1e-8).log10() for error in errors]).mean())


def evaluate_adaptation(clip: Path, steps: int) -> dict[str, object]:
    """Scores before and after adaptation, by both objectives, with and without the fall-back."""
    start, all_triples = rdvfi.create_model("rdvfi-s"), read_triples(clip)
    training_count = len(all_triples) - max(1, round(HELD_OUT * len(all_triples)))
    training, held_out = all_triples[:training_count], all_triples[training_count:][:3]
    models, row = {"before": start}, {"clip": clip.name, "gap": GAP, "steps": steps, "triples": training_count}
    proxies = {"before": held_out_psnr(start, held_out)}
    for objective in OBJECTIVES:
        start_time = time.monotonic()
        models[objective] = adapt_renderer(start, objective, training, steps)
        row[f"seconds of {objective}"] = round(time.monotonic() - start_time, 1)
        proxies[objective] = held_out_psnr(models[objective], held_out)
    scores = {s.method: s for s in rdvfi.evaluate(clip, gap=GAP, pairs=PAIRS, max_size=MAX_SIDE, models=models).scores}
    for name in models:
        row[name] = {"psnr": scores[name].psnr, "ssim": scores[name].ssim, "held-out proxy": proxies[name]}
        if name != "before":
            selected = name if proxies[name] > proxies["before"] else "before"
            row[name] |= {"kept": selected == name, "psnr with fall-back": scores[selected].psnr}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    for clip in arguments.clips:
        if all(row["clip"] != clip.name for row in rows):
            rows.append(evaluate_adaptation(clip, arguments.steps))
            arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
