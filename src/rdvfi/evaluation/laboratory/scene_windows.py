"""The motion laboratory as sets of an evaluation, one for each group of scenes."""

from collections.abc import Iterator

import torch

from rdvfi.evaluation.clip_evaluation import EvaluationWindow, TrueMotion
from rdvfi.evaluation.laboratory.scene_builder import MotionScene
from rdvfi.evaluation.laboratory.scene_kinds import motion_scene, motion_scenes

LABORATORY_SETS = {"laboratory-determined": True, "laboratory-undetermined": False}
"""Names of the sets, and whether the end frames determine the paths of their scenes."""


def laboratory_scene(name: str, number: int) -> MotionScene:
    """Scene ``number`` of a set: every kind once, then every kind with the next seed."""
    kinds = motion_scenes(determined=LABORATORY_SETS[name])
    return motion_scene(kinds[number % len(kinds)], seed=number // len(kinds))


def laboratory_windows(gap: int, name: str, scenes: range) -> Iterator[EvaluationWindow]:
    """One window per scene, which is named for its kind, with its exact motion."""
    times = torch.arange(gap + 1) / gap
    for number in scenes:
        scene = laboratory_scene(name, number)
        frames = (255.0 * scene.frames(times)).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        clip = scene.name if scene.seed == 0 else f"{scene.name} {scene.seed}"
        yield EvaluationWindow(number, frames, clip, lambda scene=scene: _motion(scene, gap))


def _motion(scene: MotionScene, gap: int) -> TrueMotion:
    between, ends = torch.arange(1, gap) / gap, torch.arange(2.0)
    flows, visible = scene.flows(between, ends)
    return TrueMotion(flows[:, 0], flows[:, 1], visible)
