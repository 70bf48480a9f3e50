"""Design search for RDVFI-S1: one choice exchanged at a time, all trained for the same number of steps.

    python research/search_design.py data runs/search \
        benchmarks/results/0.2.0/design-search.jsonl --clip bikes.mp4

All variants start from the shipped weights. If a variant changes a part, that part is trained from
scratch, by its stage of ``rdvfi_s1`` with the schedule shortened to `design.STEPS`, with the same
batches and seed; the shipped choice is trained in the same way as the reference. If it changes no weights
(knots, bases, omitted parts), the shipped ones are evaluated.

The output contains one line per variant: scores on the held-out sets and on a clip, the error of
its trajectories, steps, minutes, seed and commit. An interrupted run can be continued.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

import rdvfi
from compare_trajectories import exact_flows
from design import ENDS, VARIANTS, Part, Variant
from rdvfi.config import build
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.evaluation.environment import read_environment
from rdvfi.evaluation.evaluation_data import EvaluationData
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.measurement import measure
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.procedural import HELD_OUT_SETS, held_out_pictures, held_out_scene
from rdvfi.interfaces import Keyframes, MotionPrior
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.iterative import IterativeFusion
from rdvfi.motion.trajectory.straight_motion import straight_motion_of
from rdvfi.saved_models.weight_files import write_weights
from rdvfi.training.engine.loop import Trainer
from rdvfi.training.feeds import open_feed
from rdvfi.training.losses.evidence import FlowPair
from rdvfi.training.model_parts import get_part
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.decoding import DecodingObjective
from rdvfi.training.objectives.objective import Objective
from rdvfi.training.objectives.objective_factory import build_objective
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.recipes import compose_stages
from rdvfi.training.stage import Stage
from rdvfi.types import Image, Times, Video

STAGE_OVERRIDES: dict[str, tuple[str, ...]] = {
    "motion": (),
    "keyframes": (),
    "refinement": (
        "data.batch=4",
        "data.seed=41",
        "data.symmetries=false",
        "engine.rate=6e-4",
        "losses.psnr=0",
        "losses.imitation=0",
    ),
}
"""Overrides of each stage's recipe; variants override the weights of losses."""
SEED = 0
GAP = 9
TIMES = torch.arange(1, GAP) / GAP
PAIRS = {"procedural": 12, "procedural-limbs": 6}
CLIP_PAIRS = 3

Report = Callable[[str], None]


class EndsDecodingObjective(DecodingObjective):
    """`DecodingObjective` with both ends as the only knots, for the backbone ``ends``.

    This backbone has no diffusion step, so no stage of a recipe supports it.
    """

    def true_keyframes(self, clip: ClipBatch) -> Keyframes:
        """Latents of both ends, and the coarse flow between them."""
        assert clip.latents is not None
        assert clip.coarse is not None
        return Keyframes(clip.latents, torch.arange(2.0), prior=MotionPrior(clip.coarse))

    def _keyframes(self, clip: ClipBatch, step: TrainingStep) -> Keyframes:
        return self.true_keyframes(clip)

    def _flow_pairs(self, keyframes: Keyframes, clip: ClipBatch) -> tuple[FlowPair, FlowPair | None]:
        trajectory = self.model.trajectory
        assert isinstance(trajectory, IterativeFusion)
        true_flows, visible = clip.knot_flows()
        target = torch.cat((true_flows[:, 1:, 0], true_flows[:, :1, 1]))
        target_visible = torch.cat((visible[:, 1:, 0], visible[:, :1, 1]))
        adjacent = trajectory.adjacent_flows(keyframes)
        start = straight_motion_of(keyframes, adjacent.detach())
        flows = start.flows + trajectory.residual_motion(keyframes, start, adjacent.detach())
        return FlowPair(flows[:, 1:], target, target_visible), FlowPair(adjacent, target, target_visible)


def assemble_model(part: Part | None, sources: Iterable[Part], out: Path, keys: Sequence[str]) -> Interpolator:
    """The model with shipped weights, except for a fresh ``part``, and the trained parts of ``sources``."""
    parts = [*sources, *([part] if part else [])]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = build("rdvfi_s1", *dict.fromkeys(o for part in parts for o in part.model))
    shipped = rdvfi.create_model("rdvfi-s1")
    fresh = {part.name for part in parts}
    model.generator.autoencoder.load_state_dict(shipped.generator.autoencoder.state_dict())  # pyright: ignore
    if "denoiser" not in fresh and hasattr(model.generator, "denoiser"):
        get_part(model, "denoiser").load_state_dict(get_part(shipped, "denoiser").state_dict())
    for name in ("trajectory", "renderer"):
        if name not in fresh:
            get_part(model, name).load_state_dict(get_part(shipped, name).state_dict())
    for part, key in zip(sources, keys, strict=True):
        get_part(model, part.name).load_state_dict(_read(out / f"{key}.safetensors"))
    return model


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


def train_part(variant: Variant, model: Interpolator, data: Path, out: Path, report: Report) -> None:
    """Train a variant's part in ``model``, or load its weights if they exist."""
    assert variant.part is not None
    part, file = variant.part, out / f"{variant.key}.safetensors"
    module = get_part(model, part.name)
    if not file.exists():
        stage = compose_stage(variant.key, part, data, out)
        feed = open_feed(stage.data, rdvfi.create_model("rdvfi-s1"), out, report)
        objective = create_objective(stage, part, model.train())
        Trainer(stage.stage, objective, feed, stage.engine, out, report=report).fit()
        write_weights(file, dict(module.state_dict()))
    module.load_state_dict(_read(file))


def compose_stage(name: str, part: Part, data: Path, out: Path) -> Stage:
    """The training stage of a part, with the shortened schedule."""
    shortened = (
        f"engine.steps={part.steps}",
        f"engine.seed={SEED}",
        "engine.warmup=30",
        "engine.average=0.97",
        "engine.save_every=80",
        "engine.device=cpu",
    )
    fixed = (f"data.folder={data}", f"out={out}", f"stage={name}", *shortened, *STAGE_OVERRIDES[part.stage])
    return compose_stages(f"rdvfi_s1/{part.stage}", [*fixed, *part.overrides])[0]


def create_objective(stage: Stage, part: Part, model: Interpolator) -> Objective:
    """The objective of the stage; `EndsDecodingObjective` for the backbone ``ends``."""
    if part.model != ENDS:
        return build_objective(stage, model)
    model.requires_grad_(False)
    get_part(model, part.name).requires_grad_(True)
    from rdvfi.training.losses.loss_registry import WeightedLosses

    objective = EndsDecodingObjective.__new__(EndsDecodingObjective)
    nn.Module.__init__(objective)
    objective.model, objective.losses = model, WeightedLosses(stage.losses, stage.settings)
    objective.predicted, objective.knot_stride = False, KNOTS - 1
    return objective


class FlowRecorder(ModelMethod):
    """A model that records the flows of every pair at `TIMES`."""

    def __init__(self, model: Interpolator, *, name: str) -> None:
        super().__init__(model, name=name)
        self.recorded_flows: list[Tensor] = []

    @torch.inference_mode()
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at ``times``; the flows at `TIMES` are recorded."""
        motion = self.model.estimate(img0, img1)
        self.recorded_flows.append(torch.stack(motion.trajectory.at(TIMES), dim=2))
        return self.model.render(img0, img1, motion, times)


@cache
def exact_scene_flows(name: str, number: int) -> tuple[Tensor, Tensor]:
    """Exact flows of a held-out scene, in pixels of half its size, and visibility."""
    scene = held_out_scene(name, number, held_out_pictures())
    return exact_flows(scene, TIMES)


@cache
def windows(clip: str, pairs: int) -> tuple[EvaluationWindow, ...]:
    """Windows of a clip, as in `rdvfi evaluate`."""
    return tuple(EvaluationData(clip, gap=GAP, pairs=pairs).windows())


def evaluate_method(method: ModelMethod, clip: str, pairs: int) -> dict[str, float]:
    """PSNR in dB and SSIM, means over all new frames."""
    score = measure(windows(clip, pairs), [method], device=torch.device("cpu")).scores[0]
    return {"pairs": pairs, "psnr": score.psnr, "ssim": score.ssim}


def evaluate_variant(model: Interpolator, clip: Path | None) -> dict[str, dict[str, float]]:
    """Scores and flow errors on each held-out set, and scores on the clip if given."""
    results = {}
    for name, pairs in PAIRS.items():
        method = FlowRecorder(model, name="model")
        score = evaluate_method(method, name, pairs)
        errors = []
        for number, flows in enumerate(method.recorded_flows[1:]):  # the first call was a warm-up
            target, visible = exact_scene_flows(name, number)
            errors.append((flows - target).norm(dim=3)[visible].sort().values)
        mean = torch.stack([error.mean() for error in errors]).mean()
        percentile = torch.stack([error[int(0.99 * (len(error) - 1))] for error in errors]).mean()
        results[name] = {**score, "epe": float(mean), "epe_p99": float(percentile)}
    if clip is not None:
        results[clip.stem] = evaluate_method(ModelMethod(model, name="model"), str(clip), CLIP_PAIRS)
    return results


def run(variant: Variant, data: Path, out: Path, clip: Path | None, report: Report) -> dict:
    """Train and measure one variant."""
    parts = {other.key: other.part for other in VARIANTS}
    sources = [part for key in variant.uses if (part := parts[key]) is not None]
    model = assemble_model(variant.part, sources, out, variant.uses)
    part = variant.part
    start_time = time.monotonic()
    if part is not None:
        train_part(variant, model, data, out, report)
    minutes = (time.monotonic() - start_time) / 60.0
    model = variant.change(model.requires_grad_(False).eval())
    return {
        "group": variant.group,
        "variant": variant.name,
        "part": None if part is None else asdict(part),
        "uses": variant.uses,
        "steps": 0 if part is None else part.steps,
        "minutes": round(minutes, 2),
        "seed": SEED,
        "scores": {
            name: {key: round(value, 4) for key, value in scores.items()}
            for name, scores in evaluate_variant(model, clip).items()
        },
        "environment": asdict(read_environment(torch.device("cpu"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="training data, as for rdvfi train")
    parser.add_argument("out", type=Path, help="folder of weights and caches")
    parser.add_argument("output", type=Path, help="a file of JSON lines, to which is added")
    parser.add_argument("--clip", type=Path, help="a video on which variants are measured too")
    arguments = parser.parse_args()
    assert set(PAIRS) <= set(HELD_OUT_SETS)
    done = set()
    if arguments.output.exists():
        rows = [json.loads(line) for line in arguments.output.read_text().splitlines()]
        done = {(row["group"], row["variant"]) for row in rows}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        if (variant.group, variant.name) in done:
            continue
        row = run(variant, arguments.data, arguments.out, arguments.clip, print)
        with arguments.output.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(variant.key, json.dumps(row["scores"]), flush=True)


if __name__ == "__main__":
    main()
