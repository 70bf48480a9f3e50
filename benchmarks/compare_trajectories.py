"""Compare the ways to read a trajectory between its knots, on motion that is known exactly.

    python benchmarks/compare_trajectories.py benchmarks/results/0.2.0/trajectories.json

Procedural scenes (`rdvfi.data.synthetic.procedural`, pictures of scikit-image) give the exact flow at any
time. Every kind of knots gets the exact flows at the nine knots and is asked for the eight times
of x9, none of which is a knot. Reported are, on the small grid, the end-point error of the flows to
both ends in its pixels (mean over what that end shows, and its 99th percentile), and, at full size,
the PSNR of frames drawn by the renderer `warp`.
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
from rdvfi.data.synthetic.procedural import Layer, Path, Scene, curved_scene
from rdvfi.interfaces import Motion
from rdvfi.motion.trajectory.knots import Knots, trajectory_over
from rdvfi.testing import some_keyframes

SIZE, STRIDE = (256, 448), 2
KNOTS = torch.arange(9) / 8
TIMES = torch.arange(1, 9) / 9
BASES = ("linear", "quadratic", "cubic")


def passing_scene() -> Scene:
    """A textured square of 40 pixels moves by 160 over a background that rests."""
    background = np.ascontiguousarray(data.coffee()[60:156, 100:356])
    square = np.ascontiguousarray(data.astronaut()[20:60, 200:240])
    place = np.array([[1.0, 0.0, 28.0], [0.0, 1.0, 30.0], [0.0, 0.0, 1.0]])
    still = Layer(background, None, np.eye(3), Path())
    opaque = np.full((40, 40), 255, np.uint8)
    return Scene((still, Layer(square, opaque, place, Path(shift=(160.0, 0.0)))), (96, 256))


def groups(count: int) -> dict[str, list[Scene]]:
    pictures = [data.astronaut(), data.coffee(), data.rocket(), data.chelsea()]
    turns = [curved_scene(seed, pictures, size=SIZE) for seed in range(count)]
    return {
        "large turns and zooms": turns,
        "the same, bowed and accelerated": [bent(scene, seed) for seed, scene in enumerate(turns)],
        "40 px by 160": [passing_scene()],
    }


def bent(scene: Scene, seed: int) -> Scene:
    """The scene with a bow of up to 60 px and an acceleration added to its foremost layer."""
    rng = np.random.default_rng([seed, 9])
    *others, front = scene.layers
    bow, acceleration = rng.uniform(-60.0, 60.0, 2), rng.uniform(-0.6, 0.6)
    path = replace(front.path, bow=(bow[0], bow[1]), acceleration=acceleration)
    return Scene((*others, replace(front, path=path)), scene.size)


def exact(scene: Scene, times: Tensor) -> tuple[Tensor, Tensor]:
    """Flows (1, t, 2, 2, h, w) in small-grid pixels, and where they can be seen."""
    samples = [scene.sample(float(time), stride=STRIDE)[1:] for time in times]
    flows = torch.from_numpy(np.stack([flow for flow, _ in samples]))[None] / STRIDE
    return flows, torch.from_numpy(np.stack([seen for _, seen in samples]))[None]


def picture(scene: Scene, time: float) -> Tensor:
    return torch.from_numpy(scene.frame(time)).permute(2, 0, 1)[None].float() / 255.0


def measure(scene: Scene) -> dict[str, dict[str, float]]:
    """Errors of every kind of knots with every basis."""
    knots, _ = exact(scene, KNOTS)
    truth, seen = exact(scene, TIMES)
    frames = torch.cat([picture(scene, float(time)) for time in TIMES])
    ends, keyframes = (
        (picture(scene, 0.0), picture(scene, 1.0)),
        some_keyframes(scene.size, batch=1),
    )
    found = {}
    for kind in Knots:
        for basis in BASES:
            trajectory = trajectory_over(kind, (knots[:, :, 0], knots[:, :, 1]), KNOTS, rdvfi.bases.create(basis))
            error = (torch.stack(trajectory.at(TIMES), dim=2) - truth).norm(dim=3)[seen]
            drawn = rdvfi.renderers.create("warp")(*ends, Motion.of(keyframes, trajectory), TIMES)
            mse = (drawn[0] - frames).square().mean((1, 2, 3))
            found[f"{kind.value} {basis}"] = {
                "epe": float(error.mean()),
                "epe_p99": float(error.quantile(0.99)) if error.numel() < 2**24 else float("nan"),
                "psnr": float((-10.0 * mse.log10()).mean()),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=File, help="a JSON file")
    parser.add_argument("--scenes", type=int, default=12, help="scenes of each kind")
    chosen = parser.parse_args()
    table = {}
    with torch.inference_mode():
        for name, scenes in groups(chosen.scenes).items():
            results = [measure(scene) for scene in scenes]
            table[name] = {
                row: {key: round(float(np.mean([one[row][key] for one in results])), 4) for key in results[0][row]}
                for row in results[0]
            }
            print(name)
            for row, values in table[name].items():
                print(
                    f"  {row:18s}",
                    "  ".join(f"{key} {value:8.3f}" for key, value in values.items()),
                )
    facts = {"rdvfi": rdvfi.__version__, "torch": torch.__version__, "machine": platform.machine()}
    chosen.output.write_text(json.dumps({"scenes": chosen.scenes, **facts, "results": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
