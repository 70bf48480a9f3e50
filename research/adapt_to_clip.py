"""Does it pay to adapt RDVFI-S to one clip before that is interpolated?

Only what an interpolator is given is used: every GAP-th frame. Of three neighbouring inputs a, b, c two ways to learn
without true frames between them are tried, for a bounded number of steps on the renderer (phi_s):

- ``cycle``: the frames halfway between a and b and between b and c are made, and from these two the frame halfway
  between them, which should be b (Reda et al., Unsupervised Video Interpolation Using Cycle Consistency, ICCV 2019,
  https://arxiv.org/abs/1906.05928);
- ``skip``: b itself is made from a and c, which are twice as far apart (the inner step of Choi et al., Scene-Adaptive
  Video Frame Interpolation via Meta-Learning, CVPR 2020, https://arxiv.org/abs/2004.00779, without the outer one).

The last fifth of the triples is left out. **Fall-back**: adapted weights are kept only if they make b from a and c
better there. What it was worth is then measured on the true frames between the inputs, which nothing above has seen.

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

GAP, PAIRS, SIZE, LONGEST, RATE = 4, 4, (160, 208), 352, 1e-4
HELD_OUT = 0.2
LOSSES = {"l1": 1.0, "edges": 1.0, "psnr": 0.03}

Triple = tuple[Tensor, Tensor, Tensor]


def triples(clip: Path) -> list[Triple]:
    """Three neighbouring inputs each, (1, 3, h, w) in [0, 1], without those across a cut."""
    held = open_clip(clip)
    frames = held.read(list(range(0, len(held), GAP)))
    inputs = [resize_image(rdvfi.to_tensor(frame), _reduced(frame.shape[:2])) for frame in frames]
    starts = [i for i in range(len(frames) - 2) if not has_cut(frames[i : i + 3])]
    return [(inputs[i], inputs[i + 1], inputs[i + 2]) for i in starts]


def _reduced(size: tuple[int, ...]) -> tuple[int, int]:
    """The size at which `rdvfi.evaluate` measures, too."""
    scale = min(1.0, LONGEST / max(size))
    return round(scale * size[0]), round(scale * size[1])


def halfway(model: rdvfi.Interpolator, first: Tensor, last: Tensor) -> Tensor:
    """The frame in the middle, with gradients of the renderer and of the frames that it is drawn from."""
    with torch.no_grad():
        noise = torch.randn(
            model.generator.noise_shape(1, *first.shape[-2:]), generator=torch.Generator().manual_seed(0)
        )
        keyframes = model.generator(first, last, noise)
        trajectory = model.trajectory(keyframes)
    clip = ClipBatch(torch.stack((first, last, first), 1), torch.tensor([[0.0, 1.0, 0.5]]), fixed=2)
    return render_free_frame(model, keyframes, trajectory, clip, 2).frames


def by_cycle(model: rdvfi.Interpolator, triple: Triple) -> Tensor:
    """b again, from the frames made on either side of it."""
    a, b, c = triple
    return halfway(model, halfway(model, a, b), halfway(model, b, c))


def by_skip(model: rdvfi.Interpolator, triple: Triple) -> Tensor:
    """b from its neighbours."""
    return halfway(model, triple[0], triple[2])


WAYS: dict[str, Callable[[rdvfi.Interpolator, Triple], Tensor]] = {"cycle": by_cycle, "skip": by_skip}


def cut(triple: Triple, rng: np.random.Generator) -> Triple:
    """The same square of all three, mirrored and played backwards at random."""
    h, w = (min(side, frame // 16 * 16) for side, frame in zip(SIZE, triple[0].shape[-2:], strict=True))
    y, x = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(triple[0].shape[-2:], (h, w), strict=True))
    a, b, c = (frame[..., y : y + h, x : x + w] for frame in triple)
    if rng.random() < 0.5:
        a, b, c = (frame.flip(-1) for frame in (a, b, c))
    return (a, b, c) if rng.random() < 0.5 else (c, b, a)


def adapted(start: rdvfi.Interpolator, way: str, found: list[Triple], steps: int) -> rdvfi.Interpolator:
    """A copy of the model, its renderer trained on triples."""
    model, rng = copy.deepcopy(start), np.random.default_rng(0)
    model.renderer.requires_grad_(True)
    weighted_losses, parameters = WeightedLosses(LOSSES), list(model.renderer.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10) * (1.0 - step / steps)
        triple = cut(found[int(rng.integers(len(found)))], rng)
        made = WAYS[way](model, triple)
        losses = weighted_losses(Evidence(step / steps, frames=FramePair(made, triple[1], model.generator.encode)))
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def proxy(model: rdvfi.Interpolator, held: list[Triple]) -> float:
    """Mean PSNR of b made from a and c: what can be known without true frames."""
    errors = [(model(a, c, [0.5])[:, 0].clamp(0, 1) - b).square().mean() for a, b, c in held]
    return float(torch.stack([-10 * error.clamp(min=1e-8).log10() for error in errors]).mean())


def study(clip: Path, steps: int) -> dict[str, object]:
    """Before and after, by both ways, with and without the fall-back."""
    start, found = rdvfi.create_model("rdvfi-s"), triples(clip)
    kept = len(found) - max(1, round(HELD_OUT * len(found)))
    learned, held = found[:kept], found[kept:][:3]
    models, row = {"before": start}, {"clip": clip.name, "gap": GAP, "steps": steps, "triples": kept}
    proxies = {"before": proxy(start, held)}
    for way in WAYS:
        began = time.monotonic()
        models[way] = adapted(start, way, learned, steps)
        row[f"seconds of {way}"] = round(time.monotonic() - began, 1)
        proxies[way] = proxy(models[way], held)
    scores = {s.method: s for s in rdvfi.evaluate(clip, gap=GAP, pairs=PAIRS, max_size=LONGEST, models=models).scores}
    for name in models:
        row[name] = {"psnr": scores[name].psnr, "ssim": scores[name].ssim, "held-out proxy": proxies[name]}
        if name != "before":
            chosen = name if proxies[name] > proxies["before"] else "before"
            row[name] |= {"kept": chosen == name, "psnr with fall-back": scores[chosen].psnr}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=16)
    given = parser.parse_args()
    rows = json.loads(given.output.read_text()) if given.output.exists() else []
    for clip in given.clips:
        if all(row["clip"] != clip.name for row in rows):
            rows.append(study(clip, given.steps))
            given.output.write_text(json.dumps(rows, indent=1) + "\n")
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
