"""Claims that need no training: exact motion and classical flow at the knots, and the model that ships.

Scenes are those of the motion laboratory. Errors are end-point errors of the flows to both ends, in pixels of
the frames, over what moves and is seen in that end, at the eight times of x9; they are means over scenes.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor

import rdvfi
from claims_training import MODEL
from design import with_basis
from rdvfi.evaluation import motion_scene
from rdvfi.evaluation.ablation import use_plain_composition, use_straight_keyframes
from rdvfi.evaluation.baselines import dis_flow
from rdvfi.evaluation.laboratory import MotionScene
from rdvfi.evaluation.metrics import psnr, quantise
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Trajectory
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.knots import Knots, trajectory_over
from rdvfi.ops import chain

DETERMINED = ("turn", "spin", "zoom", "limb", "occlusion", "small_and_fast")
UNDETERMINED = ("acceleration", "throw", "swing", "uneven_limb", "pendulum", "cloth")
GROUPS = {"determined": DETERMINED, "undetermined": UNDETERMINED}
TIMES = torch.arange(1, 9) / 9
ENDS = torch.arange(2.0)
INNER = (1, 3, 7, 15)
BASES = ("linear", "quadratic", "cubic")
SMALL = (128, 224)
STRIDE = 2
MOVES = 0.5
"""Pixels that a point must move at least, at some time, to count."""

Table = dict[str, dict[str, float]]
"""Values by group of scenes, by row."""
Fields = tuple[Tensor, Tensor]


def scenes(names: tuple[str, ...], size: tuple[int, int], seeds: range) -> Iterator[MotionScene]:
    """One scene of each kind and seed."""
    return (motion_scene(name, seed=seed, size=size) for seed in seeds for name in names)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a scene at `TIMES`, drawn once: its ends, its frames, its flows and which of them count."""

    ends: Tensor
    frames: Tensor
    flows: Tensor
    counts: Tensor

    @classmethod
    def of(cls, scene: MotionScene, *, frames: bool = True) -> "Truth":
        """The truth of a scene; without frames where flows alone are compared."""
        flows, seen = scene.flows(TIMES, ENDS, stride=STRIDE)
        counts = seen & (flows.norm(dim=2).amax((0, 1)) > MOVES)
        ends, between = (quantise(scene.frames(times)) if frames else flows.new_zeros(0) for times in (ENDS, TIMES))
        return cls(ends, between, flows, counts)

    def error(self, trajectory: Trajectory) -> float:
        """Mean end-point error of a trajectory, in pixels of the frames."""
        h, w = self.flows.shape[-2:]
        made = torch.stack(trajectory.at(TIMES), dim=2)[0].flatten(0, 1)
        made = STRIDE * resize_flow(made, (h, w)).view_as(self.flows)
        return float((made - self.flows).norm(dim=2)[self.counts].mean())


def at_knots(fields: Fields, inner: int, basis: str) -> Trajectory:
    """The trajectory over N of the 15 knots between the ends."""
    apart = 16 // (inner + 1)
    chosen = tuple(field[None, ::apart] for field in fields)
    return trajectory_over(
        Knots.MOVED, (chosen[0], chosen[1]), torch.arange(inner + 2) / (inner + 1), rdvfi.bases.create(basis)
    )


def exact_fields(scene: MotionScene) -> Fields:
    """Exact flows to both ends at 17 knots, on a grid of half the size and in its pixels."""
    flows, _ = scene.flows(torch.arange(17) / 16, ENDS, stride=STRIDE)
    return flows[:, 0] / STRIDE, flows[:, 1] / STRIDE


def knots_and_bases(seeds: range) -> Table:
    """Exact flows at N knots, read between them by each basis."""
    found: Table = {f"N = {n}, {basis}": {} for n in INNER for basis in BASES}
    for group, names in GROUPS.items():
        errors: dict[str, list[float]] = {row: [] for row in found}
        for scene in scenes(names, SMALL, seeds):
            fields, truth = exact_fields(scene), Truth.of(scene, frames=False)
            for n in INNER:
                for basis in BASES:
                    errors[f"N = {n}, {basis}"].append(truth.error(at_knots(fields, n, basis)))
        for row, values in errors.items():
            found[row][group] = fmean(values)
    return found


def _greys(scene: MotionScene) -> list:
    frames = scene.frames(torch.arange(17) / 16)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return [(255.0 * (frame * weights).sum(0)).round().byte().numpy() for frame in frames]


def _reduced(flows: list[Tensor]) -> Tensor:
    whole = torch.cat(flows)
    return resize_flow(whole, (whole.shape[-2] // STRIDE, whole.shape[-1] // STRIDE))


def chained_fields(greys: list, inner: int) -> Fields:
    """DIS from each of N knots to its neighbour, chained to both ends; at 17 places, of which only knots count."""
    apart, rest = 16 // (inner + 1), torch.zeros(1, 2, *greys[0].shape)
    both = []
    for order in (greys[::apart], greys[::apart][::-1]):
        flows = [rest]
        for before, after in pairwise(order):
            flows.append(chain(dis_flow(after, before), flows[-1]))
        both.append(_reduced(flows))
    return both[0], both[1].flip(0)


def direct_fields(greys: list, inner: int) -> Fields:
    """DIS from each of N knots to both ends at once."""
    knots = greys[:: 16 // (inner + 1)]
    first = [dis_flow(knot, knots[0]) for knot in knots]
    last = [dis_flow(knot, knots[-1]) for knot in knots]
    first[0], last[-1] = torch.zeros_like(first[0]), torch.zeros_like(last[0])
    return _reduced(first), _reduced(last)


def classical_fusion(seeds: range) -> Table:
    """True frames at N knots; DIS between neighbours and chained, or DIS to each end at once."""
    ways: dict[str, Callable[[list, int], Fields]] = {"chained": chained_fields, "direct": direct_fields}
    found: Table = {f"{way}, N = {n}": {} for way in ways for n in INNER}
    for group, names in GROUPS.items():
        errors: dict[str, list[float]] = {row: [] for row in found}
        for scene in scenes(names, SMALL, seeds):
            greys, truth = _greys(scene), Truth.of(scene, frames=False)
            for way, make in ways.items():
                for n in INNER:
                    fields = make(greys, n)
                    knots = torch.arange(n + 2) / (n + 1)
                    basis = rdvfi.bases.create("cubic")
                    made = trajectory_over(Knots.MOVED, (fields[0][None], fields[1][None]), knots, basis)
                    errors[f"{way}, N = {n}"].append(truth.error(made))
        for row, values in errors.items():
            found[row][group] = fmean(values)
    return found


def with_steps(count: int) -> Callable[[Interpolator], Interpolator]:
    """What sets the number of denoising steps."""

    def change(model: Interpolator) -> Interpolator:
        model.generator.num_inference_steps = count
        return model

    return change


def without_networks(model: Interpolator) -> Interpolator:
    """The model whose trajectory is the registered ``prior``: no phi_1 and no phi_2 at all."""
    given = {"basis": model.trajectory.basis, "knots": model.trajectory.knots}  # pyright: ignore[reportAttributeAccessIssue]
    trajectory = rdvfi.trajectories.create("prior", **given)
    return Interpolator(model.generator, trajectory, model.renderer, motion_area=model.motion_area).eval()


SHIPPED: dict[str, Callable[[Interpolator], Interpolator]] = {
    "as it ships: iterative fusion, cubic, one step": lambda model: model,
    "plain composition": use_plain_composition,
    "no phi_1, phi_2: the denoiser's motion as it is": without_networks,
    "straight keyframes, no diffusion": use_straight_keyframes,
    "linear": with_basis("linear"),
    "quadratic": with_basis("quadratic"),
    "2 steps": with_steps(2),
    "4 steps": with_steps(4),
    "8 steps": with_steps(8),
}
"""`MODEL`, which has all of the paper's parts, with one thing changed."""


@torch.inference_mode()
def shipped_model(size: tuple[int, int], seeds: range) -> Table:
    """`MODEL` with one thing changed: errors of its trajectory, and PSNR of its frames, by group."""
    known = {group: [Truth.of(scene) for scene in scenes(names, size, seeds)] for group, names in GROUPS.items()}
    found: Table = {}
    for row, change in SHIPPED.items():
        model = change(rdvfi.create_model(MODEL).eval())
        found[row] = {}
        for group, truths in known.items():
            errors, quality = [], []
            for truth in truths:
                motion = model.estimate(truth.ends[:1], truth.ends[1:], same_scene=True)
                errors.append(truth.error(motion.trajectory))
                frames = model.render(truth.ends[:1], truth.ends[1:], motion, TIMES)[0]
                quality.append(float(psnr(quantise(frames), truth.frames).mean()))
            found[row] |= {f"{group}, EPE": fmean(errors), f"{group}, PSNR": fmean(quality)}
        print(row, found[row], flush=True)
    return found


@torch.inference_mode()
def motion_size(seeds: range) -> Table:
    """RDVFI-S on frames of 1024x576 with its motion found at other sizes, and the seconds of `estimate` on a CPU."""
    areas = {"224x126": 224 * 126, "448x252, as it ships": 448 * 256, "1024x576, full size": 1024 * 576}
    model = rdvfi.create_model("rdvfi-s").eval()
    middle = TIMES[3:4]
    taken: dict[str, dict[str, list[float]]] = {row: {} for row in areas}
    for group, names in GROUPS.items():
        for scene in scenes(names[:2], (576, 1024), seeds):
            ends, truth = quantise(scene.frames(ENDS)), quantise(scene.frames(middle))
            for row, area in areas.items():
                model.motion_area = area
                began = time.process_time()
                motion = model.estimate(ends[:1], ends[1:], same_scene=True)
                taken[row].setdefault("CPU seconds of estimate", []).append(time.process_time() - began)
                made = model.render(ends[:1], ends[1:], motion, middle)[0]
                taken[row].setdefault(f"{group}, PSNR", []).append(float(psnr(quantise(made), truth)))
    return {row: {key: fmean(values) for key, values in columns.items()} for row, columns in taken.items()}


@torch.inference_mode()
def decoded_or_warped(size: tuple[int, int], seeds: range) -> Table:
    """Frames at the seven knots: warped along the trajectory, or the keyframes decoded; and true latents decoded."""
    model = rdvfi.create_model("rdvfi-s", "backbone.num_keyframes=7").eval()
    times = torch.arange(1, 8) / 8
    found: Table = {"warped along the trajectory (ours)": {}, "keyframes decoded": {}, "true latents decoded": {}}
    for group, names in GROUPS.items():
        scores: dict[str, list[float]] = {row: [] for row in found}
        for scene in scenes(names, size, seeds):
            ends, truth = quantise(scene.frames(ENDS)), quantise(scene.frames(times))
            motion = model.estimate(ends[:1], ends[1:], same_scene=True)
            ways = (
                model.render(ends[:1], ends[1:], motion, times)[0],
                model.generator.decode(motion.keyframes.latents[0, 1:-1]),
                model.generator.decode(model.generator.encode(truth)),
            )
            for row, frames in zip(found, ways, strict=True):
                scores[row].append(float(psnr(quantise(frames), truth).mean()))
        for row, values in scores.items():
            found[row][f"{group}, PSNR"] = fmean(values)
    return found
