"""Claims that need no training: exact motion and classical flow at the knots, and the shipped model.

Scenes are those of the motion laboratory. Errors are end-point errors of the flows to both ends, in pixels of
the frames, over moving points that are visible in that end, at the eight times of x9; they are means over scenes.
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
KNOT_COUNTS = (1, 3, 7, 15)
BASES = ("linear", "quadratic", "cubic")
SIZE = (128, 224)
STRIDE = 2
MIN_DISPLACEMENT = 0.5
"""Largest displacement over time that a point needs to count as moving, in pixels."""

Table = dict[str, dict[str, float]]
"""Values by row and column."""
Fields = tuple[Tensor, Tensor]


def create_scenes(names: tuple[str, ...], size: tuple[int, int], seeds: range) -> Iterator[MotionScene]:
    """One scene of each kind and seed."""
    return (motion_scene(name, seed=seed, size=size) for seed in seeds for name in names)


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of a scene at `TIMES`: end frames, frames, flows to both ends, and a mask of moving, visible points."""

    ends: Tensor
    frames: Tensor
    flows: Tensor
    mask: Tensor

    @classmethod
    def from_scene(cls, scene: MotionScene, *, frames: bool = True) -> "Truth":
        """Compute the truth of a scene, optionally without frames."""
        flows, visible = scene.flows(TIMES, ENDS, stride=STRIDE)
        mask = visible & (flows.norm(dim=2).amax((0, 1)) > MIN_DISPLACEMENT)
        ends, between = (quantise(scene.frames(times)) if frames else flows.new_zeros(0) for times in (ENDS, TIMES))
        return cls(ends, between, flows, mask)

    def error(self, trajectory: Trajectory) -> float:
        """Mean end-point error of a trajectory, in pixels of the frames."""
        h, w = self.flows.shape[-2:]
        flows = torch.stack(trajectory.at(TIMES), dim=2)[0].flatten(0, 1)
        resized = STRIDE * resize_flow(flows, (h, w)).view_as(self.flows)
        return float((resized - self.flows).norm(dim=2)[self.mask].mean())


def knot_trajectory(fields: Fields, inner: int, basis: str) -> Trajectory:
    """The trajectory over N of the 15 inner knots."""
    knot_distance = 16 // (inner + 1)
    knot_flows = tuple(field[None, ::knot_distance] for field in fields)
    return trajectory_over(
        Knots.MOVED, (knot_flows[0], knot_flows[1]), torch.arange(inner + 2) / (inner + 1), rdvfi.bases.create(basis)
    )


def exact_fields(scene: MotionScene) -> Fields:
    """Exact flows to both ends at 17 knots, on a grid of half the size and in its pixels."""
    flows, _ = scene.flows(torch.arange(17) / 16, ENDS, stride=STRIDE)
    return flows[:, 0] / STRIDE, flows[:, 1] / STRIDE


def knots_and_bases(seeds: range) -> Table:
    """Exact flows at N knots, interpolated by each basis."""
    table: Table = {f"N = {n}, {basis}": {} for n in KNOT_COUNTS for basis in BASES}
    for group, names in GROUPS.items():
        errors: dict[str, list[float]] = {row: [] for row in table}
        for scene in create_scenes(names, SIZE, seeds):
            fields, truth = exact_fields(scene), Truth.from_scene(scene, frames=False)
            for n in KNOT_COUNTS:
                for basis in BASES:
                    errors[f"N = {n}, {basis}"].append(truth.error(knot_trajectory(fields, n, basis)))
        for row, values in errors.items():
            table[row][group] = fmean(values)
    return table


def _grey_frames(scene: MotionScene) -> list:
    frames = scene.frames(torch.arange(17) / 16)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return [(255.0 * (frame * weights).sum(0)).round().byte().numpy() for frame in frames]


def _reduce_flows(flows: list[Tensor]) -> Tensor:
    stacked = torch.cat(flows)
    return resize_flow(stacked, (stacked.shape[-2] // STRIDE, stacked.shape[-1] // STRIDE))


def chained_fields(grey_frames: list, inner: int) -> Fields:
    """DIS from each of N knots to its neighbour, chained to both ends."""
    knot_distance, zero_flow = 16 // (inner + 1), torch.zeros(1, 2, *grey_frames[0].shape)
    to_ends = []
    for order in (grey_frames[::knot_distance], grey_frames[::knot_distance][::-1]):
        flows = [zero_flow]
        for before, after in pairwise(order):
            flows.append(chain(dis_flow(after, before), flows[-1]))
        to_ends.append(_reduce_flows(flows))
    return to_ends[0], to_ends[1].flip(0)


def direct_fields(grey_frames: list, inner: int) -> Fields:
    """DIS from each of N knots directly to both ends."""
    knots = grey_frames[:: 16 // (inner + 1)]
    first = [dis_flow(knot, knots[0]) for knot in knots]
    last = [dis_flow(knot, knots[-1]) for knot in knots]
    first[0], last[-1] = torch.zeros_like(first[0]), torch.zeros_like(last[0])
    return _reduce_flows(first), _reduce_flows(last)


def classical_fusion(seeds: range) -> Table:
    """True frames at N knots; DIS between neighbours and chained, or directly to each end."""
    methods: dict[str, Callable[[list, int], Fields]] = {"chained": chained_fields, "direct": direct_fields}
    table: Table = {f"{method}, N = {n}": {} for method in methods for n in KNOT_COUNTS}
    for group, names in GROUPS.items():
        errors: dict[str, list[float]] = {row: [] for row in table}
        for scene in create_scenes(names, SIZE, seeds):
            grey_frames, truth = _grey_frames(scene), Truth.from_scene(scene, frames=False)
            for method, estimate_fields in methods.items():
                for n in KNOT_COUNTS:
                    fields = estimate_fields(grey_frames, n)
                    knots = torch.arange(n + 2) / (n + 1)
                    basis = rdvfi.bases.create("cubic")
                    trajectory = trajectory_over(Knots.MOVED, (fields[0][None], fields[1][None]), knots, basis)
                    errors[f"{method}, N = {n}"].append(truth.error(trajectory))
        for row, values in errors.items():
            table[row][group] = fmean(values)
    return table


def with_steps(count: int) -> Callable[[Interpolator], Interpolator]:
    """A function that sets the number of denoising steps of a model."""

    def change(model: Interpolator) -> Interpolator:
        model.generator.num_inference_steps = count
        return model

    return change


def without_flow_networks(model: Interpolator) -> Interpolator:
    """The model with the trajectory model ``prior``, which has neither phi_1 nor phi_2."""
    options = {"basis": model.trajectory.basis, "knots": model.trajectory.knots}  # pyright: ignore[reportAttributeAccessIssue]
    trajectory = rdvfi.trajectories.create("prior", **options)
    return Interpolator(model.generator, trajectory, model.renderer, motion_area=model.motion_area).eval()


VARIANTS: dict[str, Callable[[Interpolator], Interpolator]] = {
    "as it ships: iterative fusion, cubic, one step": lambda model: model,
    "plain composition": use_plain_composition,
    "no phi_1, phi_2: the denoiser's motion as it is": without_flow_networks,
    "straight keyframes, no diffusion": use_straight_keyframes,
    "linear": with_basis("linear"),
    "quadratic": with_basis("quadratic"),
    "2 steps": with_steps(2),
    "4 steps": with_steps(4),
    "8 steps": with_steps(8),
}
"""Changes of `MODEL`, which has all of the paper's parts."""


@torch.inference_mode()
def shipped_model(size: tuple[int, int], seeds: range) -> Table:
    """`MODEL` with each of `VARIANTS`: errors of its trajectory, and PSNR of its frames, by group."""
    truths_by_group = {
        group: [Truth.from_scene(scene) for scene in create_scenes(names, size, seeds)]
        for group, names in GROUPS.items()
    }
    table: Table = {}
    for row, change in VARIANTS.items():
        model = change(rdvfi.create_model(MODEL).eval())
        table[row] = {}
        for group, truths in truths_by_group.items():
            errors, quality = [], []
            for truth in truths:
                motion = model.estimate(truth.ends[:1], truth.ends[1:], same_scene=True)
                errors.append(truth.error(motion.trajectory))
                frames = model.render(truth.ends[:1], truth.ends[1:], motion, TIMES)[0]
                quality.append(float(psnr(quantise(frames), truth.frames).mean()))
            table[row] |= {f"{group}, EPE": fmean(errors), f"{group}, PSNR": fmean(quality)}
        print(row, table[row], flush=True)
    return table


@torch.inference_mode()
def motion_size(seeds: range) -> Table:
    """RDVFI-S on frames of 1024x576 at several motion sizes: PSNR, and CPU seconds of `estimate`."""
    areas = {"224x126": 224 * 126, "448x252, as it ships": 448 * 256, "1024x576, full size": 1024 * 576}
    model = rdvfi.create_model("rdvfi-s").eval()
    middle = TIMES[3:4]
    samples: dict[str, dict[str, list[float]]] = {row: {} for row in areas}
    for group, names in GROUPS.items():
        for scene in create_scenes(names[:2], (576, 1024), seeds):
            ends, truth = quantise(scene.frames(ENDS)), quantise(scene.frames(middle))
            for row, area in areas.items():
                model.motion_area = area
                start = time.process_time()
                motion = model.estimate(ends[:1], ends[1:], same_scene=True)
                samples[row].setdefault("CPU seconds of estimate", []).append(time.process_time() - start)
                frames = model.render(ends[:1], ends[1:], motion, middle)[0]
                samples[row].setdefault(f"{group}, PSNR", []).append(float(psnr(quantise(frames), truth)))
    return {row: {key: fmean(values) for key, values in columns.items()} for row, columns in samples.items()}


@torch.inference_mode()
def decoded_or_warped(size: tuple[int, int], seeds: range) -> Table:
    """Frames at the seven knots: warped along the trajectory, decoded keyframes, and decoded true latents."""
    model = rdvfi.create_model("rdvfi-s", "backbone.num_keyframes=7").eval()
    times = torch.arange(1, 8) / 8
    table: Table = {"warped along the trajectory (ours)": {}, "keyframes decoded": {}, "true latents decoded": {}}
    for group, names in GROUPS.items():
        scores: dict[str, list[float]] = {row: [] for row in table}
        for scene in create_scenes(names, size, seeds):
            ends, truth = quantise(scene.frames(ENDS)), quantise(scene.frames(times))
            motion = model.estimate(ends[:1], ends[1:], same_scene=True)
            outputs = (
                model.render(ends[:1], ends[1:], motion, times)[0],
                model.generator.decode(motion.keyframes.latents[0, 1:-1]),
                model.generator.decode(model.generator.encode(truth)),
            )
            for row, frames in zip(table, outputs, strict=True):
                scores[row].append(float(psnr(quantise(frames), truth).mean()))
        for row, values in scores.items():
            table[row][f"{group}, PSNR"] = fmean(values)
    return table
