"""Upper bounds on the quality of a model whose coarse flow or flows at the knots are exact.

    python research/bound_motion.py benchmarks/results/0.2.0/bounds.json --model rdvfi-s1

Procedural scenes (`rdvfi.evaluation.procedural`) give the exact flow between the end frames and at
the knots. The model is measured on both held-out sets at x9: unchanged, with exact coarse
flow, and with exact flows at the knots of its trajectory; the last also without phi_s. The
differences are the possible gains of better motion estimation.
"""

import argparse
import json
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import rdvfi
from compare_trajectories import KNOTS, exact_flows
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
    """Exact end-to-end flow of known scenes, which are identified by their images."""

    reads = Reads.PIXELS

    def __init__(self, scenes: list[SceneBatch]) -> None:
        super().__init__()
        self._flows_by_image: list[tuple[Tensor, Tensor]] = []
        for scene in scenes:
            ends = torch.tensor([0.0, 1.0])
            flows, _ = scene.flows_to(ends[None], ends[None])
            for i, image in enumerate(end_frames(scene)):
                self._flows_by_image.append((image[None], flows[:, i, 1 - i]))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Flow of the scene whose image is most similar to each source, (n, 2, h, w)."""
        return torch.cat([look_up_nearest(image[None], self._flows_by_image) for image in source])


class ExactKnots(TrajectoryModel):
    """A trajectory model that returns the exact flows at the knots.

    Args:
        original: Trajectory model whose basis and kind of knots are used.
        scenes: Known scenes.
    """

    def __init__(self, original: TrajectoryModel, scenes: list[SceneBatch]) -> None:
        super().__init__()
        self.original, self.basis_reach = original, original.basis_reach
        self._flows_by_image = [(end_frames(scene)[:1], exact_flows(scene, KNOTS)[0]) for scene in scenes]
        self._fields = self._flows_by_image[0][1]

    @property
    def reads(self) -> Reads:
        """Required by the interface; the latents are not used."""
        return Reads.LATENTS

    def select_scene(self, first: Tensor) -> None:
        """Select the scene with this first frame."""
        self._fields = look_up_nearest(first, self._flows_by_image)

    def forward(self, keyframes: Keyframes) -> Trajectory:
        """The trajectory through the exact flows of the selected scene."""
        fields = (self._fields[:, :, 0], self._fields[:, :, 1])
        return trajectory_over(
            self.original.knots,  # pyright: ignore[reportArgumentType]
            fields,
            keyframes.times,
            self.original.basis,  # pyright: ignore[reportArgumentType]
        )


def end_frames(scene: SceneBatch) -> Tensor:
    """Both end frames as `rdvfi.evaluation.procedural` renders them, (2, 3, h, w)."""
    return scene.frames(torch.tensor([[0.0, 1.0]]), supersample=SUPERSAMPLE)[0][0]


def look_up_nearest(image: Tensor, known: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The value of the image that is most similar to this one."""
    return min(known, key=lambda entry: float((entry[0] - image).abs().mean()))[1]


class ExactKnotsMethod(ModelMethod):
    """A model with `ExactKnots`, whose scene is selected by the first frame."""

    @torch.inference_mode()
    def __call__(self, img0: Tensor, img1: Tensor, times: Tensor) -> Tensor:
        """Frames at ``times`` of the scene with this first frame."""
        trajectory = self.model.trajectory
        assert isinstance(trajectory, ExactKnots)
        trajectory.select_scene(img0)
        return super().__call__(img0, img1, times)


def variants(model: Interpolator, scenes: list[SceneBatch]) -> list[ModelMethod]:
    """The model unchanged, and with parts replaced by exact ones."""
    with_exact_flow = deepcopy(model)
    with_exact_flow.generator.coarse = ExactCoarse(scenes)  # pyright: ignore[reportAttributeAccessIssue]
    knots = ExactKnots(model.trajectory, scenes)

    def with_renderer(renderer: Renderer) -> Interpolator:
        area = model.motion_area
        return Interpolator(model.generator, knots, renderer, motion_area=area).eval()

    return [
        ModelMethod(model, name="as it is"),
        ModelMethod(with_exact_flow, name="exact coarse flow"),
        ExactKnotsMethod(with_renderer(model.renderer), name="exact knots"),
        ExactKnotsMethod(with_renderer(rdvfi.renderers.create("warp")), name="exact knots, warp"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path, help="a JSON file")
    parser.add_argument("--model", default="rdvfi-s1", help="a model with a coarse flow")
    parser.add_argument("--scenes", type=int, default=12, help="of each set")
    arguments = parser.parse_args()
    pictures, results = held_out_pictures(), {}
    for name in HELD_OUT_SETS:
        scenes = [held_out_scene(name, i, pictures) for i in range(arguments.scenes)]
        methods = variants(rdvfi.create_model(arguments.model), scenes)
        report = evaluate(name, gap=GAP, models=methods, pairs=arguments.scenes)
        results[name] = {score.method: asdict(score) for score in report.scores}
        results["environment"] = asdict(report.environment)
        for score in report.scores:
            print(f"{name}: {score.method}: {score.psnr:.2f} dB, {score.ssim:.3f}", flush=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
