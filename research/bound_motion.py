"""Where a model loses: its coarse flow, its knots, or its drawing, replaced by the truth in turn.

    python research/bound_motion.py benchmarks/results/0.2.0/bounds.json --model rdvfi-s1

Procedural scenes (`rdvfi.evaluation.procedural`) give the exact flow between the end frames and at
the knots. Measured on both held-out sets at x9 are the model as it is, the model with exact coarse
flow, and with exact flows at the knots of its trajectory; the last one also without phi_s. The
distance from one to the next is what better motion of that kind could gain.
"""

import argparse
import json
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import rdvfi
from compare_trajectories import KNOTS, exact
from rdvfi.data.synthetic.layered_scenes import SceneBatch
from rdvfi.evaluation.laboratory.scene_builder import SUPERSAMPLE
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.procedural import HELD_OUT_SETS, held_out_pictures, held_out_scene
from rdvfi.evaluation.run_evaluation import evaluate
from rdvfi.interfaces import (
    FlowEstimator,
    Keyframes,
    Reads,
    Renderer,
    Trajectory,
    TrajectoryModel,
)
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.knots import trajectory_over

GAP = 9


class ExactCoarse(FlowEstimator):
    """End-to-end flow of known scenes, which are recognised by their pictures."""

    reads = Reads.PIXELS

    def __init__(self, scenes: list[SceneBatch]) -> None:
        super().__init__()
        self._known: list[tuple[Tensor, Tensor]] = []
        for scene in scenes:
            ends = torch.tensor([0.0, 1.0])
            flows, _ = scene.flows_to(ends[None], ends[None])
            for i, image in enumerate(seen(scene)):
                self._known.append((image[None], flows[:, i, 1 - i]))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Flow of the scene whose picture is most like each source, (n, 2, h, w)."""
        return torch.cat([nearest(image[None], self._known) for image in source])


class ExactKnots(TrajectoryModel):
    """Exact flows at the knots, in the place of a trajectory model.

    Args:
        replaced: Its basis and kind of knots are kept.
        scenes: Whose flows.
    """

    def __init__(self, replaced: TrajectoryModel, scenes: list[SceneBatch]) -> None:
        super().__init__()
        self.replaced, self.basis_reach = replaced, replaced.basis_reach
        self._known = [(seen(scene)[:1], exact(scene, KNOTS)[0]) for scene in scenes]
        self._fields = self._known[0][1]

    @property
    def reads(self) -> Reads:
        """Nothing, in truth."""
        return Reads.LATENTS

    def look_at(self, first: Tensor) -> None:
        """Take the scene that begins with this frame."""
        self._fields = nearest(first, self._known)

    def forward(self, keyframes: Keyframes) -> Trajectory:
        """The trajectory through the exact flows of the scene that was named."""
        fields = (self._fields[:, :, 0], self._fields[:, :, 1])
        return trajectory_over(
            self.replaced.knots,  # pyright: ignore[reportArgumentType]
            fields,
            keyframes.times,
            self.replaced.basis,  # pyright: ignore[reportArgumentType]
        )


def seen(scene: SceneBatch) -> Tensor:
    """Both end frames as `rdvfi.evaluation.procedural` draws them, (2, 3, h, w)."""
    return scene.frames(torch.tensor([[0.0, 1.0]]), supersample=SUPERSAMPLE)[0][0]


def nearest(image: Tensor, known: list[tuple[Tensor, Tensor]]) -> Tensor:
    """What is known of the picture that is most like this one."""
    return min(known, key=lambda each: float((each[0] - image).abs().mean()))[1]


class WithExactKnots(ModelMethod):
    """A model whose trajectory is told which scene it is in."""

    @torch.inference_mode()
    def __call__(self, img0: Tensor, img1: Tensor, times: Tensor) -> Tensor:
        """Frames at ``times``, once the trajectory knows its scene."""
        trajectory = self.model.trajectory
        assert isinstance(trajectory, ExactKnots)
        trajectory.look_at(img0)
        return super().__call__(img0, img1, times)


def variants(model: Interpolator, scenes: list[SceneBatch]) -> list[ModelMethod]:
    """The model as it is, and with parts replaced by the truth."""
    informed = deepcopy(model)
    informed.generator.coarse = ExactCoarse(scenes)  # pyright: ignore[reportAttributeAccessIssue]
    knots = ExactKnots(model.trajectory, scenes)

    def led(renderer: Renderer) -> Interpolator:
        area = model.motion_area
        return Interpolator(model.generator, knots, renderer, motion_area=area).eval()

    return [
        ModelMethod(model, name="as it is"),
        ModelMethod(informed, name="exact coarse flow"),
        WithExactKnots(led(model.renderer), name="exact knots"),
        WithExactKnots(led(rdvfi.renderers.create("warp")), name="exact knots, warp"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path, help="a JSON file")
    parser.add_argument("--model", default="rdvfi-s1", help="a model with a coarse flow")
    parser.add_argument("--scenes", type=int, default=12, help="of each set")
    chosen = parser.parse_args()
    pictures, found = held_out_pictures(), {}
    for name in HELD_OUT_SETS:
        scenes = [held_out_scene(name, i, pictures) for i in range(chosen.scenes)]
        methods = variants(rdvfi.create_model(chosen.model), scenes)
        report = evaluate(name, gap=GAP, models=methods, pairs=chosen.scenes)
        found[name] = {score.method: asdict(score) for score in report.scores}
        found["environment"] = asdict(report.environment)
        for score in report.scores:
            print(f"{name}: {score.method}: {score.psnr:.2f} dB, {score.ssim:.3f}", flush=True)
    chosen.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
