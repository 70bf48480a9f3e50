"""Comparison of interpolation between the knots of a trajectory, on exactly known motion.

    python research/compare_trajectories.py benchmarks/results/0.2.0/trajectories.json

Procedural scenes (`rdvfi.evaluation.procedural`) give the exact flow at any time. Every kind of
knots gets the exact flows at the nine knots and is evaluated at the eight times of x9, none of which is
a knot. Reported are the end-point error of the flows to both ends on the small grid, in its pixels
(mean over visible points, and 99th percentile), and, at full size, the PSNR of frames rendered
by `warp`.
"""

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path as File

import numpy as np
import torch
from skimage import data
from torch import Tensor

import rdvfi
from rdvfi.data.synthetic.layered_scenes import LayerBatch, SceneBatch
from rdvfi.data.synthetic.object_paths import STATIC, LayerPath
from rdvfi.data.synthetic.procedural_source import build_scenes
from rdvfi.data.synthetic.sampler import ScenePlan
from rdvfi.evaluation.procedural import SIZE, held_out_pictures, held_out_plan
from rdvfi.interfaces import Motion
from rdvfi.motion.trajectory.knots import Knots, trajectory_over
from rdvfi.testing import some_keyframes

STRIDE = 2
KNOTS = torch.arange(9) / 8
TIMES = torch.arange(1, 9) / 9
BASES = ("linear", "quadratic", "cubic")


def passing_scene() -> SceneBatch:
    """A textured square of 40 pixels moves by 160 over a static background."""
    ground = textured_layer(data.coffee()[60:156, 100:356], (0.0, 0.0), STATIC)
    square = textured_layer(data.astronaut()[19:61, 199:241], (27.0, 29.0), LayerPath(shift=(160.0, 0.0)))
    square.texture[:, 3, [0, -1]] = 0.0
    square.texture[:, 3, :, [0, -1]] = 0.0
    return SceneBatch((ground, square), (96, 256))


def textured_layer(picture: np.ndarray, corner: tuple[float, float], path: LayerPath) -> LayerBatch:
    """An opaque layer whose pixel (0, 0) is at ``corner`` at time 0."""
    colour = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255.0
    return LayerBatch.of_texture(torch.cat((colour, torch.ones_like(colour[:, :1])), dim=1)[0], path, corner)


def scene_groups(count: int) -> dict[str, list[SceneBatch]]:
    pictures = held_out_pictures()
    plans = [held_out_plan("procedural", number) for number in range(count)]
    bent = [bend_path(plan, seed) for seed, plan in enumerate(plans)]
    return {
        "large turns and zooms": [build_scenes([plan], pictures, SIZE) for plan in plans],
        "the same, bowed and accelerated": [build_scenes([plan], pictures, SIZE) for plan in bent],
        "40 px by 160": [passing_scene()],
    }


def bend_path(plan: ScenePlan, seed: int) -> ScenePlan:
    """The scene with a bow of up to 60 px and an acceleration added to the path of its front layer."""
    rng = np.random.default_rng([seed, 9])
    *others, front = plan.layers
    assert front is not None
    bow, acceleration = rng.uniform(-60.0, 60.0, 2), rng.uniform(-0.6, 0.6)
    path = replace(front.path, bow=(bow[0], bow[1]), acceleration=acceleration)
    return replace(plan, layers=(*others, replace(front, path=path)))


def exact_flows(scene: SceneBatch, times: Tensor) -> tuple[Tensor, Tensor]:
    """Flows to both ends, (1, t, 2, 2, h, w) in small-grid pixels, and visibility."""
    flows, visible = scene.flows_to(times[None], torch.tensor([[0.0, 1.0]]), stride=STRIDE)
    return flows / STRIDE, visible


def render_frames(scene: SceneBatch, times: Tensor) -> Tensor:
    """Frames (t, 3, h, w) at ``times``."""
    return scene.frames(times[None])[0][0]


def measure(scene: SceneBatch) -> dict[str, dict[str, float]]:
    """Errors of every kind of knots with every basis."""
    knots, _ = exact_flows(scene, KNOTS)
    truth, visible = exact_flows(scene, TIMES)
    frames, ends = render_frames(scene, TIMES), render_frames(scene, torch.tensor([0.0, 1.0])).split(1)
    keyframes = some_keyframes(scene.size, batch=1)
    results = {}
    for kind in Knots:
        for basis in BASES:
            trajectory = trajectory_over(kind, (knots[:, :, 0], knots[:, :, 1]), KNOTS, rdvfi.bases.create(basis))
            error = (torch.stack(trajectory.at(TIMES), dim=2) - truth).norm(dim=3)[visible]
            rendered = rdvfi.renderers.create("warp")(*ends, Motion.of(keyframes, trajectory), TIMES)
            mse = (rendered[0] - frames).square().mean((1, 2, 3))
            results[f"{kind.value} {basis}"] = {
                "epe": float(error.mean()),
                "epe_p99": float(error.quantile(0.99)) if error.numel() < 2**24 else float("nan"),
                "psnr": float((-10.0 * mse.log10()).mean()),
            }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=File, help="a JSON file")
    parser.add_argument("--scenes", type=int, default=12, help="scenes of each kind")
    arguments = parser.parse_args()
    table = {}
    with torch.inference_mode():
        for name, scenes in scene_groups(arguments.scenes).items():
            results = [measure(scene) for scene in scenes]
            table[name] = {
                row: {
                    key: round(float(np.mean([result[row][key] for result in results])), 4) for key in results[0][row]
                }
                for row in results[0]
            }
            print(name)
            for row, values in table[name].items():
                print(
                    f"  {row:18s}",
                    "  ".join(f"{key} {value:8.3f}" for key, value in values.items()),
                )
    environment = {"rdvfi": rdvfi.__version__, "torch": torch.__version__, "machine": platform.machine()}
    arguments.output.write_text(
        json.dumps({"scenes": arguments.scenes, **environment, "results": table}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
